"""Packs local files into tar archives, and checks the archives that machines send."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError

if TYPE_CHECKING:
    import tarfile

BLOCK = 1 << 18

MODE = 0o1777
"""Mode bits that are kept: not set-user-ID and set-group-ID, which a machine must not give to a file elsewhere."""

HOLES = 64 << 30
"""Bytes of zeros that are sent for the holes of sparse files, which are written in full."""


def pack(source: str, name: str, sink: Any) -> None:
    """Write the archive of a local file or directory, under `name`, to a binary file. LabError if it cannot be read.

    `source` may be a link and is followed. Links below it are kept: none is followed, not even one that takes the place
    of a file meanwhile."""
    import tarfile

    path = os.path.realpath(source)
    # GNU's format, because busybox skips the long names of pax.
    with tarfile.open(fileobj=sink, mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as archive:
        packer = _Packer(archive)
        with packer.naming(path):
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
        try:
            packer.add(folder, os.path.basename(path) or ".", path, name)  # noqa: PTH119
        finally:
            os.close(folder)


class _Packer:
    """Adds files to an archive by descriptors of their directories, so that nobody can put a link in their way."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._seen: dict[tuple[int, int], str] = {}

    def add(self, folder: int, entry: str, path: str, name: str, depth: int = 0) -> None:
        """What is called `entry` in a directory, with all below it. `path`: where that is; `name`: in the archive."""
        with self.naming(path):
            found = os.stat(entry, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                self._file(folder, entry, name)
                return
            if stat.S_ISSOCK(found.st_mode):
                return
            target = os.readlink(entry, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else ""
            self._archive.addfile(_info(found, name, target))
        if stat.S_ISDIR(found.st_mode):
            self._below(folder, entry, path, name, depth)

    def _below(self, folder: int, entry: str, path: str, name: str, depth: int) -> None:
        from nestlab.hosts.tar_members import DEPTH

        if depth >= DEPTH:
            raise LabError(f"{path} is more than {DEPTH} directories deep.", hint="Copy a directory that is below it.")
        with self.naming(path):
            inside = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            with self.naming(path):
                entries = sorted(os.listdir(inside))  # noqa: PTH208 - of a descriptor
            for each in entries:
                self.add(inside, each, f"{path}/{each}", f"{name}/{each}", depth + 1)
        finally:
            os.close(inside)

    def _file(self, folder: int, entry: str, name: str) -> None:
        # Without waiting: it may have become a FIFO.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(entry, flags, dir_fd=folder), "rb") as file:  # noqa: PTH123 - of a descriptor
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(None, "it is no file any more")
            first = self._seen.setdefault((found.st_dev, found.st_ino), name)
            if found.st_nlink > 1 and first != name:
                self._archive.addfile(_info(found, name, first))
            else:
                self._archive.addfile(_info(found, name, ""), file)
        self._archive.members = []  # type: ignore[attr-defined] # else it keeps each of a million

    @contextlib.contextmanager
    def naming(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{path} cannot be copied: {error.strerror or error}."
            raise LabError(what, hint="Check its mode, and whether it is being written to.") from error


def _info(found: os.stat_result, name: str, target: str) -> tarfile.TarInfo:
    """The header of a file. `target`: of a link, or the other name of a file that has several."""
    import tarfile

    kinds = {
        stat.S_IFDIR: tarfile.DIRTYPE,
        stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFIFO: tarfile.FIFOTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE,
        stat.S_IFBLK: tarfile.BLKTYPE,
        stat.S_IFREG: tarfile.LNKTYPE if target else tarfile.REGTYPE,
    }
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.linkname = stat.S_IMODE(found.st_mode), found.st_mtime, target
    info.type = kinds[stat.S_IFMT(found.st_mode)]
    if info.type == tarfile.REGTYPE:
        info.size = found.st_size
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return info


def size(source: str) -> int:
    """Bytes of a local file, or of all files in a directory, as far as they can be looked at."""
    path = Path(source)
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_size
            except OSError:
                continue  # it is told when it is copied
    return total


def relay(stream: Any, sink: Any, name: str) -> None:
    """Write the archive that a machine sent anew: LabError for a member that leaves its place, or is no file,
    directory or link; set-user-ID bits are dropped. EOFError if there is no archive at all. `name`: of what is copied
    (`.`: the contents of a directory), which is no link itself."""
    import tarfile

    from nestlab.hosts import tar_members

    with (
        tar_members.members(stream) as members,
        tarfile.open(fileobj=sink, mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as out,
    ):
        links: set[str] = set()
        holes = 0
        for member in members:
            _check(member, links, inside=name == ".")
            member.mode &= MODE
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            if not member.isreg():
                out.addfile(member)
                continue
            if member.issparse():
                holes += member.size - sum(size for _, size in tar_members.pieces(member))
                if holes > HOLES:
                    what = f"{tar_members.shown(member.name)} is a sparse file with holes of {holes >> 30} GiB."
                    raise LabError(what, hint="Copy it to this machine, where holes stay holes, or pack it there.")
            content = _Read(members.content(member))
            member.type = tarfile.REGTYPE  # also what was sparse: it is written in full
            out.addfile(member, content)  # type: ignore[arg-type]
            out.members = []  # type: ignore[attr-defined] # else it keeps each of a million


class _Read:
    """The pieces of a file as a binary file, with zeros between them."""

    def __init__(self, found: Iterator[tuple[int, bytes]]) -> None:
        self._found = found
        self._at = 0
        self._next: tuple[int, memoryview] | None = None

    def read(self, count: int) -> bytes:
        """Just so many bytes; zeros after the last piece."""
        parts: list[bytes | memoryview] = []
        while count:
            if self._next is None and (found := next(self._found, None)) is not None:
                self._next = (found[0], memoryview(found[1]))
            gap = count if self._next is None else min(count, self._next[0] - self._at)
            if gap or self._next is None:
                parts.append(bytes(gap))
                taken = gap
            else:
                at, data = self._next
                taken = min(count, len(data))
                parts.append(data[:taken])
                self._next = (at + taken, data[taken:]) if taken < len(data) else None
            self._at += taken
            count -= taken
        return b"".join(parts)


def _check(member: tarfile.TarInfo, links: set[str], *, inside: bool) -> None:
    """`links`: the symbolic links so far, below which nothing may be written. `inside`: what has a single name is in
    the directory whose contents are copied; else it is what is copied, and links are followed to that."""
    from nestlab.hosts.tar_members import escapes, parts

    named = [member.name, member.linkname] if member.islnk() else [member.name]
    for name in named:
        way = ""
        for part in parts(name):
            way = f"{way}/{part}" if way else part
            if way in links:
                raise escapes(name)
    if member.issym():
        if len(parts(member.name)) < 2 and not inside:
            raise escapes(member.name)
        links.add("/".join(parts(member.name)))
