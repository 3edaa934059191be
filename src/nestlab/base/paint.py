"""Terminal colours, and how numbers, sizes and tables are written. Pure, and light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Style = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

_CODES: dict[Style, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Paint:
    """Wraps text in ANSI colours where `on`; otherwise text stays as it is."""

    on: bool = False

    def __call__(self, style: Style | None, text: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.on and style and text else text


PLAIN = Paint()


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
    """Rows of cells as lines with aligned columns. Painted after they are padded: colours have no width."""
    if not rows:
        return []
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
