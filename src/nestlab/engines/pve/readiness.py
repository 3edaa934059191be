"""Whether a machine on a Proxmox VE that nestlab does not log in to is up: its agent, a port, its console or screen."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, cast

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.picture import Picture
from nestlab.base.printable import one_line
from nestlab.engines.pve import consoles, screens
from nestlab.engines.pve.cpu_types import EMULATED
from nestlab.engines.pve.power import LONGEST, REACHED, WORKS
from nestlab.engines.pve.protocols import Door
from nestlab.engines.pve.resources import Found
from nestlab.engines.qemu.readiness import PART, Search
from nestlab.explain.screen import end as ended
from nestlab.explain.stillness import Stillness
from nestlab.lab.blueprint import Spec
from nestlab.wire.pve.daemon import Daemon
from nestlab.wire.pve.pvesh import Pvesh

if TYPE_CHECKING:
    from nestlab.engines.pve.engine import Environment
    from nestlab.engines.pve.guests import Guests
    from nestlab.hosts.host import Host

ANSWER = 10.0
"""Nominal seconds in which a guest agent answers, and STRAIGHT those in which a port takes a connection."""

STRAIGHT = 3.0

PAUSE = 2.0
"""Seconds between two questions, and of silence after which the line that stands on a console is searched too."""

LOOK = "See its screen: `nestlab screenshot`."

SHOWN = 60
"""Letters of a configuration's CPU that are shown."""

Console = Callable[[], AbstractAsyncContextManager[str]]
"""Opens the console of a machine, as a unix socket."""


@frozen
class Knocking:
    """At one machine, `found` for `spec`."""

    spec: Spec
    found: Found
    door: Door
    console: Console
    picture: Callable[[], Awaitable[Picture]]
    works: Callable[[], Awaitable[float]]
    runs: Callable[[], Awaitable[bool]]

    async def wait(self, say: Say) -> None:
        """Until it is up. LabError when it does not run any more, Overdue when it is not up in its time, which it has
        several times while it is at work."""
        ready = self.spec.machine.ready
        if ready.by == "none":
            return None
        say(f"waiting for {ready.awaited}")
        limit = patience.allowed(REACHED, self._slowness)
        knocking = asyncio.ensure_future(self._waiting())
        began = time.monotonic()
        try:
            for turn in range(1, LONGEST + 1):
                ended = time.monotonic() + limit
                while not knocking.done() and time.monotonic() < ended:
                    await asyncio.wait({knocking}, timeout=PAUSE)
                    if not knocking.done() and not await self.runs():
                        raise self._stopped()
                if knocking.done():
                    return knocking.result()
                if turn == LONGEST or await self.works() < WORKS:
                    break
        finally:
            knocking.cancel()
            await asyncio.wait({knocking})
        said = patience.said(time.monotonic() - began)
        what = f"{self._name} was not up within {said}: {ready.unseen} (`{ready.said}`)."
        raise Overdue(what, hint=f"Look at its console: `nestlab console`. {patience.LONGER}")

    async def up(self) -> bool:
        """Whether it is up now; of a console or a screen, whether it has been since the machine's
        start."""
        match self.spec.machine.ready.by:
            case "agent":
                with contextlib.suppress(LabError):
                    await self.door.wait(patience.allowed(ANSWER))
                    return True
                return False
            case "port":
                return await self._open()
            case "console" | "screen":
                return not self.found.mark.unmet
        return await self.runs()

    @property
    def _name(self) -> str:
        guest = self.found.guest
        return f"{self.spec.path} (VM {guest.vmid} on {guest.node})"

    @property
    def _slowness(self) -> float:
        return patience.inside(1.0, "kvm" if self.found.mark.kvm else "tcg")

    def _stopped(self) -> LabError:
        what = f"{self._name} stopped before it was up."
        return LabError(what, hint="See its console while it boots: `nestlab console`.")

    def _waiting(self) -> Coroutine[None, None, None]:
        match self.spec.machine.ready.by:
            case "console":
                return self._shown()
            case "screen":
                return self._still()
        return self._asked()

    async def _still(self) -> None:
        """Until its screen stands still. LabError when it has none, or shows a known end twice."""
        screen = Stillness(patience.allowed(self.spec.machine.ready.still or 0, self._slowness))
        before = ""
        while True:
            with contextlib.suppress(Unreachable, OSError):  # it is asked again
                picture = await self.picture()
                if screen.look(picture, time.monotonic()):
                    return
                end = ended(picture)
                if end and end == before:
                    raise LabError(f"{self._name} did not come up: by its screen, {end}.", hint=LOOK)
                before = end
            await asyncio.sleep(screen.pause)

    async def _asked(self) -> None:
        while True:
            if await self.up():
                return
            await asyncio.sleep(PAUSE)

    async def _open(self) -> bool:
        """Whether its port takes a connection at one of its addresses that lead there from here."""
        port = self.spec.machine.ready.port or 0
        takes = await asyncio.gather(*(_takes(each, port) for each in addresses(self.spec, self.found)))
        return any(takes) or bool(await self.door.open(port))

    async def _shown(self) -> None:
        """Until its console shows what it is to show. What it said before somebody listened is lost."""
        search = Search(self.spec.machine.ready.pattern or "")
        while True:
            with contextlib.suppress(Unreachable, OSError):  # it is not there yet, or was lost: it is opened again
                async with self.console() as path:
                    if await _searched(path, search):
                        return
            await asyncio.sleep(PAUSE)


