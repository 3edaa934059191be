"""How slow the hosts of a lab were when they were measured last, kept in the lab's directory."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.files import replace
from nestlab.base.frozen import frozen
from nestlab.base.patience import SLOWEST
from nestlab.base.typed import parsed

FRESH = 3600.0
"""Seconds after which a host is measured again."""


@frozen
class Speed:
    """`slowness`: how many times slower than at full speed (`hosts.speed`); `at`: seconds since the epoch."""

    slowness: float
    at: float

    def fresh(self, now: float) -> bool:
        return 0 <= now - self.at < FRESH


class Speeds:
    """By path, "" for the lab's own host. A file that is not there, or damaged, says nothing; one that cannot be
    written is no reason to fail: speeds are measured again."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, Speed] | None = None

    def all(self) -> Mapping[str, Speed]:
        if self._known is None:
            self._known = _read(self._file) if self._file else {}
        return self._known

    def of(self, path: str) -> Speed | None:
        return self.all().get(path)

    def keep(self, path: str, slowness: float) -> None:
        """Remember what was just measured."""
        if self._file is not None:
            self._known = _read(self._file)  # another machine's may have been measured meanwhile
        known = self._known = {**self.all(), path: Speed(slowness, time.time())}
        if self._file is None or not self._file.parent.is_dir():
            return
        text = json.dumps({path: asdict(speed) for path, speed in known.items()})
        with suppress(LabError):
            replace(self._file, text.encode(), 0o600, synced=False)


def _read(file: Path) -> dict[str, Speed]:
    try:
        data = parsed(file.read_text(encoding="utf-8"))
        found = {str(path): Speed(float(each["slowness"]), float(each["at"])) for path, each in data.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {path: each for path, each in found.items() if 0 < each.slowness <= SLOWEST}
