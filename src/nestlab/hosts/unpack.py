"""Unpacks a tar stream from elsewhere: nothing is written outside its target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError

if TYPE_CHECKING:
    import tarfile

BLOCK = 1 << 18
MODE = 0o1777
"""Mode bits that are kept: not set-user-ID and set-group-ID, which a guest must not give to a file of ours."""


class Unpacking:
    """To `target` as `cp -a` would: into it under `name` if it is a directory, else as it.

    `name` is that of the source, or `.` for the contents of a directory."""

    def __init__(self, target: str, name: str) -> None:
        self._target = target or "."
        self._name = name
        self._modes: list[tuple[Path, int, float]] = []
        self._root: Path | None = None

    def run(self, stream: Any) -> None:
        """Unpack a binary stream. LabError for a member that would escape or is no file, directory or link, and where
        the place is not as it must be; EOFError if there is no archive at all."""
        import tarfile

        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as archive:
                for member in archive:
                    self._root = self._root or self._place(member)
                    self._member(archive, member)
        except tarfile.ReadError as error:
            if not self._root:
                raise EOFError from error
            raise LabError(f"The archive is damaged: {error}.", hint="Copy it again.") from error
        except OSError as error:
            what = f"{error.filename or self._target} cannot be written: {error.strerror or error}."
            raise LabError(what, hint="Check the directory and the free space.") from error
        for path, mode, time in reversed(self._modes):  # of directories: a directory may forbid writing to it
            path.chmod(mode)
            os.utime(path, (time, time))

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
            raise LabError(f"{target} is something else already.", hint="Choose another name.")
        return target.resolve()

    def _path(self, name: str) -> Path:
        """Where a member goes: below the root, by real directories alone."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise _escape(name)
        assert self._root is not None
        path = self._root
        for part in parts if self._name == "." else parts[1:]:
            if path.is_symlink():
                raise _escape(name)
            path /= part
        return path

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                path.mkdir(0o700)
            self._modes.append((path, member.mode & MODE, member.mtime))
            return
        if not (member.isreg() or member.issym() or member.islnk()):
            what = f"{member.name} is neither file, directory nor link: it is not copied."
            raise LabError(what, hint="Copy what is beside it by name.")
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
            os.fchmod(file.fileno(), member.mode & MODE)
            while data := source.read(BLOCK):
                file.write(data)
        os.utime(path, (member.mtime, member.mtime))


def _escape(name: str) -> LabError:
    what = f"The archive has a member that leaves its place: {name}. Nothing more of it is unpacked."
    return LabError(what, hint="Do not trust that machine.")
