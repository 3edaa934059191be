"""What the first bytes of a disk image say, and whether QEMU may be given it: a disk of the user's is one file.

A qcow2 image can name two other files that QEMU opens in its stead, the one below it and the one with its data, and a
name can be a protocol (`json:`, `nbd:`): whoever made such an image would choose which file of this machine a guest
reads. Offsets and limits are those of QEMU's docs/interop/qcow2.rst and block/qcow2.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.lab.model import Format

Fault = tuple[str, str]
"""What is wrong, and what to do."""

QCOW2 = b"QFI\xfb"

LARGEST = 64 << 40
"""Bytes of the largest disk that is taken: a few bytes of a file can claim any size."""

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
"""Version 2: magic, version, place and length of the name of the file below, cluster bits, size, encryption, length and
place of the L1 table, place and clusters of the refcount table, number and place of the snapshots."""
_SECOND = struct.Struct(">QQQII")
"""Version 3, after it: incompatible, compatible and autoclear features, refcount order, length of the header."""
_READ = 2 << 20
"""Bytes that are read at most: header and extensions are within the first cluster, and 2 MiB is the largest."""

_CORRUPT, _EXTERNAL = 1 << 1, 1 << 2
_KNOWN_FEATURES = 0b11111
"""Dirty, corrupt, external data file, compression type, extended L2 entries."""
_DATA_FILE, _ENCRYPTED, _END = 0x44415441, 0x0537BE77, 0
_L1_LIMIT, _REFCOUNTS_LIMIT, _SNAPSHOTS_LIMIT = (32 << 20) // 8, 8 << 20, 65536

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, QCOW2, "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
)
"""Where which bytes say what a file is (the `probe` functions of QEMU's block drivers)."""


@frozen
class Disk:
    """A disk image of one file. `size`: bytes that a guest sees."""

    size: int


def examine(path: str, form: Format | None) -> Disk | Fault:
    """The image, whose first bytes are read, or why QEMU is not given it. `form`: what it is said to be. OSError if it
    cannot be read."""
    file = Path(path)
    if not (file.is_file() or file.is_block_device()):
        return f"{path} is neither a file nor a disk", "Name a file."
    with file.open("rb") as opened:
        start = opened.read(_READ if form == "qcow2" else 512)
        size = opened.seek(0, 2)
    if form == "qcow2":
        return _qcow2(path, start)
    if found := next((name for at, magic, name in _OTHERS if start[at:].startswith(magic)), ""):
        return (
            f"{path} is said to be {form or 'raw'}, and begins as a {found} image does",
            "Say `format: qcow2`."
            if found == "qcow2"
            else f"If you trust who made it: qemu-img convert -f {found} -O qcow2 {Path(path).name} whole.qcow2",
        )
    return Disk(size)


def layer(name: str, start: bytes) -> str:
    """Why QEMU is not given a qcow2 image of nestlab's own making that was elsewhere meanwhile, by its first cluster;
    "" where it may. What it is a layer over is said anew before it is opened."""
    found = _qcow2(name, start, over=True)
    if not isinstance(found, Disk):
        return found[0]
    bits = _HEADER.unpack_from(start)[4]
    return f"{name} has clusters of {1 << bits} bytes" if 1 << bits > len(start) else ""


def _qcow2(path: str, start: bytes, *, over: bool = False) -> Disk | Fault:
    """`over`: it may be a layer over another file."""
    if len(start) < _HEADER.size or not start.startswith(QCOW2):
        return f"{path} is not a qcow2 image", "Say `format: raw` (or `iso`) if that is what it is."
    (_, version, name_at, name_length, bits, size, encrypted, l1, _, _, refcounts, snapshots, _) = _HEADER.unpack_from(
        start
    )
    features, length = 0, _HEADER.size
    if version >= 3:
        padded = start[: _HEADER.size + _SECOND.size].ljust(_HEADER.size + _SECOND.size, b"\0")
        features, _, _, _, length = _SECOND.unpack_from(padded, _HEADER.size)
    if (name_at or name_length) and not over:
        below = one_line(start[name_at : name_at + min(name_length, 1023)].decode(errors="replace"))
        return f"{path} is a layer over another file, {below or 'without a name'}", _whole(path)
    if features & _EXTERNAL or _has(start, length, _DATA_FILE):
        return f"{path} has its data in another file", _whole(path)
    if encrypted or _has(start, length, _ENCRYPTED):
        return f"{path} is encrypted", "Use a copy of it that is not."
    if size > LARGEST:
        return f"{path} says that it has {size} bytes; {LARGEST} are the most", "Use another image."
    odd = version not in (2, 3) or not 9 <= bits <= 21 or not _HEADER.size <= length <= 1 << min(bits, 21)
    if odd or not size or features & ~_KNOWN_FEATURES:
        return f"{path} is not a qcow2 image that QEMU reads", "Look at it with `qemu-img check`; use another copy."
    too_large = l1 > _L1_LIMIT or refcounts << bits > _REFCOUNTS_LIMIT or snapshots > _SNAPSHOTS_LIMIT
    if too_large or features & _CORRUPT:
        return f"{path} is damaged", "Look at it with `qemu-img check`; use another copy."
    return Disk(size)


def _whole(path: str) -> str:
    name = Path(path).name
    return f"If you trust who made it, make one file of it: qemu-img convert -f qcow2 -O qcow2 {name} whole-{name}"


def _has(start: bytes, at: int, wanted: int) -> bool:
    """Whether a header extension is there: each has a type and a length, and is padded to 8 bytes."""
    while at + 8 <= len(start):
        kind, length = struct.unpack_from(">II", start, at)
        if kind == _END:
            return False
        if kind == wanted:
            return True
        at += 8 + -(-length // 8) * 8
    return False
