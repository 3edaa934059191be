"""Local files, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage

from nestlab.base.errors import LabError

FICLONE = 0x40049409
"""linux/fs.h: share the extents of another file, where the filesystem can (btrfs, XFS)."""

CHUNK = 1 << 24


def replace(path: Path, data: bytes, mode: int) -> None:
    """Replace a file by `data`, made with `mode`; missing parents are made with 0700. LabError if that fails."""
    with _replacing(path, mode) as descriptor:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def fill(source: Path, path: Path, mode: int) -> None:
    """Replace a file by a copy of `source`: shared where the filesystem can, else with its holes. LabError if that
    fails."""
    with _replacing(path, mode) as target:
        original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                fcntl.ioctl(target, FICLONE, original)
                return
            _copy(original, target)
        finally:
            os.close(original)


def _copy(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.truncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            count = os.copy_file_range(source, target, min(CHUNK, end - at), at, at)
            if not count:
                return  # it shrank meanwhile
            at += count


@contextlib.contextmanager
def _replacing(path: Path, mode: int) -> Iterator[int]:
    """A descriptor to write the new file to; it takes its place when the context ends well."""
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.new")
    try:
        _parents(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
            os.fchmod(descriptor, mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        at = f" ({error.filename})" if error.filename not in (None, str(temporary), str(path)) else ""
        hint = "Check the directory, its owner and the free space."
        raise LabError(f"The file {path} cannot be written: {error.strerror}{at}.", hint=hint) from error


def _parents(folder: Path) -> None:
    """Like mkdir -p, every directory made with 0700."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def disk_free(cache: Path) -> int | None:
    """Bytes free where images go; the directory itself may not be there yet."""
    for place in (cache, *cache.parents):
        if place.exists():
            return disk_usage(place).free
    return None
