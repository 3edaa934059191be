"""A machine of the user's own is reached as ssh reaches it, and no host key is trusted that the user did not accept."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import Unreachable
from nestlab.home import key_pairs
from nestlab.hosts import remote
from nestlab.wire import known_hosts
from remotes import (
    Asked,
    failure,
    generate,
    give_key,
    keygen,
    know,
    make_home,
    needs_sshd,
    penalties,
    put,
    reached,
    url,
)
from sshd import USER, Sshd, sshd
from waiting import LONG


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), "PerSourcePenalties no" if penalties() else "") as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@needs_sshd
async def test_a_machine_whose_key_is_known_is_a_host_like_any_other(server: Sshd, home: Path, tmp_path: Path) -> None:
    give_key(home, server)
    know(home, server)
    async with reached(url(server)) as host:
        assert (host.path, host.level) == (f"{USER}@127.0.0.1:{server.port}", 0)
        assert (await host.run(["cat"], input=b"x")).stdout == b"x"
        await host.write(f"{tmp_path}/file", b"one")
        await host.write_many({f"{tmp_path}/a/b": (b"b", 0o600)})
        assert await host.read(f"{tmp_path}/file") == b"one"
        async with host.lines(["printf", "a\\nb"]) as lines:
            assert [line async for line in lines] == [b"a", b"b"]
        assert (await host.facts()).user == USER


@needs_sshd
async def test_it_is_connected_to_again_when_the_connection_was_lost(server: Sshd, home: Path) -> None:
    give_key(home, server)
    know(home, server)
    async with reached(url(server)) as host:
        there = await host.connect()
        server.kill_connections()
        await asyncio.wait_for(there.asyncssh.wait_closed(), LONG)
        with pytest.raises(Unreachable) as caught:
            await there.run(["true"])
        assert caught.value.hint.endswith(f"Try: ssh -p {server.port} {USER}@127.0.0.1")
        assert (await host.run(["echo", "again"])).text == "again\n"


@needs_sshd
async def test_a_new_host_key_is_asked_about_once_and_remembered(server: Sshd, home: Path) -> None:
    give_key(home, server)
    ask = Asked(True)
    for _ in range(2):
        async with reached(url(server), ask) as host:
            await host.run(["true"])
    file = home / ".ssh" / "known_hosts"
    assert len(ask) == 1
    assert f"ED25519 key fingerprint is {server.host.fingerprint}." in ask[0]
    assert str(file) in ask[0]
    assert file.read_text().split() == [f"[127.0.0.1]:{server.port}", *server.host.public.split()[:2]]
    assert file.stat().st_mode & 0o777 == 0o600


@needs_sshd
@pytest.mark.parametrize("ask", [None, Asked(False)])
async def test_a_new_host_key_that_nobody_accepts_is_refused_and_nothing_is_written(
    server: Sshd, home: Path, ask: remote.Ask | None
) -> None:
    give_key(home, server)
    error = await failure(url(server), ask)
    assert f"ED25519 {server.host.fingerprint}" in error.what
    assert f"connect once with `ssh -p {server.port} {USER}@127.0.0.1`" in error.hint
    assert not (home / ".ssh" / "known_hosts").exists()


@needs_sshd
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
async def test_a_changed_host_key_is_refused_with_its_line_and_never_asked_about(
    server: Sshd, home: Path, tmp_path: Path, kind: str
) -> None:
    give_key(home, server)
    other = generate(tmp_path / "other", kind)
    file = put(home / ".ssh" / "known_hosts", f"# mine\n[127.0.0.1]:{server.port} {other.read_text()}")
    before, ask = file.read_text(), Asked(True)
    error = await failure(url(server), ask)
    assert "HAS CHANGED" in error.what
    assert f"{file}:2" in error.what
    assert f"ssh-keygen -f {file} -R '[127.0.0.1]:{server.port}'" in error.hint
    assert server.host.fingerprint in error.hint
    assert (ask, file.read_text()) == ([], before)
    assert not isinstance(error, Unreachable)


@needs_sshd
async def test_a_revoked_host_key_is_refused(server: Sshd, home: Path) -> None:
    give_key(home, server)
    file = know(home, server)
    put(file, f"{file.read_text()}@revoked * {server.host.public}\n")
    ask = Asked(True)
    error = await failure(url(server), ask)
    assert "REVOKED" in error.what
    assert f"{file}:2" in error.what
    assert ask == []


@needs_sshd
async def test_hashed_names_are_known_and_added_to_a_file_that_has_them(server: Sshd, home: Path) -> None:
    give_key(home, server)
    file = know(home, server)
    keygen("-H", "-f", str(file))
    assert "127.0.0.1" not in file.read_text()
    async with reached(url(server)):
        pass
    put(home / ".ssh" / "config", "Host box\nHostKeyAlias box\nHostName 127.0.0.1\n")
    ask = Asked(True)
    for _ in range(2):
        async with reached(f"ssh://{USER}@box:{server.port}", ask):
            pass
    assert len(ask) == 1
    assert server.host.public.split()[1] in keygen("-F", "box", "-f", str(file))
    assert all(line.startswith("|1|") for line in file.read_text().splitlines())


@needs_sshd
async def test_a_host_certificate_of_a_known_authority_is_trusted(server: Sshd, home: Path, tmp_path: Path) -> None:
    authority = generate(tmp_path / "authority", "ed25519")
    host = generate(tmp_path / "key", "ed25519")
    keygen("-s", str(tmp_path / "authority"), "-I", "x", "-h", "-n", "127.0.0.1", str(host))
    (tmp_path / "certified").mkdir()
    lines = [f"HostKey {tmp_path}/key", f"HostCertificate {tmp_path}/key-cert.pub"]
    with sshd(tmp_path / "certified", *lines) as certified:
        give_key(home, certified)
        know(home, certified, authority.read_text().strip(), mark="@cert-authority ")
        async with reached(url(certified)):
            pass
        know(home, certified, server.host.public, mark="@cert-authority ")
        assert "certificate" in (await failure(url(certified), Asked(True))).what


@needs_sshd
async def test_a_key_known_for_the_host_without_a_port_is_trusted_but_another_is_only_new(
    server: Sshd, home: Path
) -> None:
    give_key(home, server)
    know(home, server, name="127.0.0.1")
    async with reached(url(server)):
        pass
    know(home, server, key_pairs.generate("other").public, name="127.0.0.1")
    ask = Asked(True)
    async with reached(url(server), ask):
        pass
    assert len(ask) == 1


@needs_sshd
async def test_a_key_that_all_users_know_is_known(server: Sshd, home: Path, tmp_path: Path) -> None:
    give_key(home, server)
    put(tmp_path / "etc" / "ssh_known_hosts", f"[127.0.0.1]:{server.port} {server.host.public}\n")
    async with reached(url(server)):
        pass


@needs_sshd
async def test_no_known_hosts_file_means_no_known_key_and_not_any_key(server: Sshd, home: Path) -> None:
    give_key(home, server)
    put(home / ".ssh" / "config", "Host *\nUserKnownHostsFile none\nStrictHostKeyChecking no\n")
    assert "is not known" in (await failure(url(server))).what


@needs_sshd
async def test_a_new_host_key_is_remembered_in_the_file_that_the_configuration_names(server: Sshd, home: Path) -> None:
    give_key(home, server)
    put(home / ".ssh" / "config", f"Host box\nHostName 127.0.0.1\nPort {server.port}\nUserKnownHostsFile %d/known/%n\n")
    ask = Asked(True)
    for _ in range(2):
        async with reached(f"ssh://{USER}@box", ask):
            pass
    assert len(ask) == 1
    assert (home / "known" / "box").read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")


@needs_sshd
async def test_a_machine_is_reached_through_a_proxy_command(server: Sshd, home: Path) -> None:
    give_key(home, server)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import proxy; proxy.main(*sys.argv[2:])"
    put(home / "proxy.py", PROXY)
    put(home / ".ssh" / "config", f"Host box\nProxyCommand {sys.executable} -c '{code}' {home} 127.0.0.1 %p\n")
    async with reached(f"ssh://{USER}@box:{server.port}", Asked(True)) as host:
        await host.run(["true"])
    put(home / ".ssh" / "config", "Host box\nProxyCommand /nonexistent\n")
    assert "/nonexistent" in (await failure("ssh://box")).what


PROXY = """
import os, socket, sys, threading


