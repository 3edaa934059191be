"""The screen of a machine that is waited for: what it shows ends the wait early where nothing more will come, and the
last picture is kept beside the console's log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.picture import Picture, alike
from nestlab.engines.qemu import screen as screens
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.console import drawn
from nestlab.engines.qemu.wait import WORKS, Wait
from nestlab.hosts.host import Host

LOOK = 20.0
"""Nominal seconds between two looks."""

STILL = 90.0
"""Nominal seconds after which a screen that stays as it is, of a machine that neither computes nor says anything, is
the end: half of what one without a screen has."""

_BOX = 1 << 15
"""Bytes of the end of a console in which a box that fills its screen is whole."""

LINES = 12
"""Lines of a screen of characters that an error shows."""


class Ended(Exception):
    """The screen shows the end; as a clause about its machine. `lines`: of its console, where that tells."""

    def __init__(self, what: str, lines: Iterable[str] = ()) -> None:
        super().__init__(what)
        self.lines = tuple(lines)


def has_screen(launch: Launch) -> bool:
    """Whether QEMU's command line gives the machine one: see `hardware_argv.display`."""
    return launch.kernel is None or launch.spec.machine.hardware.display


@dataclass
class Screen:
    """Of one machine that boots on `host`; `slowness`: of the machine."""

    host: Host
    launch: Launch
    slowness: float
    stillness: bool = False
    """Whether it is waited for until its screen stands still: then that is no end."""
    taken: Callable[[], Awaitable[Picture | None]] | None = None
    """Takes a picture of it; None: its QEMU's monitor listens in its directory."""
    last: Picture | None = None
    _still: Picture | None = None
    """What it has shown since `_since`."""
    _since: float = 0.0
    _end: str = ""

    async def unless_ended(self, work: Coroutine[Any, Any, None], wait: Wait) -> None:
        """Do the work. Ended as soon as the screen shows that it is in vain."""
        if not has_screen(self.launch):
            await work
            return
        working, watching = asyncio.ensure_future(work), asyncio.ensure_future(self._watch(wait))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else watching)
        finally:
            for each in (working, watching):
                each.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def kept(self, error: LabError) -> LabError:
        """An error about the machine, with where its last picture is, which is taken now if there still is one."""
        if not has_screen(self.launch):
            return error
        picture = await self._picture() or self.last
        if picture is None:
            return error
        from nestlab.explain import screen

        file = f"{self.launch.paths.root}/screen.png"
        try:
            await self.host.write(file, picture.png)
        except (LabError, OSError):
            return error
        where = f" on {self.host.path}" if self.host.path else ""
        error.hint = f"{error.hint} Its last screen is in {file}{where}.".strip()
        shown = [line for line in screen.text(picture) if line][-LINES:]
        lines = [error.detail] if error.detail else []
        error.detail = "\n".join([*lines, *(["its screen:"] if shown else []), *(f"  # {line}" for line in shown)])
        return error

    async def _watch(self, wait: Wait) -> None:
        clock = asyncio.get_running_loop().time
        self._since = clock()
        while True:
            await asyncio.sleep(patience.allowed(LOOK, self.host.slowness))
            picture = await self._picture()
            if picture is not None:
                self._judge(picture, wait, clock())
            await self._read()

    async def _read(self) -> None:
        """What stands on its console in a line that has no end, which nobody else hears of."""
        with contextlib.suppress(LabError, OSError):
            said = await self.host.run(("tail", "-c", str(_BOX), self.launch.paths.log), check=False, timeout=LOOK)
            shown = drawn(said.stdout[-_BOX:])
            if shown.fatal:
                raise Ended(shown.fatal, shown.tail)

    def _judge(self, picture: Picture, wait: Wait, now: float) -> None:
        from nestlab.explain import screen

        self.last = picture
        end = screen.end(picture)
        if end and end == self._end:  # seen twice: it is not passed over
            raise Ended(f"by its screen, {end}")
        self._end = end
        busy = wait.spent is None or wait.spent >= WORKS
        if self._still is None or busy or not alike(self._still, picture):
            self._still, self._since = picture, now
        if self.stillness:
            return
        still = now - max(self._since, wait.heard)
        if still >= patience.allowed(STILL, self.slowness):
            raise Ended(
                f"its screen has not changed for {patience.said(still)}, and it neither computes nor says anything"
            )

    async def _picture(self) -> Picture | None:
        if self.taken is not None:
            return await self.taken()
        return await screens.now(self.host, self.launch.paths, self.launch.spec.path)
