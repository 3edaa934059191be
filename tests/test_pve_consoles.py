"""Consoles through pvesh's node: the real commands, with stand-ins for PVE's own; and what a system logged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import consoles
from nestlab.engines.pve.connections import Door
from nestlab.hosts.local import LocalHost
from nestlab.testing.fake_pve import Agent, FakePve, Guest
from nestlab.testing.fake_pve.consoles import GREETING
from nestlab.wire.pve import console
from pve_qemu import VMID, RealAgent, agent_here, client, needs_agent, started
from waiting import LONG

CT = 200


@pytest.fixture
def pve() -> Iterator[FakePve]:
    with FakePve(nodes=("pve1", "pve2")) as fake:
        started(fake)
        fake.world.guests[CT] = Guest(CT, "pve1", "lxc", config={"hostname": "ct"}, running=True)
        yield fake


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs in it come first."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    made = folder / name
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)


@contextlib.asynccontextmanager
async def sitting(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        async with asyncio.timeout(LONG):
            yield reader, writer
    finally:
        writer.close()


async def test_a_machines_serial_line_is_joined_on_its_node_byte_by_byte(pve: FakePve, path: Path) -> None:
    program(path, "socat", 'echo "$@"; exec cat')
    everything = bytes(range(256)) * 300
    async with client(pve) as api, consoles.attached(api, "pve1", VMID, host=LocalHost()) as at, sitting(at) as who:
        assert await who[0].readline() == b"- UNIX-CONNECT:/var/run/qemu-server/100.serial0\n"
        who[1].write(everything)
        assert await who[0].readexactly(len(everything)) == everything
    assert pve.calls("POST", "termproxy") == []


async def test_leaving_ends_the_command_and_only_one_sits_there(pve: FakePve, path: Path) -> None:
    program(path, "socat", f"echo $$ >{path}/pid; echo here; exec cat")
    async with client(pve) as api:
        async with (
            consoles.attached(api, "pve1", VMID, host=LocalHost()) as at,
            sitting(at) as (reader, _),
            sitting(at) as (second, _),
        ):
            assert await second.read() == b""
            assert await reader.readline() == b"here\n"
        assert not Path(f"/proc/{(path / 'pid').read_text().strip()}").exists()
        assert not Path(at).exists()


async def test_a_container_gets_a_terminal_of_our_size_that_keeps_every_key(pve: FakePve, path: Path) -> None:
    program(path, "pct", 'echo "$@" $(stty size); exec cat')
    size = (132, 43)
    async with (
        client(pve) as api,
        consoles.attached(api, "pve1", CT, "lxc", host=LocalHost(), size=lambda: size) as at,
        sitting(at) as (reader, writer),
    ):
        assert (await reader.readline()).strip() == b"console 200 43 132"
        writer.write(b"\x03\x04\r\x11")
        assert await reader.readexactly(4) == b"\x03\x04\r\x11"


async def test_one_on_another_node_is_reached_as_nodes_reach_each_other(pve: FakePve, path: Path) -> None:
    pve.vms[VMID].node = "pve2"
    address = pve.world.nodes["pve2"].ip
    program(path, "ssh", 'for word in "$@"; do echo "$word"; done')
    async with client(pve) as api, consoles.attached(api, "pve2", VMID, host=LocalHost()) as at, sitting(at) as who:
        words = (await who[0].read()).decode().splitlines()
    assert words[-2:] == [f"root@{address}", "socat - UNIX-CONNECT:/var/run/qemu-server/100.serial0"]
    assert {"-T", "BatchMode=yes", "HostKeyAlias=pve2"} <= set(words)
    assert console.command(CT, "lxc", node="pve2", address=address)[-1].endswith("exec pct console 200")


async def test_why_it_ended_is_told_when_it_failed(pve: FakePve, path: Path) -> None:
    program(path, "socat", 'echo "E connect: No such file or directory" >&2; exit 1')
    async with client(pve) as api:
        with pytest.raises(LabError, match=r"for hv1 \(status 1\)") as error:
            async with consoles.attached(api, "pve1", VMID, where="hv1", host=LocalHost()) as at, sitting(at) as who:
                assert await who[0].read() == b""
    assert "No such file" in error.value.detail


async def test_an_end_in_peace_is_no_error(pve: FakePve, path: Path) -> None:
    program(path, "socat", "echo bye")
    async with client(pve) as api, consoles.attached(api, "pve1", VMID, host=LocalHost()) as at, sitting(at) as who:
        assert await who[0].read() == b"bye\n"


async def test_what_cannot_have_a_console_is_told_before_anything_is_run(pve: FakePve, path: Path) -> None:
    program(path, "socat", f"touch {path}/ran")
    async with client(pve) as api:
        with pytest.raises(LabError, match="knows no node pve9"):
            await consoles._address(api, "pve9")
        pve.vms[VMID].config["serial0"] = "/dev/ttyS0"
        with pytest.raises(LabError, match="no serial console"):
            await consoles.attached(api, "pve1", VMID, host=LocalHost()).__aenter__()
        pve.vms[VMID].running = False
        with pytest.raises(Unreachable, match="VM 100 does not run"):
            await consoles.attached(api, "pve1", VMID, host=LocalHost()).__aenter__()
    assert not (path / "ran").exists()


async def test_a_port_that_is_only_to_come_at_the_next_start_is_none(pve: FakePve) -> None:
    pve.vms[VMID].config["serial0"] = "/dev/ttyS0"
    pve.vms[VMID].pending["serial0"] = "socket"
    async with client(pve) as api:
        with pytest.raises(LabError, match="no serial console"):
            await consoles.attached(api, "pve1", VMID).__aenter__()


async def test_over_https_it_is_the_one_of_termproxy(pve: FakePve) -> None:
    async with client(pve) as api, consoles.attached(api, "pve1", VMID) as at, sitting(at) as (reader, _):
        assert await reader.readline() == GREETING
    assert len(pve.calls("POST", "termproxy")) == 1


JOURNAL = """
case "$*" in *--boot=9*) echo "no such boot" >&2; exit 1;; esac
echo "$@"
case "$*" in *"-n 1"*) ;; *) [ ! -e "$0.long" ] || seq 300000;; esac
"""


@needs_agent
async def test_the_log_is_the_end_of_the_journal_of_the_boot_that_is_meant(path: Path, tmp_path: Path) -> None:
    program(path, "journalctl", JOURNAL)
    with FakePve() as pve, agent_here(tmp_path) as socket:
        started(pve, RealAgent(socket))
        async with client(pve) as api:
            door = Door(api, "pve1", VMID, "hv1")
            assert await consoles.log(door, -1) == b"-q --boot=-1 --no-pager --no-hostname\n"
            with pytest.raises(LabError, match="has no log of boot 9") as error:
                await consoles.log(door, 9)
            assert "no such boot" in error.value.detail
            (path / "journalctl.long").touch()
            lines = (await consoles.log(door)).splitlines()
            assert lines == [b"%d" % number for number in range(300_001 - len(lines), 300_001)]
            assert 100_000 < len(lines) < 200_000


async def test_a_machine_that_is_off_has_no_log(pve: FakePve) -> None:
    started(pve, Agent())
    pve.vms[VMID].running = False
    async with client(pve) as api:
        with pytest.raises(Unreachable, match="hv1 does not run"):
            await consoles.log(Door(api, "pve1", VMID, "hv1"))


async def test_a_log_is_followed_through_the_machine_as_a_host(path: Path) -> None:
    program(path, "journalctl", 'echo "$@"; echo more; sleep 60')
    async with consoles.following(LocalHost()) as lines:
        assert [await anext(lines), await anext(lines)] == [b"-q -b -n all -f --no-hostname", b"more"]


async def test_without_a_journal_it_is_what_the_kernel_said_in_this_boot_alone(path: Path) -> None:
    here = LocalHost()
    for name in ("sh", "tail", "echo"):
        (path / name).symlink_to(
            next(each / name for each in map(Path, ("/bin", "/usr/bin")) if (each / name).exists())
        )
    program(path, "dmesg", "echo Linux version")
    ask = ["env", f"PATH={path}", "sh", "-c", consoles.LOG, "sh"]
    assert (await here.run([*ask, "0"])).stdout == b"Linux version\n"
    with pytest.raises(LabError) as error:
        await here.run([*ask, "-1"])
    assert "keeps no journal" in error.value.detail
