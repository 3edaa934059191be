"""A lab's lock: one nestlab at a time changes a lab. The kernel holds it, so a holder that dies blocks nobody."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from nestlab.base.errors import Busy, LabError
from nestlab.home.lock_holder import Holder, holder, read

__all__ = ["Holder", "held", "holder"]

_FIRST, _LONGEST = 0.05, 0.5
"""Seconds between attempts, growing: flock cannot be awaited."""


@asynccontextmanager
async def held(
    path: Path, lab: str, verb: str, *, wait: float | None = None, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Callable[[], bool]]:
    """Hold the lock file `path` of a lab while the context is open. What it gives tells whether that file is still
    the one at `path`: if not, the lab was removed while this one waited, and the lock protects nothing.

    Somebody else has it: `say` tells who, and after `wait` seconds (None: however long it takes; 0: at once) Busy.
    LabError when the file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise LabError(f"{path} cannot be opened: {error.strerror}.", hint="Whose directory is it?") from error
    try:
        await _acquire(descriptor, path, lab, wait, say)
        _note(descriptor, json.dumps(asdict(Holder(os.getpid(), verb, time.time()))))
        try:
            yield lambda: _is_at(descriptor, path)
        finally:
            _note(descriptor, "")
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))  # noqa: PTH116
    except OSError:
        return False


async def _acquire(descriptor: int, path: Path, lab: str, wait: float | None, say: Callable[[str], None]) -> None:
    until = None if wait is None else time.monotonic() + wait
    pause = _FIRST
    told: Holder | None = None
    tried = 0
    while True:
        tried += 1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = read(path)
        else:
            return
        # `holder` locks for an instant to look: whoever is not named is asked twice
        if until is not None and time.monotonic() >= until and (who is not None or tried > 1):
            hint = "Wait until it is done, or end it: what it did stays, and `nestlab up` goes on from there."
            raise Busy(f"{who or 'Another nestlab'} is at work on lab {lab}.", hint=hint)
        if who is not None and who != told:
            say(f"waiting for {who}")
            told = who
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * 1.5)


def _note(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):  # on a full disk the lock still holds, only nobody can say whose it is
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
