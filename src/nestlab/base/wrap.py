"""Fits lines to the width of a terminal without breaking words. Pure, and light to import."""

from __future__ import annotations

import re

from nestlab.base.paint import harmless, unpainted

LONGEST = 4000
"""Characters of a line that people are shown."""

_WORDS = re.compile(r"(\s*)((?:`[^`\n]*`|[^\s`]|`)+)")
"""Blanks and a word; a command in backticks is one word with what touches it."""

_SOURCE = re.compile(r"\s*(?:\d+ \||\|\s*\^)")
"""A line quoted from a file, and the one below it that points into it: broken, it would point elsewhere."""


def readable(text: str, width: int | None) -> str:
    """The text for people: harmless, no line so long that it hides the others, and fit to a terminal (`fit`)."""
    return fit("\n".join(map(_shortened, harmless(text).split("\n"))), width)


def _shortened(line: str) -> str:
    if len(line) <= LONGEST:
        return line
    whole = unpainted(line)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}… ({len(whole) - LONGEST} more characters)"


def fit(text: str, width: int | None) -> str:
    """The text with its lines at most `width` columns long, broken between words; None: as it is. What goes on stands
    below the last column of a table that begins in the left half, else at the line's own indentation. A word that is
    longer than a line stays whole, as does a line quoted from a file."""
    if width is None or width < 20:
        return text
    lines = text.split("\n")
    return "\n".join(line if _length(line) <= width or _SOURCE.match(line) else _fitted(line, width) for line in lines)


def _length(text: str) -> int:
    return len(unpainted(text))


def _fitted(line: str, width: int) -> str:
    hang = _hang(unpainted(line), width)
    lines, at = [""], 0
    for blank, word in _words(line, width - hang):
        here, size = _length(blank), _length(word)
        if at and at + here + size > width:
            lines.append(" " * hang)
            at, blank, here = hang, "", 0
        lines[-1] += blank + word
        at += here + size
    return "\n".join(each.rstrip(" ") for each in lines)


def _words(line: str, room: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for blank, word in _WORDS.findall(line):
        if _length(word) <= room:
            found.append((blank, word))
            continue
        first = True
        for inner, part in re.findall(r"(\s*)(\S+)", word):  # a command that no line holds
            found.append((blank if first else inner, part))
            first = False
    return found


def _hang(line: str, width: int) -> int:
    """The column at which what goes on begins."""
    indent = len(line) - len(line.lstrip(" "))
    starts = [match.end() for match in re.finditer(r"(?<=\S) {2,}", line)]
    if not starts:
        return indent
    near = [at for at in starts if at <= width // 2]
    return near[-1] if near and near[-1] == starts[-1] else min(indent + 4, width // 2)
