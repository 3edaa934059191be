"""Byte streams and ssh through a guest agent: the relay in real shells, a real qemu-guest-agent, a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve.connections import Door, host
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import short_id
from nestlab.hosts.ssh import inside
from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve import relay, tunnel
from nestlab.wire.pve.agent import Agent
from nestlab.wire.result import Result
from pve_qemu import VMID, RealAgent, agent_here, client, needs_agent, started
from remotes import needs_sshd
from sshd import USER, Sshd, sshd
from waiting import LONG, settled, until, wait_until

DATA = os.urandom(300_000)
TOOLS = ("sh", "dd", "base64", "mktemp", "mkfifo", "cat", "mv", "rm", "wc", "tail", "sleep", "kill", "setsid", "grep")


class Here:
    """An agent without an API: this machine is the guest, with a PATH of its own."""

    where = "hv1"

    def __init__(self, path: str = os.environ["PATH"]) -> None:
        self.path = path

    async def run(self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True) -> Result:
        done = await asyncio.to_thread(
            subprocess.run, argv, input=input or b"", capture_output=True, env={"PATH": self.path}, timeout=LONG
        )
        return Result(tuple(argv), done.returncode, done.stdout, done.stderr)

    async def place(self, path: str, data: bytes) -> None:
        Path(path).write_bytes(data)

    async def text(self, path: str) -> str:
        return Path(path).read_text()


def here(path: str = os.environ["PATH"]) -> Agent:
    return cast("Agent", Here(path))


@contextlib.asynccontextmanager
async def port(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[int]:
    """Something that listens on loopback."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connected, but never reads."""
    await asyncio.sleep(60)


@contextlib.asynccontextmanager
async def ended(stream: tunnel.Stream) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(sock=stream.socket)
    try:
        yield reader, writer
    finally:
        writer.close()
        await stream.close()


def relays() -> set[str]:
    return {str(path) for folder in ("/run", "/tmp") for path in Path(folder).glob("nestlab-relay.*")}


def processes(folder: str) -> list[int]:
    """Those that are of the relay of a directory."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder in line or os.readlink(each / "cwd").startswith(folder):  # noqa: PTH115
                found.append(int(each.name))
    return found


async def gone(folder: str) -> None:
    await until(lambda: not Path(folder).exists() and not processes(folder))


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = relays()
    yield
    wait_until(lambda: not relays() - before)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[FakePve]:
    with FakePve() as pve, agent_here(tmp_path) as socket:
        started(pve, RealAgent(socket))
        yield pve


def narrow(folder: Path, shell: str, connector: str) -> str:
    """A PATH with what a guest needs to have, `sh` being that shell, and one program that connects."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name) or pytest.skip(f"needs {name}")
        (folder / name).symlink_to(found)
    (folder / "sh").unlink()
    (folder / "sh").symlink_to(shutil.which(shell) or pytest.skip(f"needs {shell}"))
    if connector:
        name = connector
        program = sys.executable if name == "python3" else shutil.which(name)
        (folder / name).symlink_to(Path(program or pytest.skip(f"needs {connector}")).resolve())
    return str(folder)


async def sent_back(agent: Agent, at: int) -> None:
    stream = await tunnel.connect(agent, at)
    async with ended(stream) as (reader, writer):
        writer.write(DATA)
        async with asyncio.timeout(LONG):
            assert await reader.readexactly(len(DATA)) == DATA
    assert stream.trouble == ""


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
async def test_the_relay_runs_in_every_shell(tmp_path: Path, shell: str) -> None:
    async with port(echo) as at:
        await sent_back(here(narrow(tmp_path / "bin", shell, "python3")), at)


CONNECTORS = pytest.mark.parametrize("connector", ["socat", "busybox", "python3", "bash"])


@CONNECTORS
async def test_any_program_that_connects_will_do(tmp_path: Path, connector: str) -> None:
    async with port(echo) as at:
        await sent_back(here(narrow(tmp_path / "bin", "dash", connector)), at)


async def test_busybox_alone_is_enough(tmp_path: Path) -> None:
    """As in a guest that has nothing else."""
    busybox = shutil.which("busybox") or pytest.skip("needs busybox")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*TOOLS, "nc", "busybox"):
        (folder / name).symlink_to(busybox)
    async with port(echo) as at:
        await sent_back(here(str(folder)), at)


