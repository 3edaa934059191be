"""What a screen shows: its text, where it is one of characters, and whether that is the end of a system. Pure.

Characters are known by their shape (`screen_font`), in white on black as in any two colours. Other fonts and pictures
give no text.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from nestlab.base.picture import Picture
from nestlab.explain import screen_font

CELLS = ((9, 16), (8, 16))
"""Pixels of a character, width and height: on a VGA's text screen, and on a frame buffer."""

SURE = 0.8
"""Share of the places with something in them that must be characters."""

BLUE = 0.6
"""Share of a screen that has one blue colour, from which it is a blue screen."""

_CONTROL = {0: " ", 255: " "}

ENDS: tuple[tuple[str, str], ...] = (
    (r"No bootable device", "nothing on its disks boots"),
    (r"Kernel panic - not syncing:? ?(.*)", "its kernel panicked: {}"),
    (r"error: no such (?:device|partition)|grub rescue>", "its boot loader found no system"),
    (r"Operating System not found|NTLDR is missing|BOOTMGR is missing", "its boot loader found no system"),
    (r"You are in emergency mode|Entering emergency mode", "its system fell into emergency mode"),
)
"""What texts on a screen mean after which nothing more comes."""


def text(picture: Picture) -> tuple[str, ...]:
    """The lines that a screen of characters shows, without blanks at their end and empty lines at the end; () where it
    shows none that can be read."""
    best: tuple[float, tuple[str, ...]] = (SURE, ())
    for width, height in CELLS:
        if picture.width % width and width != 8:
            continue
        share, lines = _read(picture, width, height)
        if share >= best[0] and any(lines):
            best = (share + 0.001, lines)
    return best[1]


def end(picture: Picture) -> str:
    """What a screen shows after which nothing more comes, as a clause about its machine; "" where it is none that is
    known."""
    lines = text(picture)
    for pattern, meaning in ENDS:
        if found := re.search(pattern, "\n".join(lines)):
            return meaning.format(*(each.strip() for each in found.groups())).rstrip(": ")
    return "it shows a blue screen, as Windows does when it stops" if not lines and _blue(picture) else ""


def _blue(picture: Picture) -> bool:
    """Mostly one blue, and the rest of it nearly white: what Windows shows when it stops, since Windows 8."""
    if picture.width < 640:
        return False
    pixels = picture.pixels
    sample = [pixels[at : at + 3] for at in range(0, len(pixels) - 2, 3 * 97)]
    (colour, times), *_others = Counter(sample).most_common(2)
    red, green, blue = colour
    bright = sum(1 for each in sample if min(each) >= 200)
    return times >= BLUE * len(sample) and blue >= 0x80 and red < 0x40 and green <= 0x90 and bright > 0


def _read(picture: Picture, width: int, height: int) -> tuple[float, tuple[str, ...]]:
    """The share of the places with something in them that are characters, and the lines."""
    known, there = 0, 0
    lines = []
    for top in range(0, picture.height - height + 1, height):
        line = []
        rows = _rows(picture, top, height)
        for left in range(0, picture.width - width + 1, width):
            cell = b"".join(row[3 * left : 3 * left + 24] for row in rows)
            if cell == cell[:3] * (8 * height):
                line.append(" ")
                continue
            there += 1
            code = _character(cell)
            known += code is not None
            line.append("\ufffd" if code is None else _letter(code))
        lines.append("".join(line).rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return (known / there if there else 0.0), tuple(lines)


def _rows(picture: Picture, top: int, height: int) -> list[bytes]:
    line = 3 * picture.width
    return [picture.pixels[line * row : line * (row + 1)] for row in range(top, top + height)]


def _character(cell: bytes) -> int | None:
    """The character whose shape two colours make in a cell; None for what is none."""
    pixels = [cell[at : at + 3] for at in range(0, len(cell), 3)]
    if len(set(pixels)) != 2:
        return None
    first = pixels[0]
    bits = 0
    for each in pixels:
        bits = bits << 1 | (each != first)
    shapes, covered = _shapes()
    full = (1 << len(pixels)) - 1
    for way in (bits, bits ^ full):
        if way in shapes:
            return shapes[way]
    for way in (bits, bits ^ full):
        if way & _CURSOR in covered:
            return covered[way & _CURSOR]
    return None


_CURSOR = (1 << 128) - (1 << 24)
"""All of a character but its last three rows, which a cursor covers."""


@cache
def _shapes() -> tuple[dict[int, int], dict[int, int]]:
    """Characters by shape, and by what a cursor leaves of it."""
    known = screen_font.shapes()
    covered: dict[int, int] = {}
    for bits, code in sorted(known.items(), key=lambda each: not 32 <= each[1] < 127):
        covered.setdefault(bits & _CURSOR, code)
    return known, covered | {0: 32}


def _letter(code: int) -> str:
    return _CONTROL.get(code) or (bytes([code]).decode("cp437") if code >= 32 else "·")
