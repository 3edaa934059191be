"""Answers of a Proxmox VE that need not be asked for twice: tags, and the lock on the SDN.

Nothing here is true by itself. A mark is believed only while a machine has the tag with its digest; the token is only
good to give a lock back that a killed nestlab left behind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nestlab.base import processes
from nestlab.base.files import replace
from nestlab.base.typed import parsed
from nestlab.engines.pve import tags
from nestlab.engines.pve.tags import Mark

MOST = 4000
"""Marks that are kept."""


class Memory:
    """Kept in a file of the lab's directory, if one is given; a file that is gone or spoilt is an empty one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._marks: dict[str, Mark] = {}
        self._token = ""
        self._owner = ""
        if path is not None:
            self._load(path)

    def mark(self, stamp: str, vmid: int) -> Mark | None:
        """The mark of a machine that has this stamp among its tags; None: it must be read."""
        mark = self._marks.get(stamp)
        return mark if mark is not None and mark.vmid == vmid else None

    def learn(self, *found: Mark) -> None:
        new = {tags.stamp(mark): mark for mark in found}
        if new.keys() <= self._marks.keys():
            return
        self._marks = dict(list((self._marks | new).items())[-MOST:])
        self._keep(synced=False)

    @property
    def token(self) -> str:
        """Of a lock on the SDN that is held, or was when nestlab was killed."""
        return self._token

    @token.setter
    def token(self, value: str) -> None:
        if value != self._token:
            self._token, self._owner = value, processes.mark()
            self._keep(synced=True)

    @property
    def left_behind(self) -> str:
        """The token of a lock that nobody holds any more; "" where there is none, or its holder may be at work."""
        other = self._owner != processes.mark() and processes.lives(self._owner)
        return "" if other else self._token

    def _load(self, path: Path) -> None:
        try:
            data: Any = parsed(path.read_text(encoding="utf-8"))
            found = (tags.of_line(line) for line in data["marks"])
            self._marks = {tags.stamp(mark): mark for mark in found if mark is not None}
            self._token, self._owner = str(data.get("token", "")), str(data.get("owner", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._marks, self._token, self._owner = {}, "", ""

    def _keep(self, *, synced: bool) -> None:
        if self._path is None:
            return
        lines = [tags.line(mark) for mark in self._marks.values()]
        text = json.dumps({"marks": lines, "token": self._token, "owner": self._owner})
        if self._path.parent.is_dir():  # else the lab is gone, and nothing needs remembering
            replace(self._path, text.encode(), 0o600, synced=synced)