async def test_without_any_the_trouble_says_what_is_needed(tmp_path: Path) -> None:
    stream = await tunnel.connect(here(narrow(tmp_path / "bin", "dash", "")), 1)
    async with ended(stream) as (reader, _):
        assert await reader.read() == b""
    assert "neither socat, busybox nc, python3 nor bash" in stream.trouble


async def test_a_port_where_nobody_listens_ends_the_stream_and_says_so() -> None:
    stream = await tunnel.connect(here(), 1)
    async with ended(stream) as (reader, _):
        assert await reader.read() == b""
    assert "refused" in stream.trouble.lower()


async def test_a_guest_without_what_it_takes_is_told_so(tmp_path: Path) -> None:
    path = narrow(tmp_path / "bin", "dash", "")
    (tmp_path / "bin" / "mkfifo").unlink()
    with pytest.raises(LabError, match="No connection can be made through the guest agent of hv1"):
        await tunnel.connect(here(path), 1)
    for each in relays():
        shutil.rmtree(each)


@CONNECTORS
async def test_the_last_words_of_a_port_arrive_before_the_end(tmp_path: Path, connector: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(DATA)
        writer.close()

    guest = here(narrow(tmp_path / "bin", "dash", connector))
    async with port(speak) as at, ended(await tunnel.connect(guest, at)) as (reader, _):
        assert await asyncio.wait_for(reader.read(), LONG) == DATA


async def test_one_that_is_not_read_is_not_sent_without_end() -> None:
    """The guest's memory is not filled by a fast port and a slow reader."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(DATA)
                await writer.drain()

    stream = None
    async with port(flood) as at:
        stream = await tunnel.connect(here(), at)
        async with ended(stream):
            folder = Path(stream._folder)
            held = await settled(lambda: sum(path.stat().st_size for path in folder.glob("o.*")))
            assert held < (relay.WINDOW + 2) * 120_000


async def test_what_a_port_does_not_read_does_not_pile_up_in_the_guest() -> None:
    async with port(mute) as at:
        stream = await tunnel.connect(here(), at)
        async with ended(stream) as (_, writer):
            writer.write(bytes(60 << 20))
            folder = Path(stream._folder)
            held = await settled(lambda: len(list(folder.glob("i.*"))))
            assert held <= 2 * tunnel.AHEAD


async def test_a_stream_whose_taker_has_gone_ends_though_the_port_hangs() -> None:
    async with port(mute) as at:
        stream = await tunnel.connect(here(), at)
        stream.socket.setblocking(False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.get_running_loop().sock_sendall(stream.socket, bytes(60 << 20))
        stream.socket.close()
        await gone(stream._folder)


async def test_a_relay_that_nobody_asks_ends_with_all_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when nestlab was killed. (A minute; here two seconds.)"""
    hurried = relay.RELAY.replace(f"-lt {relay.LONELY} ]", "-lt 2 ]")
    assert hurried != relay.RELAY
    async with port(mute) as at:
        result = await Here().run(["sh", "-c", relay.START, "sh", str(at)], input=hurried.encode())
        folder = result.text.strip()
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        await until(lambda: processes(folder))
        await gone(folder)


async def test_closing_leaves_nothing_though_the_port_hangs() -> None:
    async with port(mute) as at:
        stream = await tunnel.connect(here(), at)
        async with ended(stream) as (_, writer):
            writer.write(bytes(10 << 20))
            await asyncio.sleep(0.5)
        await gone(stream._folder)


@needs_agent
async def test_bytes_go_both_ways_in_order_through_a_real_agent(real: FakePve) -> None:
    async with client(real) as api, port(echo) as at:
        await sent_back(Agent(api, "pve1", VMID, "hv1"), at)


@needs_agent
async def test_lost_answers_and_a_silent_agent_are_survived(real: FakePve) -> None:
    async with client(real) as api, port(echo) as at:
        stream = await tunnel.connect(Agent(api, "pve1", VMID, "hv1"), at)
        async with ended(stream) as (reader, writer):
            for word in (b"one", b"two", b"three"):
                real.fail_next("/agent/file-write", 0, after=True)
                real.fail_next("/agent/file-read", 0, after=True)
                real.fail_next("/agent/file-read", 500, "QEMU guest agent is not running", times=2)
                real.fail_next("/agent/file-write", 596, "Broken pipe")
                writer.write(word)
                assert await asyncio.wait_for(reader.readexactly(len(word)), LONG) == word
        assert stream.trouble == ""


@needs_agent
async def test_the_stream_breaks_when_the_machine_stops(real: FakePve) -> None:
    async with client(real) as api, port(echo) as at:
        stream = await tunnel.connect(Agent(api, "pve1", VMID, "hv1"), at)
        folder = stream._folder
        async with ended(stream) as (reader, _):
            real.vms[VMID].running = False
            assert await asyncio.wait_for(reader.read(), LONG) == b""
        assert "hv1 does not run any more" in stream.trouble
    await Here().run(["sh", "-c", relay.STOP, "sh", folder])


def test_a_segment_is_read_as_it_grows() -> None:
    segment = tunnel.Segment()
    seen = b""
    text = "aGVs\nbG8=\n!0 bye\n"
    for end in range(len(text) + 1):
        segment.take(text[:end])
        seen += segment.data
    assert (seen, segment.last, segment.over) == (b"hello", "0 bye", False)
    with pytest.raises(Unreachable, match="not what its relay wrote"):
        tunnel.Segment().take("what?\n")


def vault_of(folder: Path, machines: dict[str, Sshd]) -> LabKeys:
    """A lab's keys, which open these servers."""
    (folder / "keys").mkdir(parents=True)
    for path, server in machines.items():
        shutil.copy(server.key, folder / "id_ed25519")
        kept = {"private": server.host.private, "public": server.host.public, "dropbear": server.host.dropbear.hex()}
        (folder / "keys" / short_id(path)).write_text(json.dumps(kept))
    return LabKeys(folder)


@needs_agent
@needs_sshd
async def test_a_machine_is_a_host_through_its_agent_and_what_is_inside_it_too(real: FakePve, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with sshd(tmp_path / "one") as outer, sshd(tmp_path / "two") as inner:
        lab_keys = vault_of(tmp_path / "lab", {"hv1": outer})
        async with client(real) as api:
            hv1 = host(Door(api, "pve1", VMID, "hv1"), lab_keys, "hv1", USER, direct=False, port=outer.port)
            web = inside(hv1, "hv1/web", inner.port, user=USER, key=inner.key, host_key=inner.host.public, timeout=60)
            assert (hv1.level, web.level) == (1, 2)
            assert (await hv1.run(["cat"], input=DATA)).stdout == DATA
            source = tmp_path / "source"
            source.write_bytes(DATA)
            await hv1.put(source, str(tmp_path / "copied"))
            assert (tmp_path / "copied").read_bytes() == DATA
            async with hv1.lines(["seq", "1000"]) as lines:
                assert len([line async for line in lines]) == 1000
            async with _unix_echo(tmp_path / "echo"), hv1.unix(str(tmp_path / "echo")) as near:
                reader, writer = await asyncio.open_unix_connection(near)
                writer.write(b"through")
                assert await reader.readexactly(7) == b"through"
                writer.close()
            assert (await web.run(["echo", "inside"])).text == "inside\n"
            await web.close()
            await hv1.close()
            assert relays() == set()


@needs_agent
@needs_sshd
async def test_a_lost_connection_is_made_anew(real: FakePve, tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        lab_keys = vault_of(tmp_path / "lab", {"hv1": server})
        async with client(real) as api:
            hv1 = host(Door(api, "pve1", VMID), lab_keys, "hv1", USER, direct=False, port=server.port)
            assert (await hv1.run(["echo", "1"])).text == "1\n"
            there = await hv1.connect()
            server.kill_connections()
            await until(lambda: there.closed)
            assert (await hv1.run(["echo", "2"])).text == "2\n"
            await hv1.close()


@needs_agent
@needs_sshd
async def test_another_machine_that_answers_there_is_refused_by_its_key(real: FakePve, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with sshd(tmp_path / "one") as server, sshd(tmp_path / "two") as other:
        lab_keys = vault_of(tmp_path / "lab", {"hv1": server})
        async with client(real) as api:
            hv1 = host(Door(api, "pve1", VMID), lab_keys, "hv1", USER, direct=False, port=other.port)
            with pytest.raises(LabError, match="THE HOST KEY OF hv1 IS NOT"):
                await hv1.run(["true"])
            await hv1.close()


@needs_sshd
async def test_a_door_where_no_sshd_listens_says_so_in_time(tmp_path: Path, real: FakePve) -> None:
    (tmp_path / "one").mkdir()
    with sshd(tmp_path / "one") as server:
        lab_keys = vault_of(tmp_path / "lab", {"hv1": server})
    async with client(real) as api:
        hv1 = host(Door(api, "pve1", VMID, "hv1"), lab_keys, "hv1", USER, direct=False, port=1)
        with pytest.raises(Unreachable) as error:
            await hv1.run(["true"])
        assert "refused" in str(error.value).lower()
        await hv1.close()


CARD = "bc:24:11:00:00:01"


def addressed(pve: FakePve, *addresses: str) -> None:
    pve.vms[VMID].config["net0"] = f"virtio={CARD.upper()},bridge=vmbr0,firewall=0"
    inside = pve.vms[VMID].agent
    assert inside is not None

    def cards() -> list[dict[str, object]]:
        own = [{"ip-address": each} for each in addresses]
        bridge = [{"ip-address": "192.168.122.1"}]
        return [
            {"name": "eth0", "hardware-address": CARD, "ip-addresses": own},
            {"name": "virbr0", "hardware-address": "52:54:00:00:00:09", "ip-addresses": bridge},
        ]

    inside.cards = cards  # type: ignore[method-assign]


@needs_agent
@needs_sshd
async def test_an_address_that_takes_connections_is_used_straight(real: FakePve, tmp_path: Path) -> None:
    with sshd(tmp_path, "ListenAddress 127.0.0.2") as server:
        addressed(real, "127.0.0.3", "127.0.0.1")
        lab_keys = vault_of(tmp_path / "lab", {"hv1": server})
        async with client(real) as api:
            door = Door(api, "pve1", VMID)
            assert await door.outside() == ()  # loopback addresses reach nobody else
            door.outside = _first("127.0.0.3", "127.0.0.1")  # type: ignore[method-assign]
            hv1 = host(door, lab_keys, "hv1", USER, direct=True, port=server.port)
            assert (await hv1.run(["echo", "straight"])).text == "straight\n"
            assert real.calls("POST", "/agent/exec") == []
            await hv1.close()


@needs_agent
@needs_sshd
async def test_an_address_that_does_not_or_is_somebody_elses_leads_through_the_agent(
    real: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nestlab.engines.pve.connections.STRAIGHT", 0.3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with sshd(tmp_path / "one") as server, socket.create_server(("127.0.0.2", server.port)) as busy:
        lab_keys = vault_of(tmp_path / "lab", {"hv1": server})
        async with client(real) as api:
            door = Door(api, "pve1", VMID)
            door.outside = _first("127.0.0.3", "192.0.2.99")  # type: ignore[method-assign]
            hv1 = host(door, lab_keys, "hv1", USER, direct=True, port=server.port)
            assert (await hv1.run(["echo", "agent"])).text == "agent\n"
            assert real.calls("POST", "/agent/exec") != []
            await hv1.close()
        assert busy


@needs_agent
async def test_only_the_cards_that_pve_gave_lead_in(real: FakePve) -> None:
    addressed(real, "10.0.0.5", "fd00::5")
    async with client(real) as api:
        assert await Door(api, "pve1", VMID).outside() == ("10.0.0.5", "fd00::5")


def _first(*addresses: str) -> Callable[[], Coroutine[Any, Any, tuple[str, ...]]]:
    async def outside() -> tuple[str, ...]:
        return addresses

    return outside


@contextlib.asynccontextmanager
async def _unix_echo(path: Path) -> AsyncIterator[None]:
    server = await asyncio.start_unix_server(echo, path)
    try:
        yield
    finally:
        server.close()
