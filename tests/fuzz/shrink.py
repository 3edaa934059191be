"""Makes a case smaller that still shows what was found: pieces of it are left out as long as it does."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Same = Callable[[bytes], bool]

TRIES, SECONDS = 300, 6.0

_now = time.perf_counter


class _Budget:
    """Tries that are left."""

    def __init__(self, same: Same) -> None:
        self._same, self._tries, self._end = same, TRIES, _now() + SECONDS

    def __bool__(self) -> bool:
        return self._tries > 0 and _now() < self._end

    def shows(self, case: bytes) -> bool:
        self._tries -= 1
        return self._same(case)


def shrunk(case: bytes, same: Same) -> bytes:
    """The smallest found. JSON, also after a first line, gets smaller as a tree, all else by lines, then by bytes."""
    left = _Budget(same)
    head, end, rest = case.partition(b"\n")
    for start, text in ((b"", case), (head + end, rest)):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict | list):
            return _tree(data, start, case, left)
    case = _pieces(case.splitlines(keepends=True), left)
    return _pieces([case[at : at + 1] for at in range(len(case))], left) if len(case) < 100_000 else case


def _pieces(parts: Sequence[bytes], left: _Budget) -> bytes:
    """Leave out runs of pieces, long ones first."""
    kept = list(parts)
    size = max(1, len(kept) // 2)
    while left:
        at = 0
        while at < len(kept) and left:
            fewer = kept[:at] + kept[at + size :]
            if left.shows(b"".join(fewer)):
                kept = fewer
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return b"".join(kept)


def _tree(data: Any, start: bytes, case: bytes, left: _Budget) -> bytes:
    again = True
    while again and left:
        again = False
        for smaller in _smaller(data):
            if not left:
                break
            text = start + json.dumps(smaller).encode()
            if left.shows(text):
                data, case, again = smaller, text, True
                break
    return case


def _smaller(data: Any) -> Iterator[Any]:
    """The tree with one thing less: the largest first."""
    for way in _ways(data):
        less = copy.deepcopy(data)
        holder = less
        for key in way[:-1]:
            holder = holder[key]
        last = holder[way[-1]]
        if isinstance(last, str) and len(last) > 8:
            for half in (last[: len(last) // 2], last[len(last) // 2 :]):
                other = copy.deepcopy(less)
                inner = other
                for key in way[:-1]:
                    inner = inner[key]
                inner[way[-1]] = half
                yield other
        del holder[way[-1]]
        yield less


def _ways(data: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    rows = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, inner in rows:
        found.append((*way, key))
        if len(way) < 12:
            found += _ways(inner, (*way, key))
    return sorted(found, key=len)