class Outside:
    """What `PveEngine` tells of its machines without a login: see `nestlab.engines.Judging`."""

    environment: Environment
    guests: Guests

    async def is_up(self, spec: Spec) -> bool:
        """See `nestlab.engines.Judging`."""
        return await self.knocking(spec, await self.guests.one(spec.path)).up()

    async def shown(self, path: str) -> tuple[str, str]:
        """See `nestlab.engines.Judging`. PVE's API does not ask QEMU; what it is started with tells."""
        found = await self.guests.one(path)
        config = await self.environment.api.get(f"{found.guest.base}/config", {"current": True})
        cpu = one_line(str(config.get("cpu") or "kvm64"))[:SHOWN]
        emulated = str(config.get("kvm", 1)) == "0"
        if emulated:
            return ("svm" if cpu.startswith(EMULATED) else ""), f"its configuration (kvm: 0, cpu: {cpu})"
        return ("vmx or svm" if nests(cpu) else ""), f"its configuration (cpu: {cpu})"

    def knocking(self, spec: Spec, found: Found) -> Knocking:
        """At a machine that runs."""
        api, guest = self.environment.api, found.guest
        node = cast("Host", api.host) if isinstance(api, Pvesh | Daemon) else None

        async def runs() -> bool:
            return await self.guests.runs(guest) == "running"

        return Knocking(
            spec,
            found,
            self.environment.door(guest.node, guest.vmid, spec.path),
            lambda: consoles.attached(api, guest.node, guest.vmid, where=spec.path, host=node),
            lambda: screens.taken(api, guest.base, spec.path),
            lambda: self.guests.works(guest),
            runs,
        )


def nests(cpu: str) -> bool:
    """Whether a CPU in PVE's words has vmx or svm on a node that offers it (qemu-server, CPUConfig.pm)."""
    model, *rest = cpu.removeprefix("cputype=").split(",")
    flags = [flag for word in rest if word.startswith("flags=") for flag in word.removeprefix("flags=").split(";")]
    return model in ("host", "max") or "+nested-virt" in flags


def addresses(spec: Spec, found: Found) -> list[str]:
    """The addresses that the lab gives a machine on bridges of the nodes: a network of theirs may lead there."""
    bridged = set(found.mark.bridged)
    named = [each for nic in spec.nics if nic.segment in bridged for each in nic.addresses]
    return [str(ipaddress.ip_interface(each).ip) for each in named]


async def _searched(path: str, search: Search) -> bool:
    """Whether a console shows it, before it ends."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        while True:
            try:
                async with asyncio.timeout(PAUSE):
                    data = await reader.read(PART)
            except TimeoutError:
                if search.stands():
                    return True
                continue
            if not data:
                return False
            if search.feed(data):
                return True
    finally:
        writer.close()


async def _takes(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(patience.allowed(STRAIGHT)):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
