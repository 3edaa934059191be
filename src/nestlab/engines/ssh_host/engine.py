"""The embedded engine of a lab's own level on a host that ssh reaches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from nestlab.base.events import Say
from nestlab.engines import Sshd
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.engines.ssh_host.uploads import Uploads
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.steps import Build, Step


@dataclass
class SshHostEngine(QemuEngine):
    """See `QemuEngine`. `uploads`: of its host."""

    uploads: Uploads | None = None
    _claimed: bool = False
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        if self.uploads is not None and not isinstance(step, Build):
            async with self._claiming:
                if not self._claimed:
                    await self.uploads.claim()
                    self._claimed = True
        return await super().perform(step, blueprint, say)

    async def sshds(self) -> tuple[Sshd, ...]:
        """See `nestlab.engines.Listening`: no network of this computer's leads to 127.0.0.1 there."""
        return tuple(replace(each, carried=True) for each in await super().sshds())

    @asynccontextmanager
    async def carried(self, path: str) -> AsyncIterator[socket.socket]:
        """See `nestlab.engines.Carrying`."""
        from nestlab.hosts.ssh import SshHost

        assert isinstance(self.parent, SshHost)
        listening = {each.path: each for each in await super().sshds()}
        if path not in listening:
            await self.host(path)  # which says why it is not reached
        async with self.parent.port(listening[path].port) as here:
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                far.connect(here)
                yield far
            finally:
                far.close()
