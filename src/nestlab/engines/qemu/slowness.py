"""How slow a host and the machines in it are: as they were measured, else as it is presumed of what they are in."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.hosts import speed
from nestlab.lab.model import parent_of

if TYPE_CHECKING:
    from nestlab.home.speeds import Speeds
    from nestlab.hosts.host import Host
    from nestlab.hosts.ssh import SshHost

MEASURED = 5.0
"""Nominal seconds after a machine's start until its host is measured: most are up by then, and an emulated host has
other work until then. Only who still waits needs to know how long he may."""


class Slowness:
    """Of one host. Machines that were reached before it was measured are told what follows from it."""

    def __init__(self, host: Host, speeds: Speeds) -> None:
        self._host, self._speeds = host, speeds
        self._machines: dict[str, tuple[SshHost, str]] = {}
        self._measuring = asyncio.Lock()
        known = speeds.of(host.path)
        if known is not None:
            host.slowness = self._believed(host.path, known.slowness)

    def of(self, path: str, accel: str) -> float:
        """How slow a machine in it is."""
        measured = self._speeds.of(path)
        known = self._believed(path, measured.slowness) if measured else None
        return known or patience.inside(self._host.slowness, accel)

    def tell(self, machine: SshHost, accel: str) -> SshHost:
        """The same machine, which knows from now on how slow it is."""
        machine.slowness = self.of(machine.path, accel)
        self._machines[machine.path] = machine, accel
        return machine

    async def measure(self) -> None:
        """Measure the host, while a machine boots on it; unless that was done lately."""
        await asyncio.sleep(patience.allowed(MEASURED, self._host.slowness))
        path = self._host.path
        async with self._measuring:
            known = self._speeds.of(path)
            if known is not None and known.fresh(time.time()):
                return
            with suppress(LabError, OSError):
                self._host.slowness = self._believed(path, await speed.measure(self._host))
                self._speeds.keep(path, self._host.slowness)
        for machine, accel in self._machines.values():
            machine.slowness = self.of(machine.path, accel)

    def _believed(self, path: str, slowness: float) -> float:
        """How slow a host counts as; what a machine of the lab says of itself, only as far as what it is in lets it."""
        outer = self._speeds.of(parent_of(path))
        return patience.believed(slowness, outer.slowness if outer else 1.0) if path else slowness
