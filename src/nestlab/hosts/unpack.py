"""Unpacks a tar stream from elsewhere beside its target, and puts it there whole by renames."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.hosts.archive import MODE

if TYPE_CHECKING:
    import tarfile

    from nestlab.hosts.tar_members import Members

Attributes = dict[str, tuple[int, float]]
"""Mode and time of directories, by their path in the archive; set last, for a directory may forbid writing to it."""

FREE = 64 << 20
"""Bytes that stay free on the disk that is written to."""

LOOK = 64 << 20
"""Bytes between two looks at how much is free."""


class Unpacking:
    """To `target` as `cp -a` would: into it under `name` if it is a directory, else as it.

    `name` is that of the source, or `.` for the contents of a directory. Nothing is at the place, and nothing there
    is replaced, before all of the archive has come; then each file is, by a rename. Nothing is written through a link
    that the archive brings, in this copy or a later one to the same place."""

    def __init__(self, target: str, name: str) -> None:
        self._target = target or "."
        self._name = name
        self._attributes: Attributes = {}
        self._stage: Path | None = None
        self._written = 0

    def run(self, stream: Any) -> None:
        """Unpack a binary stream. LabError for a member that would escape or is no file, directory or link, and where
        the place is not as it must be; EOFError if there is no archive at all."""
        place: Path | None = None
        try:
            place = self._unpack(stream)
            self._put(place)
        except OSError as error:
            from nestlab.hosts.tar_members import shown

            name = shown(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else self._target
            what = f"{name} cannot be written: {error.strerror or error}."
            raise LabError(what, hint="Check the directory and the free space.") from error
        finally:
            if self._stage is not None:
                shutil.rmtree(self._stage, ignore_errors=True)

    def _unpack(self, stream: Any) -> Path:
        """All members beside the place where they come to be, which is returned."""
        from nestlab.hosts import tar_members

        place: Path | None = None
        with tar_members.members(stream) as members:
            for member in members:
                if place is None:
                    place = self._place(member)
                    folder = place if self._name == "." else place.parent
                    self._stage = folder / f".{os.urandom(4).hex()}.new"
                    self._stage.mkdir(0o700)
                self._member(members, member)
        if place is None:
            raise EOFError
        return place

    def _place(self, first: tarfile.TarInfo) -> Path:
        """Where the copy comes to be."""
        target = Path(self._target)
        real = Path(os.path.realpath(target))
        if self._name == ".":
            target.mkdir(parents=True, exist_ok=True)
            return Path(os.path.realpath(target))
        if target.is_dir():
            return real / self._name
        slash = self._target.endswith("/") and not first.isdir()
        folder = target if slash else real.parent
        if not folder.is_dir():
            raise LabError(f"There is no directory {folder} on this machine.", hint="Make it first.")
        if target.exists() and (first.isdir() or not target.is_file()):
            raise _occupied(target)
        return real

    def _path(self, name: str) -> Path:
        """Where a member goes on the stage: below its top, by real directories alone."""
        from nestlab.hosts.tar_members import escapes, parts

        found = parts(name)
        assert self._stage is not None
        path = self._stage / "all"
        for part in found if self._name == "." else found[1:]:
            if path.is_symlink():
                raise escapes(name)
            path /= part
        return path

    def _member(self, members: Members, member: tarfile.TarInfo) -> None:
        from nestlab.hosts.tar_members import escapes

        path = self._path(member.name)
        assert self._stage is not None
        top = self._stage / "all"
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                path.mkdir(0o700)
            self._attributes[str(path.relative_to(top))] = member.mode & MODE, member.mtime
            return
        if path == top and (member.issym() or self._name == "."):
            raise escapes(member.name)  # what is copied is no link: one would lead a later copy elsewhere
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            os.link(self._path(member.linkname), path, follow_symlinks=False)
        else:
            self._file(members, member, path)

    def _file(self, members: Members, member: tarfile.TarInfo, path: Path) -> None:
        """A file; the holes of a sparse one stay holes."""
        with path.open("xb") as file:
            os.fchmod(file.fileno(), member.mode & MODE)
            end = 0
            for at, data in members.content(member):
                if at != end:
                    file.seek(at)
                file.write(data)
                end = at + len(data)
                self._count(len(data))
            if member.issparse():
                file.truncate(member.size)
        os.utime(path, (member.mtime, member.mtime))

    def _count(self, size: int) -> None:
        """LabError when the disk is almost full: nobody knows how much will come."""
        before, self._written = self._written, self._written + size
        if before // LOOK == self._written // LOOK:
            return
        assert self._stage is not None
        if shutil.disk_usage(self._stage).free < FREE:
            what = f"The disk of {self._stage.parent} is almost full: {FREE >> 20} MiB stay free."
            raise LabError(what, hint="Make room there, or copy less. Nothing was copied.")

    def _put(self, place: Path) -> None:
        """What is on the stage comes to its place."""
        assert self._stage is not None
        top = self._stage / "all"
        if top.is_dir() and not top.is_symlink():
            _fits(top, place)
            _merge(top, place)
        elif place.is_dir() and not place.is_symlink():
            raise _occupied(place)
        else:
            top.replace(place)
        for path, (mode, time) in reversed(self._attributes.items()):
            with contextlib.suppress(FileNotFoundError), _directory(place / path) as found:
                os.chmod(found, mode)  # noqa: PTH101 - by descriptor
                os.utime(found, (time, time))


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[str]:
    """A name of this very directory, whatever is put in its place meanwhile."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _fits(source: Path, place: Path) -> None:
    """LabError if something is in the way of a directory's content, before anything of it is moved."""
    if not os.path.lexists(place):
        return
    if place.is_symlink() or not place.is_dir():
        raise _occupied(place)
    for each in source.iterdir():
        there = place / each.name
        if each.is_dir() and not each.is_symlink():
            _fits(each, there)
        elif there.is_dir() and not there.is_symlink():
            raise _occupied(there)


def _merge(source: Path, place: Path) -> None:
    """A directory comes to its place by a rename, or its entries into the directory that is there."""
    if not os.path.lexists(place):
        source.rename(place)
        return
    if place.is_symlink() or not place.is_dir():
        raise _occupied(place)
    for each in sorted(source.iterdir()):
        there = place / each.name
        if each.is_dir() and not each.is_symlink():
            _merge(each, there)
        elif there.is_dir() and not there.is_symlink():
            raise _occupied(there)
        else:
            each.replace(there)


def _occupied(place: Path) -> LabError:
    return LabError(f"{place} is something else already.", hint="Choose another name.")
