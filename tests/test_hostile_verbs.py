"""Root in a hypervisor has its programs hang, or puts a pipe in the place of a file: whatever is asked of it ends in
time and in its name. At level 1, and at level 2 through the first."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from blueprints import draft, guest, hypervisor
from liars import engine_on
from nestlab.base.errors import LabError, Overdue
from nestlab.engines.qemu import link_impair, scripts, vlan_ports
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.home.paths import Place
from nestlab.hosts import port_relay, ssh
from nestlab.hosts.ssh import SshHost
from nestlab.verbs import faults
from rooted import HANGS, Hypervisors, needs_sshd, program, rooted
from sshd import Sshd, sshd
from waiting import LONG

pytestmark = needs_sshd

LAB = draft("pair", hypervisor("hv1", guest("web")), hypervisor("hv2"))

WEB = LAB["hv1/web"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(params=[1, 2], ids=["level 1", "level 2"])
async def hypervisors(request: pytest.FixtureRequest, server: Sshd, tmp_path: Path) -> AsyncIterator[Hypervisors]:
    async with rooted(server, request.param, tmp_path) as found:
        yield found


def engine(host: SshHost, folder: Path) -> QemuEngine:
    return engine_on(host, "pair", folder, Place(str(folder)))


async def _impair(host: SshHost, folder: Path) -> None:
    await link_impair.apply(host, [], "root")


async def _kill(host: SshHost, folder: Path) -> None:
    await engine(host, folder).kill("hv1/web")


async def _vlans(host: SshHost, folder: Path) -> None:
    await vlan_ports.set_up(host, WEB, LAB["hv1"], str(folder), ["br0", "any"])


async def _port(host: SshHost, folder: Path) -> None:
    await port_relay.relay(host, "127.0.0.1", 12000)


async def _clock(host: SshHost, folder: Path) -> None:
    await host.run(("sh", "-c", faults.SET_CLOCK, "0"), timeout=faults.ANSWER)


ASKED: dict[str, Callable[[SshHost, Path], Awaitable[None]]] = {
    "links are impaired": _impair,
    "power is cut": _kill,
    "VLANs are set up": _vlans,
    "a port is opened": _port,
    "a clock is set": _clock,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=list(ASKED))
async def test_a_hypervisor_whose_shell_hangs_keeps_nobody_waiting(
    hypervisors: Hypervisors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[SshHost, Path], Awaitable[None]],
) -> None:
    for module, name in (
        (link_impair, "IN_TIME"),
        (vlan_ports, "IN_TIME"),
        (port_relay, "IN_TIME"),
        (scripts, "KILLED"),
        (faults, "ANSWER"),
    ):
        monkeypatch.setattr(module, name, 1.0)
    program(tmp_path / "hv1", "sh", HANGS)
    host = hypervisors("hv1")
    with pytest.raises(Overdue, match=f"on {host.path}, and was ended") as late:
        await asyncio.wait_for(ask(host, tmp_path), LONG)
    assert "\n" not in late.value.what
    assert late.value.hint


async def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(
    hypervisors: Hypervisors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a machine was started with is read when it gets another size, moves, or stops."""
    monkeypatch.setattr(ssh, "FILE", 1.0)
    host = hypervisors("hv1")
    there = engine(host, tmp_path)
    boot = Path(there.environment.place.of("hv1/web").boot)
    boot.parent.mkdir(parents=True)
    os.mkfifo(boot)
    with pytest.raises(Overdue, match=f"`cat -- .*on {host.path}, and was ended"):
        await asyncio.wait_for(there.room("hv1/web"), LONG)


async def test_a_file_that_is_never_taken_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "FILE", 1.0)
    for name in ("cat", "tar", "mv"):
        program(tmp_path / "programs", name, HANGS)
    forced = f'ForceCommand PATH="{tmp_path}/programs:$PATH" exec sh -c "$SSH_ORIGINAL_COMMAND"'
    with tempfile.TemporaryDirectory(prefix="nl") as folder, sshd(Path(folder), forced) as server:
        host = SshHost("hv1", lambda _: server.connect())
        try:
            for work in (
                host.read("/etc/hostname"),
                host.write(f"{tmp_path}/new", b"x"),
                host.write_many({f"{tmp_path}/many": (b"x" * 100_000, 0o600)}),
            ):
                with pytest.raises(LabError, match="on hv1"):
                    await asyncio.wait_for(work, LONG)
        finally:
            await host.close()
    assert not (tmp_path / "new").exists()
