"""Terminal colours, and how numbers, sizes and tables are written. Pure, and light to import.

Colours are marks in a text until it goes to a terminal (`inked`). Nobody elsewhere can know the mark, so an escape
sequence that comes with a text is told from nestlab's own, wherever the two were put together.
"""

from __future__ import annotations

import os
import re
from typing import Literal

from nestlab.base.frozen import frozen
from nestlab.base.printable import brief, printable

Style = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

_MARK = "".join(chr(0xFDD0 + byte % 32) for byte in os.urandom(12))
"""Of this process alone. Unicode keeps these for use inside a program; what comes from elsewhere may hold them, but not
these in this order."""

_LETTER: dict[Style, str] = {"bold": "b", "dim": "d", "red": "r", "green": "g", "yellow": "y", "cyan": "c"}
_END = "e"
_CODES = {"b": "1", "d": "2", "r": "31", "g": "32", "y": "33", "c": "36", _END: "0"}
_STYLE = re.compile(f"{_MARK}[{''.join(_CODES)}]")


@frozen
class Paint:
    """Marks text as coloured where `on`; otherwise text stays as it is."""

    on: bool = False

    def __call__(self, style: Style | None, text: str) -> str:
        return f"{_MARK}{_LETTER[style]}{text}{_MARK}{_END}" if self.on and style and text else text


PLAIN = Paint()


def inked(text: str) -> str:
    """The text as it goes to a terminal: colours of `Paint` as ANSI has them, all else harmless."""
    first, *others = text.split(_MARK)
    shown = [printable(first)]
    for each in others:
        code = _CODES.get(each[:1])
        shown.append(f"\x1b[{code}m{printable(each[1:])}" if code else printable(each))
    return "".join(shown)


def harmless(text: str) -> str:
    """The text with all harmless but its colours, which are marks still: as wide as it will be shown."""
    return _MARK.join(map(printable, text.split(_MARK)))


def unpainted(text: str) -> str:
    """The text without the marks of colours."""
    return _STYLE.sub("", text) if _MARK in text else text


def human(size: int) -> str:
    """Bytes as `17`, `412M`, `1.5G`: three digits at most, rounded, powers of 1024 as in a lab file."""
    value = float(size)
    unit = ""
    for unit in ("", "K", "M", "G", "T"):
        if value < 999.5 or unit == "T":
            break
        value /= 1024
    text = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return text.removesuffix(".0") + unit


def elapsed(seconds: float) -> str:
    """`8s`, `2m 03s`, `5h 10m`, `3d 4h`: two units at most."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60:02d}m"
    return f"{minutes}m {whole % 60:02d}s" if minutes else f"{whole}s"


def columns(rows: list[list[str]], styles: list[list[Style | None]], paint: Paint, *, indent: str = "") -> list[str]:
    """Rows of cells as lines with aligned columns. Painted after they are padded: colours have no width. A cell is one
    line, whatever was in it, of at most about `printable.LONGEST` characters."""
    if not rows:
        return []
    rows = [[brief(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row, row_styles in zip(rows, styles, strict=True):
        last = max((at for at, cell in enumerate(row) if cell), default=-1)
        cells = []
        for at, (cell, style) in enumerate(zip(row[: last + 1], row_styles, strict=False)):
            padding = " " * (widths[at] - len(cell)) if at < last else ""
            cells.append(paint(style, cell) + padding)
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
