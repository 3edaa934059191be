"""Where in a text the patterns of signatures match, in a time that grows with the text alone. Pure.

Three sieves, each finer and dearer than the one before. A pattern has fixed parts (`needles`), and what those are made
of stands in a text or not: one pass finds out, four letters at a time. What may stand there is looked for, and only
around it the pattern is tried, in small letters: Python's `re` is ten times as quick with them as where it ignores the
case of letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

from nestlab.base.frozen import frozen
from nestlab.explain.signatures import Signature

BEFORE, AFTER = 300, 1200
"""Bytes around a fixed part of a pattern that are searched: a line of megabytes costs no more than many short ones."""

GRAM = 4
"""Letters that are looked for at once."""

SEGMENT = 1 << 20
"""Bytes (of whole lines) that are searched at a time, lest what is kept of them grows with the text."""


@frozen
class Place:
    """Where a signature was found: the first line, by its start, with the line or what of a long one was searched, and
    the match in it; and in how many lines."""

    at: int
    line: str
    match: re.Match[str]
    times: int


@dataclass
class _Seen:
    """The first place so far: where its line starts, and what of it was searched."""

    start: int
    window: int
    stop: int
    times: int


@frozen
class _Index:
    """Of a table: its fixed parts with what they are made of (the groups of letters, as they fall on one of four
    beats), those that are too short for that, by signature its own, and those that several have."""

    needles: tuple[tuple[bytes, tuple[frozenset[int], ...]], ...]
    short: tuple[bytes, ...]
    grams: frozenset[int]
    owned: tuple[tuple[bytes, ...], ...]
    shared: frozenset[bytes]


def search(table: tuple[Signature, ...], data: bytes, lowered: bytes) -> list[tuple[Signature, Place]]:
    """The signatures that match lines of `data`, in the order of the table. A line counts for the first of them alone.
    `lowered`: the data in small letters."""
    index = _index(table)
    over = [max((lowered.rfind(word.encode()) for word in each.unless), default=-1) for each in table]
    found: dict[int, _Seen] = {}
    for begin, end in _segments(lowered):
        text = lowered[begin:end]
        possible, windows = _possible(index, text), _kept(index, text)
        taken: set[int] = set()
        for number, owned in enumerate(index.owned):
            here = [needle for needle in owned if needle in possible]
            if not here:
                continue
            around = chain.from_iterable(map(windows, here))
            seen = _look(_small(table[number].pattern), around, taken, over[number] - begin)
            if seen is not None:
                first = found.setdefault(number, _Seen(begin + seen.start, begin + seen.window, begin + seen.stop, 0))
                first.times += seen.times
    return [(table[number], _place(table[number], data, lowered, found[number])) for number in sorted(found)]


def _segments(lowered: bytes) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(lowered):
        end = begin + SEGMENT
        if end < len(lowered):
            end = lowered.rfind(b"\n", begin, end) + 1 or lowered.find(b"\n", end) + 1 or len(lowered)
        yield begin, min(end, len(lowered))
        begin = end


def _possible(index: _Index, text: bytes) -> set[bytes]:
    """The fixed parts that may stand in a text; all that do are among them."""
    whole = len(text) // GRAM * GRAM
    present = index.grams.intersection(memoryview(text)[:whole].cast("I"))
    found = {needle for needle, beats in index.needles if any(grams <= present for grams in beats)}
    return found.union(needle for needle in index.short if needle in text)


_Window = tuple[int, int, int, str]
"""The start of a line, and the start and the end of what is searched of it, with what stands there."""


def _look(pattern: re.Pattern[str], windows: Iterable[_Window], taken: set[int], over: int) -> _Seen | None:
    """The lines that match and are not taken yet; they are taken then. What ends before `over` does not count."""
    seen = None
    for start, window, stop, line in windows:
        if start in taken or not pattern.search(line) or over >= stop:
            continue
        taken.add(start)
        if seen is None or start < seen.start:
            seen = _Seen(start, window, stop, seen.times if seen else 0)
        seen.times += 1
    return seen


def _windows(needle: bytes, text: bytes) -> Iterator[_Window]:
    """Where a fixed part stands, with what is around it."""
    start = end = 0
    at = text.find(needle)
    while at >= 0:
        if at >= end:
            start = text.rfind(b"\n", end, at) + 1 or end
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
        window, stop = at - BEFORE, at + AFTER
        window, stop = start if window < start else window, end if stop > end else stop
        yield start, window, stop, text[window:stop].decode(errors="replace")
        at = text.find(needle, stop if stop == end else stop - BEFORE)


def _kept(index: _Index, text: bytes) -> Callable[[bytes], Iterable[_Window]]:
    """The windows of a fixed part; those of one that several signatures have are found once."""
    kept: dict[bytes, list[_Window]] = {}

    def windows(needle: bytes) -> Iterable[_Window]:
        if needle not in index.shared:
            return _windows(needle, text)
        if needle not in kept:
            kept[needle] = list(_windows(needle, text))
        return kept[needle]

    return windows


def _place(signature: Signature, data: bytes, lowered: bytes, seen: _Seen) -> Place:
    """With the match in the letters that stand there."""
    small = lowered[seen.window : seen.stop].decode(errors="replace")
    line = data[seen.window : seen.stop].decode(errors="replace")
    found = _small(signature.pattern).search(small)
    assert found is not None
    match = _compiled(signature.pattern).match(line, found.start())
    return Place(seen.start, line, match or found, seen.times)


@cache
def _index(table: tuple[Signature, ...]) -> _Index:
    owned = tuple(tuple(each.encode() for each in needles(signature.pattern)) for signature in table)
    count = Counter(needle for each in owned for needle in each)
    shared = frozenset(needle for needle, times in count.items() if times > 1)
    long = tuple((needle, _beats(needle)) for needle in count if len(needle) >= 2 * GRAM - 1)
    short = tuple(needle for needle in count if len(needle) < 2 * GRAM - 1)
    return _Index(long, short, frozenset().union(*(grams for _, beats in long for grams in beats)), owned, shared)


def _beats(needle: bytes) -> tuple[frozenset[int], ...]:
    """The groups of letters in a fixed part, as a machine's integers, for every way in which it may fall on them."""
    return tuple(
        frozenset(memoryview(needle[at : at + GRAM]).cast("I")[0] for at in range(first, len(needle) - GRAM + 1, GRAM))
        for first in range(GRAM)
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


@cache
def _small(pattern: str) -> re.Pattern[str]:
    """A pattern for texts in small letters that matches what the pattern does, whatever the case of letters."""
    return re.compile(
        re.sub(r"\\.|\(\?P[<=]\w+|.", lambda each: each[0] if len(each[0]) > 1 else each[0].lower(), pattern)
    )


@cache
def needles(pattern: str) -> tuple[str, ...]:
    """For every alternative of a pattern its longest fixed part outside groups, in small letters: no line matches that
    has none of them. Patterns are written so that each has one."""
    longest, runs = [], [""]
    depth, at = 0, 0
    while at < len(pattern):
        sign = pattern[at]
        width = 1
        if sign == "\\":
            width = 2
            fixed = pattern[at + 1] if not pattern[at + 1].isalnum() else ""
        elif sign == "[":
            width = pattern.index("]", at + 2) + 1 - at
            fixed = ""
        elif sign == "{":
            width = pattern.index("}", at) + 1 - at
            fixed = ""
        else:
            fixed = "" if sign in "()|.^$?*+" else sign
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0:
            longest.append(max(runs, key=len))
            runs = [""]
        elif fixed and depth == 0 and pattern[at + width : at + width + 1] not in ("?", "*", "{"):
            runs[-1] += fixed.lower()
        else:
            runs.append("")
        at += width
    return (*longest, max(runs, key=len))
