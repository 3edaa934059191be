"""Files that somebody else named: only regular files on a disk are read, of bounded size, and nothing that waits."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KERNEL = ("/proc", "/sys")
"""Filesystems whose files the kernel makes as they are read (proc(5), sysfs(5)): they may wait, never end, or hold what
belongs to this process, such as its environment."""


def check(path: Path) -> os.stat_result:
    """The status of a regular file. OSError, whose `strerror` says why, for anything else; nothing is opened."""
    status = path.stat()
    if (kind := _kind(status.st_mode)) is not None:
        raise OSError(errno.EISDIR if kind == "a directory" else errno.EINVAL, f"it is {kind}", str(path))
    real = os.path.realpath(path)
    if real.startswith(tuple(f"{each}/" for each in _KERNEL)) or status.st_dev in _devices():
        raise OSError(errno.EINVAL, "it is made by the kernel, and no file on a disk", str(path))
    return status


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor to read a regular file. OSError as by `check`. What takes the file's place meanwhile is opened
    without waiting for it, and refused."""
    check(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file any more", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes. OSError as by `check`, and for a larger file."""
    with opened(path) as descriptor:
        if os.fstat(descriptor).st_size > most:
            raise _too_large(path, most)
        parts, size = [], 0
        while part := os.read(descriptor, min(1 << 20, most + 1 - size)):
            parts.append(part)
            size += len(part)
            if size > most:
                raise _too_large(path, most)
        return b"".join(parts)


def _too_large(path: Path, most: int) -> OSError:
    limit = f"{most >> 20} MiB" if most >> 20 else f"{most >> 10} KiB"
    return OSError(errno.EFBIG, f"it has more than {limit}", str(path))


def _kind(mode: int) -> str | None:
    """What it is instead of a regular file; None if it is one."""
    kinds = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO, and no file"),
        (stat.S_ISSOCK, "a socket, and no file"),
        (stat.S_ISCHR, "a device, and no file"),
        (stat.S_ISBLK, "a device, and no file"),
    )
    return next((name for holds, name in kinds if holds(mode)), None)


def _devices() -> set[int]:
    found = set()
    for each in _KERNEL:
        try:
            found.add(Path(each).stat().st_dev)
        except OSError:
            continue
    root = Path("/").stat().st_dev
    return found - {root}
