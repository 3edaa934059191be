"""What an engine does by the monitors of the QEMUs that run on its host."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines import View
from nestlab.engines.disk_hotplug import Attached
from nestlab.engines.qemu import attached_disk, impair, link_impair, readiness, records, screen, scripts, usernet
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.argv import name_of
from nestlab.engines.qemu.environment import Environment
from nestlab.engines.qemu.live_sizes import LiveSizes
from nestlab.engines.qemu.readiness import Knocking
from nestlab.engines.qemu.usernet import Usernet
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.readiness import Ready
from nestlab.plan.room import Room

if TYPE_CHECKING:
    from nestlab.base.keyboard import Chord
    from nestlab.base.picture import Picture
    from nestlab.wire.qmp import Monitor


class ByMonitor:
    """A part of `QemuEngine`."""

    parent: Host
    environment: Environment

    async def host(self, path: str) -> SshHost:
        """See `nestlab.engines.Engine`."""
        raise NotImplementedError

    async def room(self, path: str) -> Room:
        """What a machine can become while it runs, by the record of its start."""
        line = await self.parent.read(self.environment.place.of(path).boot)
        return records.started(line.decode(errors="replace").strip()).room

    def _sizes(self, path: str) -> LiveSizes:
        paths = self.environment.place.of(path)
        return LiveSizes(self.parent, path, paths, lambda: self._monitor(path), lambda: self.host(path))

    async def accel(self, path: str) -> Accelerator:
        async with self._monitor(path) as monitor:
            return "kvm" if await monitor.kvm() else "tcg"

    async def is_up(self, spec: Spec) -> bool:
        """See `nestlab.engines.Judging`."""
        return await readiness.is_up(self._at(spec.path, spec.machine.ready))

    async def shown(self, path: str) -> tuple[str, str]:
        """See `nestlab.engines.Judging`."""
        async with self._monitor(path) as monitor:
            return await monitor.virtualization(), "its QEMU"

    def _at(self, path: str, ready: Ready) -> Knocking:
        return Knocking(self.parent, self.environment.place.of(path), path, ready)

    def attached(self, path: str, file: str, serial: str, *, writable: bool = False) -> Attached:
        """See `nestlab.engines.disk_hotplug`."""
        return attached_disk.attached(lambda: self._monitor(path), file, serial, writable=writable)

    async def picture(self, path: str) -> Picture:
        """See `nestlab.engines.Showing`."""
        async with self._monitor(path) as monitor:
            return await screen.taken(self.parent, monitor, self.environment.place.of(path).root, path)

    async def press(self, path: str, keys: Sequence[Chord]) -> None:
        """See `nestlab.engines.Showing`."""
        async with self._monitor(path) as monitor:
            await screen.press(monitor, keys, patience.allowed(screen.BETWEEN, self.parent.slowness), path)

    @asynccontextmanager
    async def viewed(self, path: str) -> AsyncIterator[View]:
        """See `nestlab.engines.Viewed`."""
        password = secrets.token_urlsafe(6)[: View.LENGTH]
        seconds = round(patience.allowed(View.OPEN, self.parent.slowness))
        async with self._monitor(path) as monitor:
            await screen.admit(monitor, password, seconds, path)
        try:
            async with self.parent.unix(self.environment.place.of(path).vnc) as socket:
                yield View(socket, password, seconds)
        finally:
            with suppress(LabError):  # then it expires by itself
                async with self._monitor(path) as monitor:
                    await screen.admit(monitor, secrets.token_urlsafe(6), 0, path)

    async def kill(self, path: str) -> bool:
        """See `nestlab.engines.Failing`."""
        paths, name = self.environment.place.of(path), name_of(self.environment.lab, path)
        ended = await self.parent.run(("sh", "-c", scripts.KILL, "kill", name, paths.root), timeout=scripts.KILLED)
        return "absent" not in ended.text

    async def link(self, spec: Spec, segment: str, *, up: bool) -> None:
        """See `nestlab.engines.Failing`."""
        async with self._monitor(spec.path) as monitor:
            for number, nic in enumerate(spec.nics):
                if nic.segment == segment:
                    await monitor.execute("set_link", name=f"n{number}", up=up)

    async def impair(self, blueprint: Blueprint) -> None:
        """See `nestlab.engines.Failing`."""
        faults, place = self.environment.faults(), self.environment.place
        if self.environment.wires:
            await self.environment.wires.impair(impair.by_segment(blueprint, faults))
        elif (outer := blueprint.by_path().get(self.parent.path)) is not None:
            told = link_impair.words(blueprint, faults, place, self.parent.path)
            await link_impair.apply(self.parent, told, outer.machine.image.user)

    async def take_down(self, spec: Spec, segments: Collection[str]) -> None:
        """Have its links to segments be down, of a QEMU that has just been started."""
        for segment in segments:
            await self.link(spec, segment, up=False)

    def forwards(self, path: str) -> AbstractAsyncContextManager[Usernet]:
        """See `nestlab.engines.port_rules`."""
        return usernet.opened(lambda: self._monitor(path), path)

    def monitor(self, path: str) -> AbstractAsyncContextManager[Monitor]:
        """A conversation with the QEMU of a machine."""
        return self._monitor(path)

    @asynccontextmanager
    async def _monitor(self, path: str) -> AsyncIterator[Monitor]:
        from nestlab.wire.qmp import TIMEOUT, connect

        qmp = self.environment.place.of(path).qmp
        async with (
            self.parent.unix(qmp) as socket,
            connect(socket, timeout=self._allowed(TIMEOUT), where=path) as monitor,
        ):
            yield monitor

    def _allowed(self, seconds: float) -> float:
        """A nominal time for what is asked of this host's processes."""
        return patience.allowed(seconds, self.parent.slowness)
