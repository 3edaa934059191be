"""Who holds the pid file of a process in the background (`network.daemon`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.base.locks import held

LONGEST = 20
"""Bytes of a number in such a file."""


@frozen
class Holder:
    """A process. `descriptor`: its pidfd, so that a signal goes to this very process."""

    pid: int
    descriptor: int


def number(path: Path) -> int | None:
    """The process that wrote itself into a pid file, whether it is still there or not."""
    try:
        with path.open("rb") as file:
            found = int(file.read(LONGEST))
    except (OSError, ValueError):
        return None
    return found if found > 0 else None


@contextmanager
def holder(path: Path) -> Iterator[Holder | None]:
    """The process that holds a pid file; None where nobody does. It is looked at while its pidfd is open."""
    pid, found = number(path), None
    if pid is not None:
        with suppress(OSError):
            found = Holder(pid, os.pidfd_open(pid))
    try:
        yield found if found is not None and held(path) and number(path) == pid else None
    finally:
        if found is not None:
            os.close(found.descriptor)
