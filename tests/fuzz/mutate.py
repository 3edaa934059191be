"""Ways to change what is good: bytes, lines, and trees of JSON. All are decided by the generator they are given."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    0,
    -0.0,
    -1,
    1,
    2,
    0.5,
    12,
    255,
    65536,
    2**31,
    2**32,
    2**53 + 1,
    -(2**63),
    2**63,
    2**64,
    10**30,
    1e308,
    -1e308,
)
"""Among them the ends of what fits into machine words."""

ODD: tuple[Any, ...] = (None, True, False, "", " ", "0", "-1", "1e400", [], {}, [[]], [None], {"": None}, *NUMBERS)

TEXTS = (
    *("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x00", "\r", "\n", "\t", "\x7f", "\x85", "\u202e", "\u2066", "\u200f"),
    *("\ud800", "\ufeff", "\uffff", "é", "日本", "\U0001f600", "a\u0301", "İ", "ß", "\u0661", "\u3000"),
    *("..", "/", "../..", "/etc/passwd", "~", "-rf", "--", "*", "?", "$(id)", "`id`", "${HOME}", "%s%n", "{0}", "{x}"),
    *(
        "'",
        '"',
        "\\",
        "<b>",
        "&amp;",
        "]]>",
        "=",
        ":",
        ",",
        ";",
        "|",
        "#",
        "@",
        "!",
        "nan",
        "inf",
        "-inf",
        "NaN",
        "0x",
        "1_0",
    ),
    *("A" * 300, "é" * 300, "9" * 5000, "(" * 200, "[" * 200, "a/" * 300),
)

MARKS = (
    b"\0",
    b"\n",
    b"\r\n",
    b"\x1b[31m",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b" ",
    b"{",
    b"}",
    b'"',
    b"/",
    b"..",
    b"-1",
    b"9" * 30,
)


def octets(rng: Random, data: bytes, pieces: Sequence[bytes] = ()) -> bytes:
    """Bytes with a few changes: flipped, cut out, doubled, put in, cut off."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6, 12))):
        at = rng.randrange(len(found) + 1)
        size = rng.choice((1, 1, 2, 4, 16, 100))
        deed = rng.randrange(7)
        if deed == 0 and found:
            found[at % len(found)] ^= 1 << rng.randrange(8)
        elif deed == 1:
            del found[at : at + size]
        elif deed == 2:
            found[at:at] = found[at : at + size] * rng.choice((1, 1, 2, 40))
        elif deed == 3:
            found[at:at] = rng.choice((*MARKS, *pieces))
        elif deed == 4 and found:
            found[at % len(found)] = rng.randrange(256)
        elif deed == 5 and rng.random() < 0.3:
            del found[at:]
        else:
            other = rng.randrange(len(found) + 1)
            found[at : at + size] = found[other : other + size]
    return bytes(found)


def lines(rng: Random, text: str, pieces: Sequence[str] = ()) -> str:
    """Text with a few lines left out, doubled, moved, cut, joined, put in, or changed inside."""
    found = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        at = rng.randrange(len(found)) if found else 0
        deed = rng.randrange(8)
        if not found or deed == 0:
            found.insert(at, rng.choice(pieces) if pieces else rng.choice(TEXTS))
        elif deed == 1:
            del found[at]
        elif deed == 2:
            found[at:at] = found[at : at + rng.choice((1, 2, 5))] * rng.choice((1, 1, 30))
        elif deed == 3:
            found.insert(rng.randrange(len(found)), found.pop(at))
        elif deed == 4 and at + 1 < len(found):
            found[at : at + 2] = [found[at] + found[at + 1]]
        elif deed == 5:
            found[at] = found[at][: rng.randrange(len(found[at]) + 1)]
        elif deed == 6:
            found[at] = " " * rng.choice((1, 2, 4)) + found[at]
        else:
            found[at] = inside(rng, found[at])
    return "\n".join(found)


