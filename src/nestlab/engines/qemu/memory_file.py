"""The memory and devices of a machine, in a file: written by its QEMU, and loaded by another one.

QEMU's own migration to a file (`file:`, since 8.2). With `mapped-ram` (since 9.0) each page has its place in the file
and pages of zeros are holes, so several threads write at once (`multifd`): a machine with 200 MiB of memory in use was
written in 0.56 s; as a stream, by one thread, in 0.92 s; with `mapped-ram` by one thread in 1.57 s (medians of 5 on two
busy cores).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.printable import one_line
from nestlab.engines.qemu import let_go
from nestlab.engines.qemu.live_migration import devices_of
from nestlab.wire.qmp import Monitor

OLDEST = (8, 2, 0)
"""The first QEMU that writes its state to a file by itself."""

MAPPED = (9, 0, 0)
"""The first with `mapped-ram`."""

Way = Literal["plain", "mapped"]

LOOK = 0.5
"""Seconds after which a migration is looked at that no event told of."""

IDLE = 120
"""Looks in a row that may see no progress."""

OVER = ("completed", "failed", "cancelled")

TURN = 0.05
"""Seconds between two looks at a migration that is being ended."""


def number(version: Mapping[str, Any]) -> tuple[int, int, int]:
    """The numbers in the answer to query-version."""
    found = version["qemu"]
    return found["major"], found["minor"], found["micro"]


def said(version: Mapping[str, Any]) -> str:
    """The version as a text, with that of the package: a distribution patches what it calls the same."""
    text = ".".join(map(str, number(version)))
    package = one_line(str(version.get("package", ""))[:80]).strip()
    return f"{text} {package}".strip()


async def version(monitor: Monitor) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await monitor.execute("query-version")
    return found


async def devices(monitor: Monitor) -> str:
    """The digest of its PCI devices and their places."""
    found = devices_of(await monitor.execute("query-pci"))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


async def way_of(monitor: Monitor, path: str) -> Way:
    """How this QEMU writes its state to a file. LabError where it cannot."""
    found = number(await version(monitor))
    if found < OLDEST:
        what = f"{path} runs in QEMU {'.'.join(map(str, found))}, which cannot write its memory to a file."
        raise LabError(what, hint="QEMU 8.2 or newer can. With --disk-only its disks are saved, and no memory.")
    return "mapped" if found >= MAPPED else "plain"


async def save(monitor: Monitor, path: str, file: str, way: Way) -> None:
    """Write the state of a machine that is paused; it stays paused. LabError where that fails."""
    await _prepare(monitor, way)
    await monitor.execute("migrate-set-parameters", max_bandwidth=1 << 40)
    await _over(monitor, path, lambda: monitor.execute("migrate", uri=f"file:{file}"), "saved")


async def load(monitor: Monitor, path: str, file: str, way: Way) -> None:
    """Load what was saved into a QEMU that waits for it, where the machine is paused then. LabError where it does not
    take it: that QEMU is of no use any more."""
    await _prepare(monitor, way)
    await _over(monitor, path, lambda: monitor.execute("migrate-incoming", uri=f"file:{file}"), "loaded")


async def resume(monitor: Monitor, path: str) -> None:
    """Let a machine go on that was paused to be saved, whatever became of that. LabError where it does not."""
    for _ in range(let_go.TURNS):
        migration = (await monitor.execute("query-migrate")).get("status", "")
        command = let_go.next_command(await monitor.status(), migration)
        if not command:
            return
        await monitor.execute(command)
        if command == "migrate_cancel":
            await asyncio.sleep(TURN)  # nothing tells when a QEMU has ended it
    raise LabError(f"{path} was paused, and does not go on.", hint=f"See `nestlab status`; `nestlab restart {path}`.")


async def _prepare(monitor: Monitor, way: Way) -> None:
    wanted = ["events", *(["mapped-ram", "multifd"] if way == "mapped" else [])]
    capabilities = [{"capability": name, "state": True} for name in wanted]
    await monitor.execute("migrate-set-capabilities", capabilities=capabilities)


async def _over(monitor: Monitor, path: str, begin: Callable[[], Awaitable[Any]], done: str) -> None:
    """Until a migration is over that `begin` begins. It is followed by QEMU's events, and looked at where none
    comes."""
    async with monitor.events("MIGRATION") as events:
        turned = asyncio.Event()
        listening = asyncio.ensure_future(_listen(events, turned))
        try:
            await begin()
            idle, before = 0, -1
            while True:
                found = await monitor.execute("query-migrate")
                status = found.get("status", "")
                if status == "completed":
                    return
                if status in OVER:
                    raise _failed(path, done, found.get("error-desc", ""))
                now = found.get("ram", {}).get("transferred", 0)
                idle, before = (idle + 1, before) if now == before else (0, now)
                if idle > IDLE:
                    raise _failed(path, done, "QEMU does not go on")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience.allowed(LOOK, 1.0)):
                        await turned.wait()
                turned.clear()
        except Unreachable as error:
            raise _failed(path, done, "its QEMU ended") from error
        finally:
            listening.cancel()


async def _listen(events: AsyncIterator[Mapping[str, Any]], turned: asyncio.Event) -> None:
    with contextlib.suppress(Exception):  # the next command tells what is wrong
        async for _ in events:
            turned.set()


def _failed(path: str, done: str, why: str) -> LabError:
    cause = one_line(str(why)[:300]).strip() or "QEMU does not say why"
    return LabError(f"The memory of {path} could not be {done}: {cause}.", hint="What QEMU said is in its qemu.log.")
