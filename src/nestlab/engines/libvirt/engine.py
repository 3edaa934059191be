"""The engine of machines that a host's libvirt runs: as the embedded one, but for who runs a machine's QEMU.

libvirt starts it, keeps its monitor and ends it. All that looks at processes and directories is the embedded engine's.
"""

from __future__ import annotations

import os
from asyncio import Future
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from nestlab.base.errors import LabError
from nestlab.engines import View
from nestlab.engines.libvirt import domain, observed, scripts, start
from nestlab.engines.libvirt.virsh import SYSTEM, TAKES, Libvirt, VirshMonitor
from nestlab.engines.libvirt.xml import element, written
from nestlab.engines.qemu import screen
from nestlab.engines.qemu import scripts as qemu_scripts
from nestlab.engines.qemu.argv import name_of
from nestlab.engines.qemu.booting import Boot
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.engines.qemu.observed import Report
from nestlab.engines.qemu.observer import Observer, Said
from nestlab.home.paths import short_id
from nestlab.lab.blueprint import Spec
from nestlab.plan.steps import Drift, Observed

if TYPE_CHECKING:
    from nestlab.base.picture import Picture
    from nestlab.wire.qmp import Monitor

ATTACHED = "vdz"
"""The target of a disk that a machine has for a while: no machine has so many of its own."""


@dataclass
class DomainObserver(Observer):
    """Of machines that libvirt runs."""

    libvirt: Libvirt = field(kw_only=True)

    async def said(self, path: str) -> Said:
        async with self._turns:
            status, kvm = await self.libvirt.ask(path, {"execute": "query-status"}, {"execute": "query-kvm"})
        return status["status"], kvm["enabled"]


@dataclass
class LibvirtEngine(QemuEngine):
    """See `nestlab.engines.Engine`."""

    live: ClassVar[bool] = False

    owned: ClassVar[bool] = False
    """Whether files have the owner that QEMU runs as: see `domain.Plan`."""

    uri: str = SYSTEM
    libvirt: Libvirt = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        environment = self.environment
        lab = environment.first_name or environment.lab
        self.libvirt = Libvirt(self.parent, lab, lambda: environment.lab_keys.authorized, self.uri)
        self._maker.opens = False
        self._observer = DomainObserver(self.parent, environment, libvirt=self.libvirt)

    async def _observed(self, found: Report, asked: Mapping[str, Future[Said]] | None = None) -> Observed:
        """With what was changed of domains by hand."""
        seen = await super()._observed(found, asked)
        drifts = await self._drifts(seen.machines)
        machines = {path: replace(each, drift=drifts.get(path, ())) for path, each in seen.machines.items()}
        return replace(seen, machines=MappingProxyType(machines))

    async def _drifts(self, paths: Iterable[str]) -> Mapping[str, tuple[Drift, ...]]:
        folders = {short_id(path): path for path in paths}
        if not folders:
            return {}
        cut = f"@@nestlab-{os.urandom(8).hex()}"
        words = [word for folder, path in folders.items() for word in (folder, self.libvirt.uuid(path))]
        argv = ("sh", "-c", scripts.LOOK, "look", self.uri, cut, self.environment.place.machines, *words)
        said = await self.parent.run(argv, check=False, timeout=TAKES)
        return observed.drifts(said.text, cut, folders)

    def _as_run(self, boot: Boot) -> Boot:
        return start.of(self._monitored(boot), self.libvirt, self._takes(boot.path))

    def _monitored(self, boot: Boot) -> Boot:
        return replace(boot, monitor=lambda: self._monitor(boot.path))

    def _takes(self, path: str) -> start.Takes:
        async def now() -> Picture | None:
            with suppress(LabError, OSError):
                return await self.picture(path)
            return None

        return now

    async def picture(self, path: str) -> Picture:
        async with self._monitor(path) as monitor:
            return await screen.taken(self.parent, monitor, self.environment.place.of(path).root, path)

    @asynccontextmanager
    async def viewed(self, path: str) -> AsyncIterator[View]:
        what = f"The screen of {path} is its libvirt's to show."
        raise LabError(what, hint=f"A picture of it: nestlab screenshot {path}. In its hypervisor: virt-viewer.")
        yield

    @asynccontextmanager
    async def attached(self, path: str, file: str, serial: str, *, writable: bool = False) -> AsyncIterator[None]:
        """See `nestlab.engines.disk_hotplug`. What an earlier one left behind goes first."""
        with suppress(LabError):
            await self.libvirt.does(path, "detach-disk", ATTACHED, "--live")
        disk = element(
            "disk",
            "",
            element("driver", name="qemu", type="raw"),
            domain.source(file, owned=self.owned),
            element("target", dev=ATTACHED, bus="virtio"),
            None if writable else element("readonly"),
            element("serial", serial),
            type="block" if file.startswith("/dev/") else "file",
            device="disk",
        )
        await self.libvirt.does(path, "attach-device", "/dev/stdin", "--live", input=written(disk).encode())
        try:
            yield
        finally:
            with suppress(LabError):
                await self.libvirt.does(path, "detach-disk", ATTACHED, "--live")

    async def is_up(self, spec: Spec) -> bool:
        """See `nestlab.engines.Judging`."""
        if spec.machine.ready.by != "none":
            return await super().is_up(spec)
        with suppress(LabError):
            return (await self._observer.said(spec.path))[0] == "running"
        return False

    async def kill(self, path: str) -> bool:
        """See `nestlab.engines.Failing`."""
        paths, name = self.environment.place.of(path), name_of(self.environment.lab, path)
        known = self.libvirt
        words = (name, paths.root, known.uri, known.uuid(path), known.owner)
        ended = await self.parent.run(("sh", "-c", scripts.KILL, "kill", *words), timeout=qemu_scripts.KILLED)
        return "absent" not in ended.text

    async def link(self, spec: Spec, segment: str, *, up: bool) -> None:
        """See `nestlab.engines.Failing`."""
        for nic in spec.nics:
            if nic.segment == segment:
                await self.libvirt.does(spec.path, "domif-setlink", nic.mac, "up" if up else "down")

    async def _remove(self, path: str, root: str) -> None:
        if path:
            await self.libvirt.undefine(path)
        await super()._remove(path, root)

    @asynccontextmanager
    async def _monitor(self, path: str) -> AsyncIterator[Monitor]:
        yield VirshMonitor(self.libvirt, path)