def inside(rng: Random, text: str) -> str:
    """A text with something put in, taken out, or a number changed."""
    at = rng.randrange(len(text) + 1)
    deed = rng.randrange(5)
    if deed == 0:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    if deed == 1:
        return text[:at] + text[at + rng.choice((1, 3, 10)) :]
    if deed == 2:
        digits = [index for index, letter in enumerate(text) if letter.isdigit()]
        if digits:
            where = rng.choice(digits)
            return text[:where] + str(rng.choice(NUMBERS)) + text[where + 1 :]
    if deed == 3:
        return rng.choice(TEXTS)
    words = text.split(" ")
    rng.shuffle(words)
    return " ".join(words)


def value(rng: Random, known: Sequence[Any] = ()) -> Any:
    """Any value of JSON."""
    choice = rng.randrange(10)
    if choice < 4:
        return copy.deepcopy(rng.choice(ODD))
    if choice < 7:
        return rng.choice(TEXTS)
    if choice < 8 and known:
        return copy.deepcopy(rng.choice(known))
    if choice < 9:
        return {rng.choice(TEXTS): rng.choice(ODD) for _ in range(rng.randrange(3))}
    return [copy.deepcopy(rng.choice(ODD)) for _ in range(rng.choice((1, 2, 5, 200)))]


def tree(rng: Random, data: Any, keys: Sequence[str] = (), *, changes: int | None = None) -> Any:
    """A tree of JSON with a few changes at random places: another value, of another type, more or fewer keys."""
    found = copy.deepcopy(data)
    for _ in range(changes if changes is not None else rng.choice((1, 1, 1, 2, 3, 6))):
        found = _changed(rng, found, keys)
    return found


def _changed(rng: Random, data: Any, keys: Sequence[str]) -> Any:
    spots = list(_spots(data))
    if not spots or rng.random() < 0.04:
        return value(rng, [data])
    holder, key = rng.choice(spots)
    deed = rng.randrange(10)
    here = holder[key]
    if deed < 4:
        holder[key] = value(rng, [here, data] if rng.random() < 0.1 else [here])
    elif deed == 4:
        del holder[key]
    elif deed == 5 and isinstance(here, str):
        holder[key] = inside(rng, here)
    elif deed == 6 and isinstance(here, int | float) and not isinstance(here, bool):
        holder[key] = rng.choice((str(here), -here, here * 10**9, float(min(here, 1e300)), bool(here), *NUMBERS))
    elif deed == 7 and isinstance(holder, dict):
        holder[rng.choice((*keys, *map(str, holder), *TEXTS))] = value(rng, [here])
    elif deed == 8 and isinstance(holder, list):
        holder[key:key] = [copy.deepcopy(here) for _ in range(rng.choice((1, 2, 50)))]
    else:
        other, place = rng.choice(spots)
        holder[key] = (
            copy.deepcopy(other[place]) if place in other or (isinstance(other, list) and place < len(other)) else None
        )
    return data


def _spots(data: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Every place of a tree: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    if isinstance(data, dict) and depth < 40:
        for key, inner in data.items():
            found.append((data, key))
            found += _spots(inner, depth + 1)
    elif isinstance(data, list) and depth < 40:
        for at, inner in enumerate(data):
            found.append((data, at))
            found += _spots(inner, depth + 1)
    return found


def json_text(rng: Random, data: Any) -> str:
    """A tree as JSON text, at times such as only some readers take: NaN, doubled keys, cut off, deeply nested."""
    text = json.dumps(data)
    deed = rng.randrange(30)
    if deed == 0:
        return octets(rng, text.encode()).decode(errors="replace")
    if deed == 1:
        return text.replace("null", rng.choice(("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000)))
    if deed == 2:
        depth = rng.choice((50, 1000, 20_000))
        return "[" * depth + text + "]" * depth
    if deed == 3:
        return text[: rng.randrange(len(text) + 1)]
    return text


def one_of(rng: Random, *ways: tuple[float, Callable[[], bytes]]) -> bytes:
    """What one of several ways makes, each as likely as its weight says."""
    weights = [weight for weight, _ in ways]
    return rng.choices([way for _, way in ways], weights)[0]()
