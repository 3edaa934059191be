"""Hosts: this machine, and machines over real ssh, to any depth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import leaks
from nestlab.base.errors import LabError, Unreachable
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost, inside
from nestlab.wire import ssh
from sshd import PROGRAM, USER, Sshd, sshd
from test_proc import number_in

needs_sshd = pytest.mark.skipif(PROGRAM is None, reason="needs an sshd")


def over(server: Sshd, parent: Host, path: str) -> SshHost:
    return inside(parent, path, server.port, user=USER, key=server.key, host_key=server.host.public)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), "MaxSessions 100") as running:
        yield running


@pytest.fixture(params=["local", pytest.param("ssh", marks=needs_sshd)])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    local = LocalHost()
    chosen: Host = local if request.param == "local" else over(request.getfixturevalue("server"), local, "hv1")
    yield chosen
    await chosen.close()


async def test_every_host_runs_commands(host: Host) -> None:
    assert (await host.run(["cat"], input=b"x", env={"A": "1"})).stdout == b"x"
    assert (await host.run(["sh", "-c", 'exit "$A"'], env={"A": "9"}, check=False)).status == 9
    with pytest.raises(LabError, match="status 3"):
        await host.run(["sh", "-c", "exit 3"])
    with pytest.raises(LabError, match="did not end within"):
        await host.run(["sleep", "1000"], timeout=0.5)


async def test_every_host_streams_lines_and_commands(host: Host) -> None:
    async with host.lines(["printf", "a\\nb"]) as lines:
        assert [line async for line in lines] == [b"a", b"b"]
    async with host.start(["tr", "a-z", "A-Z"]) as running:
        await running.write(b"shout ")
        assert (await running.result(b"loud")).stdout == b"SHOUT LOUD"


async def test_every_host_keeps_files(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    await host.write(str(path), b"one", mode=0o640)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await host.write(str(path), b"two", mode=0o755)
    assert path.stat().st_mode & 0o777 == 0o755
    assert await host.read(str(path)) == b"two"
    await host.write_many({f"{tmp_path}/a": (b"a", 0o600), f"{tmp_path}/b/b": (b"b", 0o644)})
    assert (tmp_path / "b" / "b").read_bytes() == b"b"
    await host.put(path, f"{tmp_path}/c", mode=0o711)
    assert (tmp_path / "c").read_bytes() == b"two"
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o711
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a", "b", "b", "c", "file", "folder", "new"]


async def test_no_host_reads_or_replaces_what_it_cannot(host: Host, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LabError, match=r"read|failed"):
        await host.read(f"{tmp_path}/missing")
    with pytest.raises(LabError) as caught:
        await host.write("/proc/nestlab/file", b"")
    assert "/proc/nestlab" in str(caught.value)
    with pytest.raises(LabError):
        await host.put(tmp_path / "missing", f"{tmp_path}/file")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


async def test_every_host_leads_to_its_unix_sockets(host: Host, tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    listener = await asyncio.start_unix_server(greet, tmp_path / "socket")
    async with host.unix(f"{tmp_path}/socket") as path:
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b"hello"
        writer.close()
    listener.close()


async def test_every_host_says_the_same_about_this_machine(host: Host) -> None:
    facts = await host.facts()
    assert (facts.kernel, facts.arch) == (os.uname().release, os.uname().machine)
    assert facts.cpus == os.cpu_count()
    assert (facts.user, facts.uid) == (USER, os.getuid())
    assert facts is await host.facts()


async def test_copying_a_file_keeps_its_holes(tmp_path: Path) -> None:
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.write(b"start")
        file.seek(1 << 30)
        file.write(b"end")
        file.truncate(2 << 30)
    await LocalHost().put(source, f"{tmp_path}/copy")
    copy = tmp_path / "copy"
    assert copy.stat().st_size == 2 << 30
    assert copy.stat().st_blocks * 512 < 1 << 20
    with copy.open("rb") as file:
        file.seek((1 << 30) - 1)
        assert file.read(5) == b"\0end\0"


@needs_sshd
async def test_a_host_inside_a_host_inside_a_host(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with sshd(tmp_path / "sshd") as second, leaks.none():
        one = over(server, LocalHost(), "hv1")
        two = over(second, one, "hv1/hv2")
        three = over(server, two, "hv1/hv2/web")
        assert [each.level for each in (one, two, three)] == [1, 2, 3]
        assert (await three.run(["echo", "deep"])).text == "deep\n"
        await three.write(f"{tmp_path}/file", bytes(1 << 20))
        for each in (three, two, one):
            await each.close()


@needs_sshd
async def test_all_levels_are_connected_anew_after_a_loss(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        one = over(server, LocalHost(), "hv1")
        two = over(server, one, "hv1/web")
        assert (await two.run(["true"])).status == 0
        server.kill_connections()
        assert (await two.run(["true"])).status == 0
        server.kill_connections()
        assert (await one.read(str(server.key))).startswith(b"-----BEGIN")
        await two.close()
        await one.close()


@needs_sshd
async def test_a_command_that_was_under_way_is_not_repeated(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        one = over(server, LocalHost(), "hv1")
        script = f"echo x >>{tmp_path}/times; echo $$ >{tmp_path}/pid; exec sleep 1000"
        task = asyncio.create_task(one.run(["sh", "-c", script]))
        await number_in(tmp_path / "pid")
        server.kill_connections()
        with pytest.raises(Unreachable, match="was lost while"):
            await task
        assert (tmp_path / "times").read_text() == "x\n"
        await one.close()


@needs_sshd
async def test_a_file_under_way_is_written_again(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        one = over(server, LocalHost(), "hv1")
        await one.connect()
        for pid in server.children():
            with contextlib.suppress(ProcessLookupError):  # what prepared the connection may be gone by now
                os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(one.write(f"{tmp_path}/file", bytes(5 << 20)))
        await asyncio.sleep(0.2)
        server.kill_connections()
        await task
        assert (tmp_path / "file").stat().st_size == 5 << 20
        assert not list(tmp_path.glob("file.*"))
        await one.close()


@needs_sshd
async def test_many_who_need_a_connection_share_one_attempt(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(ssh, "trace", said.append)
    one = over(server, LocalHost(), "hv1")
    await asyncio.gather(*(one.run(["true"]) for _ in range(20)))
    assert len([line for line in said if "connect to" in line]) == 1
    await one.close()


async def test_a_host_that_is_down_is_unreachable_for_all_and_may_come_up_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    from nestlab.home import key_pairs

    pair = key_pairs.generate("x")
    (tmp_path / "key").write_text(pair.private)
    one = inside(LocalHost(), "hv1", port, user=USER, key=tmp_path / "key", host_key=pair.public)
    for _ in range(2):
        results = await asyncio.gather(*(one.run(["true"]) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, Unreachable) for result in results)
    await one.close()


@needs_sshd
async def test_giving_up_on_a_connection_leaves_nothing(server: Sshd) -> None:
    with leaks.none():
        one = over(server, LocalHost(), "hv1")
        task = asyncio.create_task(one.run(["true"]))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        await one.close()
