"""Directories of the cache: each made once, whole or not at all, however many processes want it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from nestlab.base import files, processes
from nestlab.base.events import Say

_POLL = 0.2


@contextlib.asynccontextmanager
async def making(folder: Path, say: Say, what: str = "") -> AsyncIterator[Path | None]:
    """Holds the lock of `folder` and yields an empty folder to fill, or None if `folder` is there already.

    It, and what it is in, is for its owner alone.
    What was filled becomes `folder` when the block ends well, in one rename, once all of it is on the disk; otherwise
    it is removed. What a killed process left is removed first. The lock belongs to the process: the kernel drops it
    with its holder. Those that wait for it are told `what` another one makes.
    """
    private(folder.parent)
    async with _locked(_lock_of(folder), what or folder.name[:12], say):
        if os.path.lexists(folder):
            yield None
            return
        partial = _partial_of(folder)
        await _abandoned(partial, say)
        remove(partial)
        partial.mkdir(mode=0o700)
        try:
            yield partial
            await asyncio.to_thread(files.publish, partial, folder)
        finally:
            remove(partial)


def private(folder: Path) -> None:
    """Makes a folder that its owner alone may enter: files of a lab, which may be secrets, are in images."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_mode & 0o077 and status.st_uid == os.geteuid():
        folder.chmod(0o700)


@contextlib.asynccontextmanager
async def alone(path: Path, what: str, say: Say) -> AsyncIterator[None]:
    """Holds the lock file `path`: one process at a time is in the block. Those that wait are told `what` is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(path, what, say):
        yield


@contextlib.contextmanager
def working(folder: Path) -> Iterator[int]:
    """Marks `folder` as worked in, while the block runs and for as long as a process that inherits the descriptor."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


ELSEWHERE = ".elsewhere"
"""The file, in a folder that is being made, which names a directory elsewhere that is made for it."""

PREFIX = "nestlab-"
"""How the name of such a directory begins."""


def note(folder: Path, place: Path) -> None:
    """Keep, until the folder is whole, that a directory of nestlab's elsewhere goes with it when it is removed. It is
    known again by its device and inode: what else has its name by then is not nestlab's."""
    found = place.lstat()
    files.replace(folder / ELSEWHERE, f"{found.st_dev} {found.st_ino} {place}".encode(), 0o600, synced=False)


def elsewhere(folder: Path) -> Path | None:
    """The directory that was noted, if it is still the same."""
    with contextlib.suppress(OSError, ValueError):
        device, inode, place = (folder / ELSEWHERE).read_text().split(" ", 2)
        there = Path(place)
        found = there.lstat()
        same = (found.st_dev, found.st_ino) == (int(device), int(inode))
        if same and stat.S_ISDIR(found.st_mode) and there.name.startswith(PREFIX):
            return there
    return None


async def _abandoned(partial: Path, say: Say) -> None:
    """Waits until nobody works in it any more: what a killed nestlab started ends a moment after it."""
    told = False
    while _worked_in(partial):
        if not told:
            say("waiting: what an interrupted nestlab started is still ending")
            told = True
        await asyncio.sleep(_POLL)


def _worked_in(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Removes a folder, all in it, and what is elsewhere for it; absence is fine. Renamed first, so that nobody finds
    half of it."""
    if not folder.exists():
        return
    if (place := elsewhere(folder)) is not None:
        shutil.rmtree(place, ignore_errors=True)  # first: a folder without it would no longer tell of it
    doomed = folder.with_name(f".{folder.name.lstrip('.')}.removed-{processes.mark()}")
    files.move(folder, doomed)  # on the disk before anything in it goes: no half of it after a power cut
    shutil.rmtree(doomed)


def left_behind(parent: Path) -> list[Path]:
    """What killed processes left in `parent`: unfinished folders, and those half removed. What a living process is
    making is not among it."""
    found = []
    for lock in sorted(parent.glob(".*.lock")):
        partial = lock.with_name(f"{lock.name.removesuffix('.lock')}.partial")
        with _try_lock(lock) as mine:
            if mine and partial.exists() and not _worked_in(partial):
                found.append(partial)
    doomed = parent.glob(".*.removed-*")
    return [*found, *sorted(each for each in doomed if not processes.lives(each.name.rpartition("-")[2]))]


def sweep_one(path: Path) -> None:
    """Removes what `left_behind` found, unless somebody works in it now."""
    if not path.name.endswith(".partial"):
        shutil.rmtree(path, ignore_errors=True)
        return
    lock = path.with_name(f"{path.name.removesuffix('.partial')}.lock")
    with _try_lock(lock) as mine:
        if mine and not _worked_in(path):
            remove(path)
            lock.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Removes what killed processes left in `parent`, with the locks of what nobody makes; what a living process is
    making stays."""
    for left in left_behind(parent):
        sweep_one(left)
    for lock in parent.glob(".*.lock"):
        with _try_lock(lock) as mine:
            if mine and not _worked_in(lock.with_name(f"{lock.name.removesuffix('.lock')}.partial")):
                lock.unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _partial_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # A sweep may have removed the file between open and flock: then the lock protects nothing.
        yield path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def _locked(path: Path, name: str, say: Say) -> AsyncIterator[None]:
    told = False
    while True:
        with _try_lock(path) as mine:
            if mine:
                yield
                return
        if not told:
            say(f"waiting: another process is making {name}")
            told = True
        await asyncio.sleep(_POLL)
