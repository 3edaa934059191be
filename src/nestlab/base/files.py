"""Local files, replaced whole or not at all, also where the power goes: the one door through which state is written.

What is written goes to a new file beside the old one, with its mode from the start; it is synced, renamed, and the
directory synced (fsync(2): a file's own fsync does not reach the entry in its directory). So after a power cut every
file is the old one or the new one. `tests/test_one_door.py` holds that nothing else writes state.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from shutil import disk_usage
from typing import TypeVar

from nestlab.base.errors import LabError

T = TypeVar("T")

FICLONE = 0x40049409
"""linux/fs.h: share the extents of another file, where the filesystem can (btrfs, XFS)."""

CHUNK = 1 << 24

AT_ONCE = 16
"""Files that are synced at the same time: a file system with a journal makes one commit of them."""

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""What fsync says where a file system does not have it, as of directories on some network file systems."""


def replace(path: Path, data: bytes, mode: int, *, synced: bool = True) -> None:
    """Replace a file by `data`, made with `mode`; missing parents are made with 0700. LabError if that fails.

    `synced`: when it returns, it is on the disk. Without that the file may be empty after a power cut: for what is
    worked out again then."""
    replace_all({path: (data, mode)}, synced=synced)


def replace_all(files: Mapping[Path, tuple[bytes, int]], *, synced: bool = True) -> None:
    """`replace` for several files, hardly slower than for one. If it fails, or the power goes, each is the old one or
    the new one."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(_New(path, mode)) for path, (_, mode) in files.items()]
        for new, (data, _) in zip(made, files.values(), strict=True):
            new.write(data)
        _put(made, synced=synced)


def replace_changed(files: Mapping[Path, tuple[bytes, int]]) -> None:
    """`replace_all` for those of the files that are not so already: on a full disk, what is as it should be stays
    usable. LabError if that fails."""
    changed = {}
    for path, (data, mode) in files.items():
        same = False
        with contextlib.suppress(OSError):
            same = path.read_bytes() == data
        if not same:
            changed[path] = (data, mode)
    if changed:
        replace_all(changed)


def create(path: Path, data: bytes, mode: int) -> bool:
    """Make a file that is not there, whole and synced, as `replace` does; False, and nothing done, where there is one:
    of several who want to make it, one does."""
    with _New(path, mode) as new:
        new.write(data)
        with _told(path):
            new.sync()
            try:
                os.link(new.temporary, path)
            except FileExistsError:
                return False
            sync_folder(path.parent)
    return True


def fill(source: Path, path: Path, mode: int, *, synced: bool = True) -> None:
    """Replace a file by a copy of `source`: shared where the filesystem can, else with its holes. LabError if that
    fails. `synced`: see `replace`."""
    with _New(path, mode) as new:
        with _told(path):
            original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                try:
                    fcntl.ioctl(new.descriptor, FICLONE, original)
                except OSError:
                    _copy(original, new.descriptor)
            finally:
                os.close(original)
        _put([new], synced=synced)


def append(path: Path, data: bytes, mode: int) -> None:
    """Add to a file that others write too (made with `mode` if it is not there), and sync it: all of it, or nothing.
    OSError if that fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write(descriptor, data)
            _sync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder; when it returns, that is on the disk. OSError if it fails."""
    os.rename(source, target)  # noqa: PTH104
    for folder in dict.fromkeys((target.parent, source.parent)):
        sync_folder(folder)


def publish(partial: Path, folder: Path) -> None:
    """Rename a folder once all that is in it is on the disk, and then the new name. OSError if it fails."""
    sync_file_system(partial)
    move(partial, folder)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Like mkdir -p, every directory made with `mode`, and on the disk when it returns. OSError if it fails."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=mode, exist_ok=True)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. OSError if that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(place: Path) -> None:
    """Bring all of the file system that a folder is on to the disk: quicker than thousands of files one by one
    (syncfs(2)). OSError if that fails."""
    import ctypes

    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the new files that killed processes left in a folder; those that somebody writes now stay."""
    for path in folder.glob("*.????????.new"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def refused(what: str, error: OSError) -> LabError:
    """The error for something that could not be written: what (a sentence without its end), why, and what to do."""
    return LabError(f"{what}: {error.strerror}.", hint=hint_for(error))


def hint_for(error: OSError) -> str:
    """What to do about an error of writing."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room there, then run the same command again."
        case errno.EROFS:
            return "Its file system is read-only: see why (the kernel's messages), and mount it to be written."
        case errno.EIO:
            return "Its disk has errors: see the kernel's messages (dmesg), and what can still be copied from it."
    return "Check the directory, its owner and the free space."


class _New:
    """A new file beside the one that it replaces. Locked while it is written, so that `sweep` knows it from one that a
    killed process left; gone when the context is left, unless it was put in place."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.new")
        self.descriptor = -1
        self._mode = mode

    def __enter__(self) -> _New:
        with self.told():
            make_folder(self.path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            while self.descriptor < 0:
                self.descriptor = os.open(self.temporary, flags, 0o600)
                try:
                    with contextlib.suppress(OSError):
                        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
                    os.fchmod(self.descriptor, self._mode)
                except BaseException:
                    self.__exit__()
                    raise
                if not os.fstat(self.descriptor).st_nlink:  # somebody's `sweep` came before the lock
                    os.close(self.descriptor)
                    self.descriptor = -1
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(self.descriptor)

    def told(self) -> contextlib.AbstractContextManager[None]:
        return _told(self.path, self.temporary)

    def write(self, data: bytes) -> None:
        with self.told():
            _write(self.descriptor, data)

    def sync(self) -> None:
        _sync(self.descriptor)


def _put(made: list[_New], *, synced: bool = True) -> None:
    """Sync the new files, give them their names, and sync those."""
    if synced:
        _together(made, lambda new: new.path, _New.sync)
    for new in made:
        with new.told():
            os.rename(new.temporary, new.path)  # noqa: PTH104
    if synced:
        _together(dict.fromkeys(new.path.parent for new in made), lambda folder: folder, sync_folder)


def _together(each: Iterable[T], path: Callable[[T], Path], work: Callable[[T], None]) -> None:
    """Do the work for all, some at a time. LabError, of the first, if it failed."""
    todo = list(each)
    failed: list[tuple[Path, OSError]] = []

    def some(part: list[T]) -> None:
        for one in part:
            try:
                work(one)
            except OSError as error:
                failed.append((path(one), error))

    parts = [todo[at::AT_ONCE] for at in range(1, min(AT_ONCE, len(todo)))]
    threads = [threading.Thread(target=some, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    some(todo[::AT_ONCE])
    for thread in threads:
        thread.join()
    for where, error in failed:
        with _told(where):
            raise error


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


@contextlib.contextmanager
def _told(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """What the system says of it, as a LabError."""
    try:
        yield
    except OSError as error:
        known = (None, str(temporary), str(path))
        at = f" ({error.filename})" if error.filename is not None and str(error.filename) not in known else ""
        what = f"The file {path} cannot be written: {error.strerror}{at}."
        raise LabError(what, hint=hint_for(error)) from error


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


def disk_free(cache: Path) -> int | None:
    """Bytes free where images go; the directory itself may not be there yet."""
    for place in (cache, *cache.parents):
        if place.exists():
            return disk_usage(place).free
    return None
