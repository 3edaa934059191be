"""Who changes a lab now, as its lock file tells. Light to import: `status` asks it each time."""

from __future__ import annotations

import time
from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.base.locks import held
from nestlab.base.typed import parsed


@frozen
class Holder:
    """The holder of a lab's lock. `since` is seconds since the epoch."""

    pid: int
    verb: str
    since: float

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"`nestlab {self.verb}` (process {self.pid}, since {clock})"


def holder(path: Path) -> Holder | None:
    """The present holder of the lock, as far as it wrote itself down; None if nobody holds it."""
    try:
        return read(path) if held(path) else None
    except OSError:
        return None


def read(path: Path) -> Holder | None:
    """What the holder wrote; None while it is still writing."""
    try:
        data = parsed(path.read_text())
        return Holder(int(data["pid"]), str(data["verb"]), float(data["since"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
