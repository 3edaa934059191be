"""A picture of a screen: read from a PPM, written as a PNG. Pure."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib

from nestlab.base.frozen import frozen

WIDEST, HIGHEST = 7680, 4320
"""Pixels of the largest screen that is taken: 8K UHD."""

LARGEST = 3 * 4096 * 2160 + 64
"""Bytes of the largest PPM."""

CURSOR = 32
"""Pixels of the largest cursor, in width and height."""

_HEAD = re.compile(rb"P6\s+([0-9]{1,5})\s+([0-9]{1,5})\s+255\s")


@frozen
class Picture:
    """`pixels`: three bytes each (red, green, blue), row by row from the top left."""

    width: int
    height: int
    pixels: bytes

    @property
    def digest(self) -> str:
        """The same for pictures that show the same."""
        return hashlib.sha256(b"%d %d " % (self.width, self.height) + self.pixels).hexdigest()

    @property
    def png(self) -> bytes:
        """As a PNG (RFC 2083): eight bits a colour, each row as its difference from the one above."""
        line, before, rows = 3 * self.width, bytes(3 * self.width), []
        for at in range(0, len(self.pixels), line):
            row = self.pixels[at : at + line]
            rows.append(b"\2" + _difference(row, before) if row != before else b"\2" + bytes(line))
            before = row
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        data = zlib.compress(b"".join(rows), 6)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def of_ppm(data: bytes) -> Picture:
    """The picture in a binary PPM, as QEMU's `screendump` writes it. ValueError for what is none, or too large."""
    found = _HEAD.match(data)
    if found is None:
        raise ValueError("no picture (PPM)")
    width, height = int(found[1]), int(found[2])
    if not (0 < width <= WIDEST and 0 < height <= HIGHEST) or 3 * width * height > LARGEST:
        raise ValueError(f"a picture of {width}x{height}")
    pixels = data[found.end() : found.end() + 3 * width * height]
    if len(pixels) != 3 * width * height:
        raise ValueError("a picture that ends early")
    return Picture(width, height, pixels)


def alike(one: Picture, other: Picture) -> bool:
    """Whether two pictures show the same but for what a cursor covers that blinks."""
    if one == other:
        return True
    if (one.width, one.height) != (other.width, other.height):
        return False
    line = 3 * one.width
    rows = [at for at in range(0, len(one.pixels), line) if one.pixels[at : at + line] != other.pixels[at : at + line]]
    if rows[-1] - rows[0] >= CURSOR * line:
        return False
    left, right = one.width, 0
    for at in rows:
        mine, its = one.pixels[at : at + line], other.pixels[at : at + line]
        places = [place // 3 for place in range(line) if mine[place] != its[place]]
        left, right = min(left, places[0]), max(right, places[-1])
    return right - left < CURSOR


def _difference(row: bytes, before: bytes) -> bytes:
    """Each byte less the one above it, modulo 256, for all of a row at once: in 16-bit lanes, which do not borrow."""
    size = len(row)
    ones = int.from_bytes(b"\1\0" * size, "little") << 8
    wide = int.from_bytes(_lanes(row), "little") + ones - int.from_bytes(_lanes(before), "little")
    return wide.to_bytes(2 * size + 1, "little")[: 2 * size : 2]


def _lanes(row: bytes) -> bytes:
    found = bytearray(2 * len(row))
    found[::2] = row
    return bytes(found)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
