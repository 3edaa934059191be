"""Starts a machine as a domain: defined, read back and compared, then started and followed as any machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.libvirt import domain, drift, scripts
from nestlab.engines.libvirt.mark import Mark
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.engines.libvirt.xml import parsed
from nestlab.engines.qemu import booting
from nestlab.engines.qemu.argv import Launch, before
from nestlab.engines.qemu.scripts import on_host
from nestlab.hosts.host import called
from nestlab.plan.room import NO_ROOM
from nestlab.plan.steps import NO_PLUGS

if TYPE_CHECKING:
    from nestlab.base.picture import Picture


Takes = Callable[[], "Awaitable[Picture | None]"]
"""Takes a picture of a machine's screen; None where there is none now."""


@frozen
class Boot(booting.Boot):
    """See `engines.qemu.booting.Boot`."""

    libvirt: Libvirt = field(kw_only=True)
    takes: Takes | None = None

    @property
    def picture(self) -> Callable[[], Awaitable[Picture | None]] | None:
        return self.takes

    @asynccontextmanager
    async def begin(self, words: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Define the domain, and run `scripts.START`: the lines that it prints. LabError when libvirt does not take
        it, or makes something else of it."""
        name, directory, note, text = words
        wanted = parsed(text)
        made = await self.libvirt.define(self.path, directory, text)
        if changed := drift.changes(wanted, made):
            what = f"libvirt on {called(self.host)} makes of {self.path} what it was not asked for: "
            hint = f"See: virsh -c {self.libvirt.uri} dumpxml {self.libvirt.name(self.path)}"
            raise LabError(f"{what}{changed[0].what}.", hint=hint)
        known = self.libvirt
        paused = "--paused" if "-S" in self.launch.extra else ""
        more = (known.uri, known.uuid(self.path), known.owner, known.name(self.path), paused, before(self.launch))
        script = on_host(scripts.START, self.host.level)
        async with self.host.lines(("sh", "-c", script, "start", name, directory, note, *more)) as lines:
            yield lines


def of(plain: booting.Boot, libvirt: Libvirt, takes: Takes, user: str = "") -> Boot:
    """The same start, by libvirt. `user`: see `domain.Plan`. Disks come and go, and memory and CPUs change, only with a
    start: libvirt would not know of them."""

    def compiled(launch: Launch) -> list[str]:
        mark = Mark(libvirt.owner, libvirt.lab, launch.spec.path, launch.spec.digest)
        return [domain.xml(domain.Plan(launch, mark, user))]

    own = {name: getattr(plain, name) for name in ("host", "user", "ready", "keep", "ports", "links")}
    own["launch"] = replace(plain.launch, room=NO_ROOM)
    return Boot(**own, argv=compiled, env={}, plugs=NO_PLUGS, monitor=plain.monitor, libvirt=libvirt, takes=takes)


__all__ = ["Boot", "Takes", "of"]
