"""From a log to what it means: which known messages are in it, and what to do about them. Pure.

Order: by rank (see `signature.Rank`), so a full disk comes before the panic that it led to, and what names one thing
before an error that every program prints; within a rank what is surest first, then by the line where each was first
seen. A line is explained by one signature, the first of the table that matches it.
"""

from __future__ import annotations

import re

from nestlab.base.frozen import frozen
from nestlab.explain.configurations import Remark, remarks
from nestlab.explain.level_below import Below, level_below
from nestlab.explain.search import Place, search
from nestlab.explain.signatures import TABLE, Rank, Signature, Sure

LONGEST = 200
"""Characters of a line that are kept."""

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;:?!=<>]{0,40}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>])"
    rb"|[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]"
)
_HARMLESS = re.compile(r"(?!-)[\w.@:/+-]+")
_NAMES = re.compile(r"\{(\w+)\}")


@frozen
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


def explain(text: str) -> tuple[Explained, ...]:
    """Explains the known messages in a log, each signature once, root causes first. Total: any text will do."""
    data = _ESCAPES.sub(b"", text.encode("utf-8", "replace"))
    lowered = data.lower()
    found = search(TABLE, data, lowered)
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
    return Explained(signature, found.number, found.line, found.times, found.cause, found.do, sure)


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


def _shown(line: str, match: re.Match[str]) -> str:
    """The line, or what of a long one stands around the match."""
    if len(line.strip()) <= LONGEST:
        return line.strip()
    first = max(0, match.start() - LONGEST // 4)
    return ("…" if first else "") + line[first : first + LONGEST].strip() + "…"


def _explained(signature: Signature, seen: Place, data: bytes, sure: str, below: Below | None) -> Explained:
    groups = {name: (value or "")[:80] for name, value in seen.match.groupdict().items()}
    harmless = {name: value if _HARMLESS.fullmatch(value) else name.upper() for name, value in groups.items()}
    number = data.count(b"\n", 0, seen.at) + 1
    cause, do = _filled(signature.cause, groups), _filled(signature.do, harmless)
    return Explained(signature, number, _shown(seen.line, seen.match), seen.times, cause, do, sure, below)


def _filled(text: str, groups: dict[str, str]) -> str:
    return _NAMES.sub(lambda found: groups.get(found[1], found[0]), text)
