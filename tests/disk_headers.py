"""Headers of qcow2 images (QEMU's docs/interop/qcow2.rst), right and wrong ones."""

from __future__ import annotations

import struct


def qcow2(
    size: int = 1 << 30,
    *,
    version: int = 3,
    below: bytes = b"",
    features: int = 0,
    encrypted: int = 0,
    bits: int = 16,
    l1: int = 2,
    refcounts: int = 1,
    snapshots: int = 0,
    extensions: bytes = b"",
) -> bytes:
    """The start of an image, up to the name of the file `below` it."""
    length = 104 if version >= 3 else 72
    rest = extensions + bytes(8)
    at = length + len(rest) if below else 0
    places = (l1, 0x30000, 0x10000, refcounts, snapshots, 0)
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, at, len(below), bits, size, encrypted, *places)
    if version >= 3:
        head += struct.pack(">QQQII", features, 0, 0, 4, length)
    return head + rest + below


def extension(kind: int, data: bytes) -> bytes:
    """A header extension."""
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
