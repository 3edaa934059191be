"""From a log to what it means: which known messages are in it, and what to do about them. Pure.

Order: by rank (see `signature.Rank`), so a full disk comes before the panic that it led to, and what names one thing
before an error that every program prints; within a rank what is surest first, then by the line where each was first
seen. A line is explained by one signature, the first of the table that matches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from nestlab.explain.configurations import Remark, remarks
from nestlab.explain.level_below import Below, level_below
from nestlab.explain.signatures import TABLE, Rank, Signature, Sure

BEFORE, AFTER = 300, 1200
"""Bytes around a fixed part of a pattern that are searched: a line of megabytes costs no more than many short ones."""

LONGEST = 200
"""Characters of a line that are kept."""

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;:?!=<>]{0,40}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>])"
    rb"|[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]"
)
_HARMLESS = re.compile(r"(?!-)[\w.@:/+-]+")
_NAMES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Explained:
    """A signature found: in `line` (its number counts from 1), in so many lines altogether.

    `sure`, in words: how sure it is that this is the cause. `below`: the level below, if that is to be mended; only at
    the first such of a log.
    """

    signature: Signature
    number: int
    line: str
    times: int
    cause: str
    do: str
    sure: str
    below: Below | None = None

    def data(self) -> dict[str, object]:
        """As JSON data."""
        return {
            "name": self.signature.name,
            "line": self.number,
            "text": self.line,
            "times": self.times,
            "rank": self.signature.rank.name.lower(),
            "sure": self.sure,
            "cause": self.cause,
            "do": self.do,
            "below": self.below.data() if self.below else None,
            "see": self.signature.see,
        }


@dataclass
class _Seen:
    """Where a signature was found: the first place with its match, and how many lines."""

    at: int
    line: str
    match: re.Match[str]
    times: int = field(default=1)


def explain(text: str) -> tuple[Explained, ...]:
    """Explains the known messages in a log, each signature once, root causes first. Total: any text will do."""
    data = _ESCAPES.sub(b"", text.encode("utf-8", "replace"))
    lowered = data.lower()
    words = _words(lowered)
    taken: set[int] = set()
    found = []
    for signature in TABLE:
        seen = _look(signature, data, lowered, words, taken)
        if seen is not None:
            found.append((signature, seen))
    found.sort(key=lambda pair: (pair[0].rank, pair[0].sure, pair[1].at))
    asks = next((signature for signature, _ in found if signature.below), None)
    below = level_below(lowered) if asks else None
    first = found[0][0].rank if found else Rank.NOTE
    said = tuple(
        _explained(signature, seen, data, _sure(signature, first), below if signature is asks else None)
        for signature, seen in found
    )
    known = {each.number for each in said if each.signature.rank != Rank.NOTE}
    configured = tuple(_configured(each) for each in remarks(data.decode(errors="replace")) if each.number not in known)
    better = {each.number for each in configured}
    said = tuple(each for each in said if each.signature.rank != Rank.NOTE or each.number not in better)
    return (*said, *configured) if first <= Rank.REFUSAL else (*configured, *said)


def _configured(found: Remark) -> Explained:
    """What stands in a configuration, as if a program had said it."""
    sure = "certain: it stands there" if found.sure else "possible: wrong only if it is to have guests of its own"
    rank = Rank.CAUSE if found.sure else Rank.NOTE
    signature = Signature(found.name, "", found.cause, found.do, found.see, found.line, rank)
    return Explained(signature, found.number, found.line, 1, found.cause, found.do, sure)


def _sure(signature: Signature, first: Rank) -> str:
    """How sure, in words. `first`: the lowest rank in the log."""
    if signature.rank == Rank.NOTE:
        return "no failure by itself"
    if signature.rank == Rank.SYMPTOM:
        return "follows from something else" + (", mostly from what stands above" if first < Rank.SYMPTOM else "")
    if signature.rank == Rank.GENERAL and first < Rank.GENERAL:
        return "possible: a general error; what stands above is likelier"
    return {
        Sure.CERTAIN: "certain: printed for this alone",
        Sure.LIKELY: "likely: there are rarer causes",
        Sure.POSSIBLE: "possible: there are other causes",
    }[signature.sure]


def advice(text: str) -> str:
    """What is nearest to the root of a failure in `text` and what to do about it; "" where nothing is known."""
    best = next(iter(explain(text)), None)
    return f"{best.cause} {best.do}" if best and best.signature.rank <= Rank.GENERAL else ""


def with_advice(hint: str, text: str) -> str:
    """A hint that has only little to say of what programs printed, after what is known of that."""
    said = advice(text)
    return f"{said}\n{hint}" if said else hint


_LETTERS = bytes(byte if byte in b"abcdefghijklmnopqrstuvwxyz" else 32 for byte in range(256))


def _words(lowered: bytes) -> bytes:
    """Every word (letters only) of a text once, each between line ends: much shorter than a long log."""
    return b"\n" + b"\n".join(set(lowered.translate(_LETTERS).split())) + b"\n"


@cache
def _parts(needle: str) -> tuple[bytes, ...]:
    """What of `_words` a text must have that has this needle: words inside of it whole, those at its ends in part."""
    parts = needle.encode().translate(_LETTERS).replace(b" ", b"\n").split(b"\n")
    inside = [b"\n" + part + b"\n" for part in parts[1:-1] if part]
    if len(parts) == 1:
        return (parts[0],)
    return (parts[0] + b"\n", *inside, b"\n" + parts[-1])


def _look(signature: Signature, data: bytes, lowered: bytes, words: bytes, taken: set[int]) -> _Seen | None:
    """The lines that match and are not taken yet; they are taken then."""
    seen = None
    over = max((lowered.rfind(word.encode()) for word in signature.unless), default=-1)
    for needle in needles(signature.pattern):
        if not all(part in words for part in _parts(needle)):
            continue
        for start, window, end in _windows(needle.encode(), lowered):
            if start in taken:
                continue
            line = data[window:end].decode(errors="replace")
            match = _compiled(signature.pattern).search(line)
            if match is None or over >= end:
                continue
            taken.add(start)
            if seen is None:
                seen = _Seen(start, _shown(line, match), match)
            elif start < seen.at:
                seen = _Seen(start, _shown(line, match), match, seen.times + 1)
            else:
                seen.times += 1
    return seen


def _windows(needle: bytes, lowered: bytes) -> Iterator[tuple[int, int, int]]:
    """Where a fixed part stands: the start of its line, and the start and the end of what is searched around it."""
    start = end = 0
    at = lowered.find(needle)
    while at >= 0:
        if at >= end:
            start = lowered.rfind(b"\n", end, at) + 1 or end
            end = lowered.find(b"\n", at)
            end = len(lowered) if end < 0 else end
        stop = min(end, at + AFTER)
        yield start, max(start, at - BEFORE), stop
        at = lowered.find(needle, stop if stop == end else stop - BEFORE)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


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


def _shown(line: str, match: re.Match[str]) -> str:
    """The line, or what of a long one stands around the match."""
    if len(line.strip()) <= LONGEST:
        return line.strip()
    first = max(0, match.start() - LONGEST // 4)
    return ("…" if first else "") + line[first : first + LONGEST].strip() + "…"


def _explained(signature: Signature, seen: _Seen, data: bytes, sure: str, below: Below | None) -> Explained:
    groups = {name: (value or "")[:80] for name, value in seen.match.groupdict().items()}
    harmless = {name: value if _HARMLESS.fullmatch(value) else name.upper() for name, value in groups.items()}
    number = data.count(b"\n", 0, seen.at) + 1
    cause, do = _filled(signature.cause, groups), _filled(signature.do, harmless)
    return Explained(signature, number, seen.line, seen.times, cause, do, sure, below)


def _filled(text: str, groups: dict[str, str]) -> str:
    return _NAMES.sub(lambda found: groups.get(found[1], found[0]), text)
