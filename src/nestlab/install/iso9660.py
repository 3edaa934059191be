"""Finds files on an ISO 9660 file system (ECMA-119): by the names of Rock Ridge (SUSP 1.12, RRIP 1.12), by those of
Joliet, or by its own.

Only the directories on the way to a file are read, each of a bounded size. So no ISO takes long or much memory,
whatever it says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from nestlab.base.frozen import frozen

SECTOR = 2048

LONGEST = 2 << 20
"""Bytes of a directory; one with 10,000 files has half of it."""

VOLUMES = 32
"""Volume descriptors that are looked at."""

CONTINUED = 20_000
"""Areas in which names go on that are looked at, of one path."""

_CHUNK = 1 << 20
_JOLIET = (b"%/@", b"%/C", b"%/E")
_FOLDER, _PARTS = 2, 0x80
"""Flags of a record: it is of a directory, and of one part of a file."""


class Damaged(ValueError):
    """What an ISO says of itself cannot be. Its text is the reason."""


@frozen
class File:
    """Where a file is, in bytes."""

    offset: int
    size: int


@frozen
class _Record:
    """An entry of a directory. `own`: its name in this tree; `rock`: by Rock Ridge, b"" where it has none."""

    own: bytes
    rock: bytes
    at: File
    flags: int


@frozen
class _Tree:
    """One of the trees of names that a volume has."""

    root: File
    block: int
    joliet: bool


def is_iso(file: BinaryIO) -> bool:
    """Whether a file begins as ISO 9660 does. Damaged where it cannot be read."""
    file.seek(16 * SECTOR)
    return _read(file, 6)[1:] == b"CD001"


class Iso:
    """An ISO that was opened. Damaged where it is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._continued = 0
        self._trees = sorted(self._volumes(), key=lambda tree: tree.joliet)
        if not self._trees:
            raise Damaged("it has no primary volume")

    def find(self, path: str) -> File | None:
        """The file with a path that begins with a slash. Damaged where the way to it is none."""
        self._continued = 0
        names = path.strip("/").split("/")
        return next((found for tree in self._trees if (found := self._within(tree, names)) is not None), None)

    def copy(self, found: File, to: BinaryIO) -> None:
        """Write a file of it. Damaged where the ISO ends before it."""
        self._file.seek(found.offset)
        left = found.size
        while left:
            data = _read(self._file, min(left, _CHUNK))
            if not data:
                raise Damaged("it ends within a file")
            to.write(data)
            left -= len(data)

    def _volumes(self) -> Iterator[_Tree]:
        for number in range(16, 16 + VOLUMES):
            said = self._read(number * SECTOR, SECTOR)
            if said[1:6] != b"CD001" or said[0] == 255:
                return
            block = int.from_bytes(said[128:130], "little")
            joliet = said[0] == 2 and said[88:91] in _JOLIET
            if said[0] == 1 or joliet:
                if block not in (512, 1024, 2048):
                    raise Damaged(f"its blocks have {block} bytes")
                yield _Tree(_record(said[156:190], block).at, block, joliet)

    def _within(self, tree: _Tree, names: list[str]) -> File | None:
        at = tree.root
        for depth, name in enumerate(names, 1):
            last = depth == len(names)
            found = next((each for each in self._records(tree, at) if _is(each, name, joliet=tree.joliet)), None)
            if found is None or bool(found.flags & _FOLDER) is last:
                return None
            if found.flags & _PARTS:
                raise Damaged(f"{name} is in more than one part")
            at = found.at
        return at

    def _records(self, tree: _Tree, folder: File) -> Iterator[_Record]:
        if folder.size > LONGEST:
            raise Damaged("one of its directories is longer than that of any installer")
        data = self._read(folder.offset, folder.size)
        for start in range(0, len(data), SECTOR):
            sector = data[start : start + SECTOR]
            at = 0
            while at < len(sector) and (length := sector[at]):
                record = _record(sector[at : at + length], tree.block)
                if not tree.joliet:
                    own = len(record.own)
                    area = sector[at + 33 + own + (own + 1) % 2 : at + length]
                    record = _Record(record.own, self._rock(tree, area), record.at, record.flags)
                yield record
                at += length

    def _rock(self, tree: _Tree, area: bytes) -> bytes:
        """The name that Rock Ridge gives, from the system use area of a record and those in which it goes on."""
        name, more = b"", True
        while more:
            more = False
            at, further = 0, b""
            while at + 4 <= len(area) and (length := area[at + 2]) >= 4:
                kind, said = area[at : at + 2], area[at + 4 : at + length]
                at += length
                if kind == b"NM" and said:
                    name += said[1:]
                    if not said[0] & 1:
                        return name
                elif kind == b"CE" and len(said) >= 24:
                    further = said
            if further:
                block, offset, length = (int.from_bytes(further[word : word + 4], "little") for word in (0, 8, 16))
                self._continued += 1
                if self._continued > CONTINUED:
                    raise Damaged("the names on it go on without end")
                area, more = self._read(block * tree.block + offset, min(length, SECTOR)), True
        return name

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = _read(self._file, size)
        if len(data) < size:
            raise Damaged("it is cut off")
        return data


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror}") from None


def _record(data: bytes, block: int) -> _Record:
    """A directory record (ECMA-119, 9.1), without what Rock Ridge says."""
    if len(data) < 34 or data[0] != len(data) or data[32] > len(data) - 33:
        raise Damaged("an entry of a directory is none")
    extent, size = (int.from_bytes(data[at : at + 4], "little") for at in (2, 10))
    return _Record(data[33 : 33 + data[32]], b"", File((extent + data[1]) * block, size), data[25])


def _is(record: _Record, name: str, *, joliet: bool) -> bool:
    """Whether a record has this name. Names of ISO 9660 itself are capitals, with a version."""
    if record.rock:
        return record.rock == name.encode()
    own = record.own.decode("utf-16-be" if joliet else "latin-1", errors="replace").partition(";")[0]
    return own == name if joliet else own.rstrip(".").upper() == name.upper()
