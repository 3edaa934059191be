"""Who may connect to whom by ssh, and what is said when it fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.home import key_pairs
from nestlab.wire import ssh
from sshd import PROGRAM, USER, Sshd, sshd

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


async def test_another_host_key_is_refused_loudly_with_both_fingerprints(server: Sshd) -> None:
    other = key_pairs.generate("other")
    with pytest.raises(LabError, match="HOST KEY") as caught:
        await server.connect(host_key=other.public)
    assert not isinstance(caught.value, Unreachable)
    assert other.fingerprint in caught.value.hint
    assert server.host.fingerprint in caught.value.hint


async def test_another_kind_of_host_key_is_refused(server: Sshd) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    formats = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    other = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*formats).decode()
    with pytest.raises(LabError):
        await server.connect(host_key=other)


async def test_a_client_key_that_the_server_does_not_know_is_refused(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key_pairs.generate("stranger").private)
    with pytest.raises(LabError, match="does not let") as caught:
        await server.connect(key=tmp_path / "key")
    assert not isinstance(caught.value, Unreachable)


async def test_no_other_key_of_the_users_is_tried(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_text(server.client.private)
    (tmp_path / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {server.key}\n  User nobody\n")
    (tmp_path / "key").write_text(key_pairs.generate("stranger").private)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LabError, match=f"does not let {USER}"):
        await server.connect(key=tmp_path / "key")


async def test_a_missing_client_key_is_a_message(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be read"):
        await server.connect(key=tmp_path / "missing")


async def test_a_refused_connection_is_unreachable(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        await ssh.connect("127.0.0.1", port, user=USER, key=server.key, host_key=server.host.public, where="hv1")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-half", b"HTTP/1.0 400 no\r\n\r\n"])
async def test_a_port_that_closes_before_it_is_an_ssh_server_is_unreachable(server: Sshd, said: bytes) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    listener = await asyncio.start_server(close, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable):
        await ssh.connect("127.0.0.1", port, user=USER, key=server.key, host_key=server.host.public)
    listener.close()


async def test_a_port_that_says_nothing_is_unreachable_after_the_timeout(server: Sshd) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(wait, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable, match=r"within 0\.3 s"):
        await ssh.connect("127.0.0.1", port, user=USER, key=server.key, host_key=server.host.public, timeout=0.3)
    listener.close()


async def test_a_machine_is_reached_through_another(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with sshd(tmp_path / "inner") as inner:
        outer = await server.connect()
        through = await inner.connect(tunnel=outer)
        deeper = await server.connect(tunnel=through)
        assert (await deeper.run(["sh", "-c", 'echo "$SSH_CONNECTION"'])).text.startswith("127.0.0.1 ")
        await through.write(f"{tmp_path}/file", bytes(1 << 20))
        for each in (deeper, through, outer):
            await each.close()


async def test_a_refused_connection_through_another_is_unreachable(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outer = await server.connect()
    with pytest.raises(Unreachable, match="refused"):
        await ssh.connect(
            "127.0.0.1", port, user=USER, key=server.key, host_key=server.host.public, tunnel=outer, where="hv1/web"
        )
    assert (await outer.run(["true"])).status == 0
    await outer.close()
