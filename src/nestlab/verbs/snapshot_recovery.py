"""Ends what somebody began with a snapshot who is gone: whoever works on the lab next does that first.

What was paused for a snapshot goes on, and of the snapshot nothing is left. What was put in the lab's place and had not
loaded is taken away, and the lab is what it was, off; what had loaded goes on.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.typed import parsed
from nestlab.engines.qemu import let_go, scripts
from nestlab.engines.qemu.argv import name_of
from nestlab.home import snapshots as kept
from nestlab.home.directories import LabHome
from nestlab.lab.snapshots import PARKED
from nestlab.wire import proc

if TYPE_CHECKING:
    from nestlab.verbs.session import Session

Say = Callable[[str], None]


async def before(place: LabHome, say: Say) -> kept.Work | None:
    """End it as far as the lab's own host goes, before the lab is opened: what is left to do inside. For who has the
    lab's lock."""
    found = kept.work(place)
    if found is None:
        return None
    match found.verb:
        case "restore":
            say(f"restoring {found.name} was interrupted: the lab is put back to what it was, off")
            await roll_back(place, say)
            return None
        case "snapshot":
            await end_trial(place)
            if found.name in kept.names(place) and not found.park:
                kept.set_current(place, found.name)  # it was whole
                return found
            say(f"{'parking it' if found.park else f'snapshot {found.name}'} was interrupted: all goes on")
            if found.park and PARKED in kept.names(place):
                kept.remove(place, PARKED)
        case "going":
            if found.outer:
                say(f"restoring {found.name} was interrupted when all had loaded: it goes on")
            shutil.rmtree(place.root / kept.BEFORE, ignore_errors=True)
            kept.set_current(place, found.name)
    for path in found.outer:
        with suppress(LabError, OSError):  # it ended meanwhile
            await asyncio.to_thread(let_go.let_go, str(place.machine(path) / "qmp"), path)
    kept.sweep(place)
    return found


async def end_trial(place: LabHome) -> None:
    """End the QEMUs that a snapshot is tried with."""
    for making in sorted((place.root / kept.TRIAL).glob("m/*/making")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            path = str(parsed(making.read_text(encoding="utf-8"))["path"])
            await _kill(place, path, making.parent)


async def _kill(place: LabHome, path: str, directory: Path) -> None:
    """End the QEMU of a machine in that directory, if it runs."""
    words = ("sh", "-c", scripts.KILL, "kill", name_of(place.name, path), str(directory))
    await proc.run(words, check=False)


async def after(session: Session, found: kept.Work, say: Say) -> None:
    """The rest of it: what was paused inside hypervisors goes on."""
    from nestlab.verbs import inner_machines

    left = await inner_machines.let_go(session, found.inner)
    if left and _may_answer(session, left):
        say(f"still paused, for what they are in does not answer: {', '.join(left)}")
        kept.set_work(session.place, kept.Work("going", found.name, (), left))
        return
    kept.set_work(session.place, None)
    await session.look()


def _may_answer(session: Session, left: Sequence[str]) -> bool:
    """Whether what they are in runs at all."""
    outer = {path.partition("/")[0] for path in left}
    return any(path in outer and seen.state == "running" for path, seen in session.observed.machines.items())


async def roll_back(place: LabHome, say: Say) -> None:
    """The lab is what it was before it was to be restored; its machines are off. LabError where that fails."""
    before = place.root / kept.BEFORE
    found = kept.work(place)
    for path in found.outer if found is not None else ():
        await _kill(place, path, place.machine(path))
    try:
        if (before / "m").is_dir():
            shutil.rmtree(place.machines, ignore_errors=True)
            files.move(before / "m", place.machines)
        if before.is_dir():
            whole = (before / kept.MOVED).exists()
            for name in kept.PAPERS:
                if (before / name).exists():
                    files.move(before / name, place.root / name)
                elif whole:
                    (place.root / name).unlink(missing_ok=True)
        shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        raise files.refused(f"Lab {place.name} cannot be put back from {before}", error) from error
    kept.set_work(place, None)
