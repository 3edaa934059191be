"""Reads the members of a tar stream from elsewhere, within bounds: what it claims is checked before it is done."""

from __future__ import annotations

import contextlib
import math
import tarfile
from collections.abc import Iterator
from typing import Any, Self

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line

BLOCK = 1 << 18

HEADER = 32 << 10
"""Bytes of one extended header (a long name, pax). Two paths of the longest kind fit four times."""

HEADERS = 2 << 20
"""Bytes of all headers of one member, with what is read ahead, and with the map of a sparse file."""

DEPTH = 200
"""Directories in each other."""

PIECES = 100_000
"""Pieces of one sparse file."""

EARLIEST, LATEST = -(1 << 35), 1 << 35
"""Seconds since the epoch: about a thousand years each way."""

LARGEST = (1 << 63) - 1

BEYOND = 16
"""Reads after the end of an archive. tarfile goes on to where the next member would be, by reading: of a member that
claims exabytes that would be for ever."""

_BROKEN = (tarfile.TarError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)
"""What tarfile raises for headers that no tar writes."""


_CUT = (
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
)


class Member(tarfile.TarInfo):
    """A member whose extended headers have an end, of an archive that has one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """tarfile takes nonsense between members for the end of the archive, which is a block of zeros."""
        try:
            return super().frombuf(buf, encoding, errors)
        except _CUT as error:
            raise tarfile.ReadError(str(error) or "it breaks off") from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g", b"X")
        if self.type in extended and not 0 <= self.size <= HEADER:
            raise LabError(f"The archive has a header of {self.size} bytes.", hint="Do not trust that machine.")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class _Counted:
    """A binary file of which no more than `left` bytes may be read (None: any number)."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._beyond = 0
        self.left: int | None = HEADERS

    def read(self, size: int) -> bytes:
        data: bytes = self._source.read(size)
        self._beyond += not data
        if self._beyond > BEYOND:
            raise tarfile.ReadError("unexpected end of data")
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise LabError("The archive has headers without end.", hint="Do not trust that machine.")
        return data


class Members:
    """The members of an archive, one after another. LabError for one that cannot be, or has no business there."""

    def __init__(self, archive: tarfile.TarFile, counted: _Counted) -> None:
        self._archive = archive
        self._counted = counted

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._next()) is not None:
            checked(member)
            yield member

    def _next(self) -> tarfile.TarInfo | None:
        self._counted.left = HEADERS
        with _told():
            found = self._archive.next()
        self._archive.members = []  # type: ignore[attr-defined] # else it keeps each of a million
        return found

    def content(self, member: tarfile.TarInfo) -> Iterator[tuple[int, bytes]]:
        """The bytes of a file, each piece with its place in it: between those of a sparse one there are zeros."""
        self._counted.left = None
        source: Any = self._archive.fileobj
        with _told():
            source.seek(member.offset_data)
        for at, size in pieces(member) if member.issparse() else [(0, member.size)]:
            end = at + size  # in the archive one follows on the other
            while at < end:
                with _told():
                    data = source.read(min(BLOCK, end - at))
                    if not data:
                        raise tarfile.ReadError("unexpected end of data")
                yield at, data
                at += len(data)


@contextlib.contextmanager
def members(stream: Any) -> Iterator[Members]:
    """Those of the archive in a binary stream. EOFError if there is no archive at all."""
    counted = _Counted(stream)
    try:
        archive = tarfile.open(fileobj=counted, mode="r|", bufsize=BLOCK, tarinfo=Member)  # type: ignore[call-overload] # noqa: SIM115
    except tarfile.ReadError as error:
        raise EOFError from error
    except _BROKEN as error:
        raise damaged(error) from error
    with archive:
        yield Members(archive, counted)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise damaged(error) from error


def checked(member: tarfile.TarInfo) -> None:
    """LabError unless a member is a file, a directory or a link, with a name, a time and a size that can be."""
    kind(member)
    found = parts(member.name)
    if len(found) > DEPTH:
        raise _odd(member, f"is more than {DEPTH} directories deep")
    if member.issym() and "\0" in member.linkname:
        raise _odd(member, "is a link to a name that cannot be")
    if member.islnk() and not parts(member.linkname):
        raise escapes(member.linkname)
    if not found and not member.isdir():
        raise escapes(member.name)
    if not math.isfinite(member.mtime) or not EARLIEST <= member.mtime <= LATEST:
        raise _odd(member, "has a time that no file has")
    if not 0 <= member.size <= LARGEST:
        raise _odd(member, "has a size that no file has")
    if member.issparse():
        pieces(member)


def kind(member: tarfile.TarInfo) -> None:
    """LabError unless a member is a file, a directory or a link."""
    if not (member.isdir() or member.isreg() or member.issym() or member.islnk()):
        what = f"{shown(member.name)} is neither file, directory nor link: it is not copied."
        raise LabError(what, hint="Copy what is beside it by name.")


def pieces(member: tarfile.TarInfo) -> list[tuple[int, int]]:
    """Where a sparse file has its data: place and size of each piece, in order. LabError if that cannot be."""
    told: list[tuple[int, int]] = list(member.sparse or ())  # type: ignore[arg-type]
    found = [(at, size) for at, size in told if size]  # what is left of a header says 0
    end = 0
    for at, size in found:
        if at < end or size < 0 or at + size > member.size:
            raise _odd(member, "is a sparse file whose pieces do not fit it")
        end = at + size
    if len(found) > PIECES:
        raise _odd(member, f"is a sparse file of more than {PIECES} pieces")
    return found


def parts(name: str) -> list[str]:
    """The names on the way to a member. LabError where that leaves its place, or is no name at all."""
    found = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in found or "\0" in name:
        raise escapes(name)
    return found


def shown(name: str) -> str:
    """A name for people: it may have any bytes."""
    text = one_line(name.encode(errors="surrogateescape").decode(errors="replace"))
    return text if len(text) <= 200 else f"{text[:200]}…"


def escapes(name: str) -> LabError:
    """The error for a member that would be written outside the place it is for."""
    what = f"The archive has a member that leaves its place: {shown(name)}. Nothing of it is kept."
    return LabError(what, hint="Do not trust that machine.")


def damaged(error: Exception) -> LabError:
    """The error for an archive that breaks off, or is none."""
    cause = shown(str(error) or type(error).__name__)
    return LabError(f"The archive is damaged: {cause}.", hint="Copy it again.")


def _odd(member: tarfile.TarInfo, what: str) -> LabError:
    hint = "Correct that there (`touch`, `mv`), or copy what is beside it by name."
    return LabError(f"{shown(member.name)} {what}. Nothing was copied.", hint=hint)
