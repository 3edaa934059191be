"""Answers of a Proxmox VE that need not be asked for twice: tags, and the lock on the SDN.

Nothing here is true by itself. A mark is believed only while a machine has the tag with its digest; the token is only
good to give a lock back that a killed nestlab left behind.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nestlab.base.errors import LabError
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
        self._owner = 0
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
        self._keep()

    @property
    def token(self) -> str:
        """Of a lock on the SDN that is held, or was when nestlab was killed."""
        return self._token

    @token.setter
    def token(self, value: str) -> None:
        if value != self._token:
            self._token, self._owner = value, os.getpid()
            self._keep()

    @property
    def left_behind(self) -> str:
        """The token of a lock that nobody holds any more; "" where there is none, or its holder may be at work."""
        other = self._owner not in (0, os.getpid()) and _lives(self._owner)
        return "" if other else self._token

    def _load(self, path: Path) -> None:
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            found = (tags.of_line(line) for line in data["marks"])
            self._marks = {tags.stamp(mark): mark for mark in found if mark is not None}
            self._token, self._owner = str(data.get("token", "")), int(data.get("owner", 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._marks, self._token, self._owner = {}, "", 0

    def _keep(self) -> None:
        if self._path is None:
            return
        lines = [tags.line(mark) for mark in self._marks.values()]
        text = json.dumps({"marks": lines, "token": self._token, "owner": self._owner})
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(self._path)
        except FileNotFoundError:
            return  # the lab's directory is gone, and nothing needs remembering
        except OSError as error:
            what = f"{self._path} cannot be written: {error.strerror}."
            raise LabError(what, hint="Is the disk full?") from error


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
