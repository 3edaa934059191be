"""The machines inside hypervisors stand still while a snapshot is taken of the outermost ones.

What a virtual CPU is doing inside a guest cannot always be loaded again: of states that were saved while one ran inside
a nested guest, about half were refused (docs/snapshots.md). So the QEMUs inside are paused by their own monitors,
deepest first, and go on, outermost first, when all is saved or loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nestlab.base.errors import LabError
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.lab.model import level_of, parent_of, within
from nestlab.verbs.session import Session


def running(session: Session) -> tuple[str, ...]:
    """The virtual machines that run inside others, deepest first. LabError where what is inside one that runs cannot be
    told."""
    found = []
    for path, seen in session.observed.machines.items():
        if level_of(path) < 2:
            continue
        outer = session.observed.machines.get(parent_of(path))
        if seen.state == "unknown" and outer is not None and outer.state == "running":
            what = f"Whether {path} runs cannot be told: {seen.why or f'{parent_of(path)} does not answer'}."
            raise LabError(what, hint="With --disk-only its disks are saved all the same, and no memory.")
        if seen.state == "running" and seen.accel != "container":
            found.append(path)
    return tuple(sorted(found, key=lambda path: (-level_of(path), path)))


def guests(session: Session) -> tuple[str, ...]:
    """The virtual machines that run right inside the outermost ones."""
    seen = session.observed.machines
    return tuple(
        path
        for path, each in seen.items()
        if level_of(path) == 2 and each.state == "running" and each.accel != "container"
    )


async def check(session: Session, paths: Sequence[str]) -> None:
    """LabError where one of them cannot be paused."""
    for parent in sorted({parent_of(path) for path in paths}):
        if not isinstance(await session.nest.engine(parent), QemuEngine):
            inside = ", ".join(path for path in paths if parent_of(path) == parent)
            what = f"What runs inside {parent} cannot be paused by nestlab: {inside}."
            hint = "With --stop-guests it is stopped for the snapshot, and started again; with --disk-only no memory"
            raise LabError(what, hint=f"{hint} is saved.")


async def pause(session: Session, paths: Sequence[str]) -> None:
    """Pause these machines, deepest first. LabError where one cannot be; some may be paused then.

    Nobody is connected to their monitors when this returns: such a connection would be saved with what is around it,
    and a monitor talks to one at a time."""
    for level in _levels(paths):

        async def one(path: str) -> None:
            engine = await session.nest.engine(parent_of(path))
            assert isinstance(engine, QemuEngine)
            async with engine.monitor(path) as monitor:
                await monitor.execute("stop")

        await asyncio.gather(*map(one, level))


@asynccontextmanager
async def paused(session: Session, paths: Sequence[str]) -> AsyncIterator[list[str]]:
    """These machines stand still while the context is open, and go on after. LabError where one cannot be paused. What
    it gives has then those that do not go on, for what they are in does not answer."""
    left: list[str] = []
    try:
        await pause(session, paths)
        yield left
    finally:
        left += await let_go(session, paths)


async def let_go(session: Session, paths: Sequence[str]) -> tuple[str, ...]:
    """Let machines go on that were paused, outermost first. Those that could not be asked, with what is inside them."""
    left: list[str] = []
    for level in reversed(_levels(paths)):

        async def one(path: str) -> None:
            if any(within(path, each) for each in left):
                left.append(path)
                return
            try:
                engine = await session.nest.engine(parent_of(path))
                if isinstance(engine, QemuEngine):
                    async with engine.monitor(path) as monitor:
                        if await monitor.status() == "paused":
                            await monitor.execute("cont")
            except (LabError, OSError):
                left.append(path)

        await asyncio.gather(*map(one, level))
    return tuple(left)


def _levels(paths: Sequence[str]) -> list[list[str]]:
    """By level, deepest first."""
    found: dict[int, list[str]] = {}
    for path in paths:
        found.setdefault(level_of(path), []).append(path)
    return [found[level] for level in sorted(found, reverse=True)]
