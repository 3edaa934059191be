"""What is said when a machine of the user's own is not reached or does not let us in, and which keys are offered."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.home import key_pairs as keys
from nestlab.hosts import remote
from nestlab.wire import client_keys, known_hosts, ssh_refusals
from remotes import failure, generate, give_key, know, make_home, needs_sshd, penalties, put, reached, url
from sshd import USER, Sshd, sshd
from waiting import LONG


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), "PerSourcePenalties no" if penalties() else "") as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://host", remote.Address("host")),
        ("ssh://host/", remote.Address("host")),
        ("SSH://me@host.example.com:2222", remote.Address("host.example.com", "me", 2222)),
        ("ssh://[2001:db8::1]", remote.Address("2001:db8::1")),
        ("ssh://root@[::1]:65535", remote.Address("::1", "root", 65535)),
        ("ssh://root@[fe80::1%eth0]", remote.Address("fe80::1%eth0", "root")),
        ("ssh://10.0.0.1:22", remote.Address("10.0.0.1", None, 22)),
    ],
)
def test_an_address_is_understood_and_shown_as_it_was_written(text: str, address: remote.Address) -> None:
    assert remote.parse(text) == address
    assert str(address) == text[6:].removesuffix("/")


@pytest.mark.parametrize(
    "text",
    [
        "", "host", "http://host", "ssh:host", "ssh://", "ssh://@host", "ssh://root@", "ssh://host:", "ssh://host:0",
        "ssh://host:65536", "ssh://host:ssh", "ssh://::1", "ssh://2001:db8::1:22", "ssh://[::1", "ssh://[host]",
        "ssh://[]", "ssh://[::1]22", "ssh://host/path", "ssh://host?x", "ssh://host#x", "ssh://a b", "ssh://-oX=y",
        "ssh://-l@host", "ssh://a%20b@host", "ssh://host\n", "ssh://$(id)",
    ],
)  # fmt: skip
def test_a_malformed_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(LabError) as caught:
        remote.parse(text)
    assert "ssh://[user@]host[:port]" in caught.value.hint
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("text", ["ssh://me:secret@host", "me:secret@host", "http://me:secret@host"])
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(LabError) as caught:
        remote.parse(text)
    assert "secret" not in str(caught.value)


@needs_sshd
async def test_a_key_that_is_not_accepted_is_named(server: Sshd, home: Path) -> None:
    stranger = keys.generate("stranger")
    put(home / ".ssh" / "id_ed25519", stranger.private)
    know(home, server)
    error = await failure(url(server))
    assert f"does not let {USER} in" in error.what
    assert f"{home}/.ssh/id_ed25519 {stranger.fingerprint}" in error.hint
    assert f"ssh-copy-id -p {server.port} {USER}@127.0.0.1" in error.hint
    assert not isinstance(error, Unreachable)


@needs_sshd
async def test_having_no_key_is_said(server: Sshd, home: Path) -> None:
    know(home, server)
    error = await failure(url(server))
    assert "no ssh key" in error.what
    assert "ssh-keygen" in error.hint


@needs_sshd
@pytest.mark.parametrize("options", [[], ["-m", "PEM"]])
async def test_a_key_with_a_passphrase_is_said_to_need_an_agent(server: Sshd, home: Path, options: list[str]) -> None:
    know(home, server)
    key = home / ".ssh" / ("id_rsa" if options else "id_ed25519")
    generate(key, "rsa" if options else "ed25519", "-N", "hidden words", *options)
    error = await failure(url(server))
    assert f"{key} has a passphrase" in error.hint
    assert f"ssh-add {key}" in error.hint


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    while not path.exists():
        assert process.poll() is None
        os.sched_yield()
    yield
    process.kill()
    process.wait()


def add(key: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(key)], check=True, timeout=LONG, stdin=subprocess.DEVNULL)


@needs_sshd
async def test_a_key_of_the_agent_lets_us_in(server: Sshd, home: Path, agent: None) -> None:
    know(home, server)
    add(server.key)
    async with reached(url(server)) as host:
        await host.run(["true"])


@needs_sshd
async def test_of_many_keys_the_agent_has_the_one_that_is_named_is_offered(
    server: Sshd, home: Path, tmp_path: Path, agent: None
) -> None:
    know(home, server)
    for number in range(7):
        generate(tmp_path / f"k{number}", "ed25519")
        add(tmp_path / f"k{number}")
    add(server.key)
    error = await failure(url(server))
    assert "too many" in error.what
    assert "k3 (agent) SHA256:" in error.hint
    named = put(home / ".ssh" / "server.pub", server.client.public + "\n")
    put(home / ".ssh" / "config", f"Host *\nIdentityFile {named}\n")
    async with reached(url(server)):
        pass
    stranger = put(home / ".ssh" / "stranger", keys.generate("stranger").private)
    put(home / ".ssh" / "config", f"Host *\nIdentityFile {stranger}\nIdentitiesOnly yes\n")
    assert "(agent)" not in (await failure(url(server))).hint


@needs_sshd
async def test_an_agent_that_is_gone_does_no_harm(server: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "gone"))
    know(home, server)
    assert "agent" in (await failure(url(server))).hint
    give_key(home, server)
    async with reached(url(server)):
        pass


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        error = await failure(f"ssh://{host}:{port}")
        assert isinstance(error, Unreachable)
        assert f"{host}:{port} refused the connection" in error.what


async def test_a_name_that_does_not_resolve_is_said() -> None:
    assert "host.invalid, cannot be resolved" in (await failure("ssh://host.invalid")).what


@pytest.mark.parametrize(
    ("said", "stays", "expected"),
    [
        (b"", False, "not an ssh server"),
        (b"HTTP/1.0 400 no\r\n\r\n", False, "not an ssh server"),
        (b"x" * 100000, False, "not an ssh server"),
        (b"SSH-1.5-old\r\n", False, "not with nestlab"),
        (b"SSH-2.0-half\r\n", False, "closed the connection"),
        (b"SSH-2.0-x\r\n" + bytes(range(200)) * 20, False, "SSH"),
        (b"", True, "no ssh server within 0.5 s"),
    ],
)
async def test_what_is_no_ssh_server_is_said(said: bytes, stays: bool, expected: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        if stays:
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    error = await failure(f"ssh://127.0.0.1:{listener.sockets[0].getsockname()[1]}", timeout=0.5 if stays else 30)
    assert expected.lower() in str(error).lower()
    listener.close()


async def test_a_mistake_in_the_configuration_is_shown_with_its_line(home: Path) -> None:
    file = put(home / ".ssh" / "config", "Host *\nPort many\n")
    error = await failure("ssh://box")
    assert f"{file} line 2" in error.what
    assert "ssh -G box" in error.hint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to box at [2001:db8::1]:22"),
        (OSError("Multiple exceptions: [Errno 101] Connect call failed, [Errno 113] Connect call failed"), "no route"),
        (OSError("Multiple exceptions: [Errno 101] Connect call failed, [Errno 111] Connect call failed"), "refused"),
        (TimeoutError(), "box did not answer at [2001:db8::1]:22 within 3 s"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "did not answer"),
        (OSError("strange"), "strange"),
    ],
)
def test_what_keeps_from_a_host_is_told_apart(error: OSError, expected: str) -> None:
    known, keys = known_hosts.Known("box"), client_keys.Keys()
    told = ssh_refusals.refusal(error, ssh_refusals.Attempt("box", "[2001:db8::1]:22", "me", "box", 3, known, keys))
    assert isinstance(told, Unreachable)
    assert expected in told.what
    assert told.hint
