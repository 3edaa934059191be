"""Unpacks a tar stream from elsewhere beside its target, and puts it there whole by renames."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.hosts import archive as archives

if TYPE_CHECKING:
    import tarfile

Attributes = dict[Path, tuple[int, float]]
"""Mode and time of directories, by their path in the archive; set last, for a directory may forbid writing to it."""


class Unpacking:
    """To `target` as `cp -a` would: into it under `name` if it is a directory, else as it.

    `name` is that of the source, or `.` for the contents of a directory. Nothing is at the place, and nothing there
    is replaced, before all of the archive has come; then each file is, by a rename."""

    def __init__(self, target: str, name: str) -> None:
        self._target = target or "."
        self._name = name
        self._attributes: Attributes = {}
        self._stage: Path | None = None

    def run(self, stream: Any) -> None:
        """Unpack a binary stream. LabError for a member that would escape or is no file, directory or link, and where
        the place is not as it must be; EOFError if there is no archive at all."""
        place: Path | None = None
        try:
            place = self._unpack(stream)
            self._put(place)
        except OSError as error:
            what = f"{error.filename or self._target} cannot be written: {error.strerror or error}."
            raise LabError(what, hint="Check the directory and the free space.") from error
        finally:
            if self._stage is not None:
                shutil.rmtree(self._stage, ignore_errors=True)

    def _unpack(self, stream: Any) -> Path:
        """All members beside the place where they come to be, which is returned."""
        import tarfile

        place: Path | None = None
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=archives.BLOCK) as archive:
                for member in archive:
                    if place is None:
                        place = self._place(member)
                        folder = place if self._name == "." else place.parent
                        self._stage = folder / f".{os.urandom(4).hex()}.new"
                        self._stage.mkdir(0o700)
                    self._member(archive, member)
        except tarfile.ReadError as error:
            if place is None:
                raise EOFError from error
            raise archives.damaged(error) from error
        if place is None:
            raise EOFError
        return place

    def _place(self, first: tarfile.TarInfo) -> Path:
        """Where the copy comes to be."""
        target = Path(self._target)
        if self._name == ".":
            target.mkdir(parents=True, exist_ok=True)
            return target.resolve()
        if target.is_dir():
            return target.resolve() / self._name
        slash = self._target.endswith("/") and not first.isdir()
        folder = target if slash else target.resolve().parent
        if not folder.is_dir():
            raise LabError(f"There is no directory {folder} on this machine.", hint="Make it first.")
        if target.exists() and (first.isdir() or not target.is_file()):
            raise _occupied(target)
        return target.resolve()

    def _path(self, name: str) -> Path:
        """Where a member goes on the stage: below its top, by real directories alone."""
        parts = archives.parts(name)
        assert self._stage is not None
        path = self._stage / "all"
        for part in parts if self._name == "." else parts[1:]:
            if path.is_symlink():
                raise archives.escapes(name)
            path /= part
        return path

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        archives.kind(member)
        path = self._path(member.name)
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                path.mkdir(0o700)
            assert self._stage is not None
            self._attributes[path.relative_to(self._stage / "all")] = member.mode & archives.MODE, member.mtime
            return
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            os.link(self._path(member.linkname), path, follow_symlinks=False)
        else:
            self._file(archive, member, path)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        source = archive.extractfile(member)
        assert source is not None
        with path.open("xb") as file:
            os.fchmod(file.fileno(), member.mode & archives.MODE)
            for data in archives.blocks(source):
                file.write(data)
        os.utime(path, (member.mtime, member.mtime))

    def _put(self, place: Path) -> None:
        """What is on the stage comes to its place."""
        assert self._stage is not None
        top = self._stage / "all"
        if top.is_dir() and not top.is_symlink():
            _merge(top, place)
        elif place.is_dir() and not place.is_symlink():
            raise _occupied(place)
        else:
            top.replace(place)
        for path, (mode, time) in reversed(self._attributes.items()):
            with contextlib.suppress(FileNotFoundError):
                (place / path).chmod(mode)
                os.utime(place / path, (time, time))


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
