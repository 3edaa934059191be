"""Packs local files into tar archives, and checks the archives that machines send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError

if TYPE_CHECKING:
    import tarfile

BLOCK = 1 << 18

MODE = 0o1777
"""Mode bits that are kept: not set-user-ID and set-group-ID, which a machine must not give to a file elsewhere."""


def pack(source: str, name: str, sink: Any) -> None:
    """Write the archive of a local file or directory, under `name`, to a binary file. LabError if it cannot be read."""
    import tarfile

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        # GNU's format, because busybox skips the long names of pax.
        with tarfile.open(fileobj=sink, mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as archive:
            archive.add(Path(source).resolve(), name, filter=anonymous)
    except OSError as error:
        what = f"{error.filename or source} cannot be copied: {error.strerror or error}."
        raise LabError(what, hint="Check its mode, and whether it is being written to.") from error


def size(source: str) -> int:
    """Bytes of a local file, or of all files in a directory, as far as they can be looked at."""
    import os

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


def relay(stream: Any, sink: Any) -> None:
    """Write the archive that a machine sent anew: LabError for a member that leaves its place, or is no file,
    directory or link; set-user-ID bits are dropped. EOFError if there is no archive at all."""
    import tarfile

    began = False
    try:
        with (
            tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as archive,
            tarfile.open(fileobj=sink, mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as out,
        ):
            links: set[str] = set()
            for member in archive:
                began = True
                _check(member, links)
                member.mode &= MODE
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.pax_headers = {}
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    member.type = tarfile.REGTYPE  # also what was sparse: it is written in full
                out.addfile(member, content)
    except tarfile.ReadError as error:
        if not began:
            raise EOFError from error
        raise damaged(error) from error


def _check(member: tarfile.TarInfo, links: set[str]) -> None:
    """`links`: the symbolic links so far, below which nothing may be written."""
    kind(member)
    named = [member.name, member.linkname] if member.islnk() else [member.name]
    for name in named:
        way = "/".join(parts(name))
        if any(way == link or way.startswith(f"{link}/") for link in links):
            raise escapes(name)
    if member.issym():
        links.add("/".join(parts(member.name)))


def kind(member: tarfile.TarInfo) -> None:
    """LabError unless a member is a file, a directory or a link."""
    if not (member.isdir() or member.isreg() or member.issym() or member.islnk()):
        what = f"{member.name} is neither file, directory nor link: it is not copied."
        raise LabError(what, hint="Copy what is beside it by name.")


def parts(name: str) -> list[str]:
    """The names on the way to a member. LabError where that leaves its place."""
    found = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in found:
        raise escapes(name)
    return found


def escapes(name: str) -> LabError:
    """The error for a member that would be written outside the place it is for."""
    what = f"The archive has a member that leaves its place: {name}. Nothing of it is kept."
    return LabError(what, hint="Do not trust that machine.")


def damaged(error: Exception) -> LabError:
    """The error for an archive that breaks off."""
    return LabError(f"The archive is damaged: {error}.", hint="Copy it again.")


def blocks(source: Any) -> Iterator[bytes]:
    """A binary file, piece by piece."""
    while data := source.read(BLOCK):
        yield data
