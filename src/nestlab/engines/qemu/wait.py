"""The wait for a machine that boots: as long as it shows life."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.hosts.host import Host

BOOT = 180.0
"""Nominal seconds in which a machine that boots must show life, by its console or by its QEMU's work."""

LONGEST = 3.0
"""Times that, after which the wait ends whatever it shows: a machine can print and compute for ever."""

LOOKS = 6
"""Times that its QEMU is looked at in that time."""

WORKS = 0.2
"""Share of a CPU from which a QEMU counts as at work; of an idle guest's it takes less than a tenth, emulated too."""

SCRIPT = r"""
read -r up _ </proc/uptime
read -r p <"$1/pid" && read -r l <"/proc/$p/stat" || exit 0
set -- ${l##*)}
echo "$up $((${12} + ${13}))"
"""
"""Argument: a machine's directory. Prints the uptime of its host and the hundredths of a second that its QEMU has
computed."""


class Deadline(Protocol):
    """An asyncio.Timeout."""

    def expired(self) -> bool: ...

    def reschedule(self, when: float | None) -> None: ...


class Wait:
    """What was seen of the machine so far. `spent`: how much of a CPU its QEMU took when it was looked at last;
    `heard`: when it showed life, by the loop's clock."""

    def __init__(self, timeout: Deadline, quiet: Callable[[], float]) -> None:
        self._timeout = timeout
        self._quiet = quiet
        self._clock = asyncio.get_running_loop().time
        self._began = self.heard = self._clock()
        self.spent: float | None = None

    @property
    def took(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def alive(self) -> None:
        """The machine showed life: it has its time again."""
        self.heard = self._clock()
        quiet = self._quiet()
        if not self._timeout.expired():
            self._timeout.reschedule(min(self._clock() + quiet, self._began + LONGEST * quiet))

    def worked(self, share: float) -> None:
        """Its QEMU took so much of a CPU."""
        self.spent = share
        if share >= WORKS:
            self.alive()


@asynccontextmanager
async def waiting(host: Host, directory: str, slowness: Callable[[], float]) -> AsyncIterator[Wait]:
    """The block may take as long as the machine shows life. TimeoutError when it has shown none for its time.
    `slowness`: of the machine, as far as it is known by then."""

    def quiet() -> float:
        return patience.allowed(BOOT, slowness())

    async with asyncio.timeout(quiet()) as timeout:
        wait = Wait(timeout, quiet)
        watching = asyncio.create_task(_watch(host, directory, wait, quiet))
        try:
            yield wait
        finally:
            watching.cancel()
            await asyncio.wait({watching})


async def _watch(host: Host, directory: str, wait: Wait, quiet: Callable[[], float]) -> None:
    before: tuple[float, float] | None = None
    while True:
        await asyncio.sleep(quiet() / LOOKS)
        with contextlib.suppress(LabError, OSError):
            said = await host.run(("sh", "-c", SCRIPT, "look", directory), check=False, timeout=20)
            now = parse(said.text)
            if now and before and now[0] > before[0]:
                wait.worked((now[1] - before[1]) / (now[0] - before[0]))
            before = now or before


def parse(said: str) -> tuple[float, float] | None:
    """The host's uptime and its QEMU's computing time in what SCRIPT printed, in seconds."""
    found = re.fullmatch(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)\s+([0-9]{1,15})\s*", said)
    return (float(found[1]), int(found[2]) / 100) if found else None