def main(host, port):
    there = socket.create_connection((host, int(port)))

    def forth():
        while data := os.read(0, 65536):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)

    threading.Thread(target=forth, daemon=True).start()
    while data := there.recv(65536):
        os.write(1, data)
"""


@needs_sshd
async def test_an_alias_of_the_configuration_is_reached(server: Sshd, home: Path) -> None:
    key = put(home / "a key", server.client.private)
    know(home, server)
    lines = ["Host box", "HostName 127.0.0.1", f"User {USER}", f"Port {server.port}", f'IdentityFile "{key}"']
    lines += ["RemoteCommand false", "RequestTTY force", "SendEnv *", "SetEnv LANG=x"]
    put(home / ".ssh" / "config", "\n".join(lines) + "\n")
    async with reached("ssh://box") as host:
        assert (await host.run(["sh", "-c", 'echo "$0"'])).text == "sh\n"
        assert host.path == "box"


@needs_sshd
async def test_a_jump_host_is_gone_through_and_asked_about_by_its_name(
    server: Sshd, home: Path, tmp_path: Path
) -> None:
    give_key(home, server)
    (tmp_path / "inner").mkdir()
    with sshd(tmp_path / "inner") as inner:
        put(tmp_path / "inner" / "authorized_keys", server.client.public + "\n")
        lines = ["Host *", f"User {USER}", "ProxyJump door", "Host door", "HostName 127.0.0.1", f"Port {server.port}"]
        lines += ["Host box", "HostName 127.0.0.1", f"Port {inner.port}"]
        put(home / ".ssh" / "config", "\n".join(lines) + "\n")
        ask = Asked(True)
        async with reached("ssh://box", ask) as host:
            through = (await host.run(["sh", "-c", 'echo "$SSH_CONNECTION"'])).text.split()
        assert through[3] == str(inner.port)
        assert "door (on the way to box)" in ask[0]
        assert len(ask) == 2
    await asyncio.sleep(0.2)
    error = await failure("ssh://box", ask)
    assert isinstance(error, Unreachable)
    assert "through its jump host" in error.what


def test_a_key_is_added_after_a_last_line_without_an_end(home: Path) -> None:
    import asyncssh

    first, second = key_pairs.generate("a").public, key_pairs.generate("b").public
    file = put(home / ".ssh" / "known_hosts", f"|bad|\nnonsense\nbox {first}")
    known_hosts.remember(file, "[2001:db8::1]:2222", asyncssh.import_public_key(second))
    assert [line.number for line in known_hosts.look_up([file], "BOX", 22).keys] == [3]
    assert [line.number for line in known_hosts.look_up([file], "2001:db8::1", 2222).keys] == [4]
