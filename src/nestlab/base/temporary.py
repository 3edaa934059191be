"""Directories that last as long as the process that made them: for sockets and for what other programs are to read.

The kernel says whether that process lives, by a lock on the directory; so what a killed nestlab left is known as such,
and whoever needs such a directory next removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PREFIX = "nestlab-run-"

_NAME = re.compile(f"{PREFIX}[a-z0-9_]{{8}}")
"""As mkdtemp makes them."""

LONGEST = 60
"""Characters of the directory for temporary files, beyond which it is /tmp: the paths of sockets have at most 107."""


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """A new directory, its user's alone (0700), with a path that is short enough for sockets in it. It goes when the
    context is left; what was left by processes that were killed goes first."""
    _swept()
    place, held = _made()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def abandoned() -> list[Path]:
    """Those of this user whose processes are gone. Looks only."""
    found = []
    for path in _all():
        held = _held(path)
        if held is not None:
            os.close(held)
            found.append(path)
    return found


def sweep() -> None:
    """Remove them. What cannot be removed stays."""
    for path in _all():
        held = _held(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


@cache
def _swept() -> None:
    """Once in a process."""
    sweep()


def _top() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST else "/tmp"


def _made() -> tuple[str, int]:
    """A new directory, and the descriptor that holds it."""
    while True:
        place = tempfile.mkdtemp(prefix=PREFIX, dir=_top())
        held = _held(Path(place))
        if held is not None:
            return place, held  # else somebody swept it before it was held


def _all() -> Iterator[Path]:
    for top in dict.fromkeys((_top(), "/tmp")):
        with contextlib.suppress(OSError):
            yield from sorted(each for each in Path(top).iterdir() if _NAME.fullmatch(each.name))


def _held(path: Path) -> int | None:
    """A descriptor that holds the directory, until it is closed or its process ends. None where another one holds it,
    or it is no such directory of this user's: a link, somebody else's, or one that others may enter."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status, now = os.fstat(held), path.lstat()
        same = (status.st_dev, status.st_ino) == (now.st_dev, now.st_ino)
        if same and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077:
            return held
    except OSError:
        pass
    os.close(held)
    return None
