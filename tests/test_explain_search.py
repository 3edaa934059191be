"""The patterns of all signatures are searched at once: what each alone finds is found, and no text takes long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.base.printable import console_lines
from nestlab.explain import search as searching
from nestlab.explain.search import AFTER, BEFORE, needles, search
from nestlab.explain.signatures import TABLE, Signature

PATTERNS = [(each, re.compile(each.pattern, re.IGNORECASE)) for each in TABLE]


def straightforward(text: str) -> dict[str, tuple[int, int]]:
    """Every pattern in every line: for each signature the start of its first line, and how many lines it explains."""
    found: dict[str, tuple[int, int]] = {}
    data = text.encode()
    over = {each.name: max((data.lower().rfind(word.encode()) for word in each.unless), default=-1) for each in TABLE}
    start = 0
    for line in text.split("\n"):
        end = start + len(line.encode())
        first = next((s.name for s, pattern in PATTERNS if over[s.name] < end and pattern.search(line)), None)
        if first is not None:
            at, times = found.get(first, (start, 0))
            found[first] = (at, times + 1)
        start = end + 1
    return found


def together(text: str) -> dict[str, tuple[int, int]]:
    data = text.encode()
    return {signature.name: (place.at, place.times) for signature, place in search(TABLE, data, data.lower())}


PARTS = [part for each in TABLE for part in needles(each.pattern)]
LINES = st.lists(
    st.one_of(
        st.sampled_from([each.example for each in TABLE]),
        st.sampled_from([each.example.upper() for each in TABLE]),
        st.sampled_from(PARTS),
        st.tuples(st.sampled_from(PARTS), st.sampled_from(PARTS)).map(" ".join),
        st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=20),
    ).map(lambda line: line[:250]),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_what_is_found_is_what_every_pattern_in_every_line_finds(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert together(text) == straightforward(text)


def test_a_text_is_searched_in_segments_of_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(f"{each.example[:250]} {number}" for number, each in enumerate([*TABLE, *TABLE]))
    whole = together(text)
    for size in (1, 7, 300, 5000):
        monkeypatch.setattr(searching, "SEGMENT", size)
        assert together(text) == whole


@pytest.mark.parametrize("signature", TABLE, ids=lambda each: each.name)
def test_a_line_is_found_whatever_the_case_of_its_letters_and_wherever_it_stands(signature: Signature) -> None:
    alone = (signature,)
    for line in (signature.example, signature.example.upper(), signature.example.lower()):
        expected = re.search(signature.pattern, line, re.IGNORECASE) is not None
        for text in (line, f"x\n\n{line}\ny", f"{'x ' * 1000}{line}{' y' * 1000}"):
            data = text.encode()
            assert bool(search(alone, data, data.lower())) == expected


# -- time


def _most(tree: Any) -> int:
    """At most how many ways there are to try a pattern at one place: the repeats that stand after each other multiply.
    A repeat without a limit counts as all that is searched at once, and one that can end only at a letter that is none
    of its own as one way."""
    ways, parts = 1, list(_flat(tree))
    for (operation, value), after in zip(parts, [*parts[1:], (None, None)], strict=False):
        if operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            least, most, inner = value
            most = BEFORE + AFTER if most == _constants.MAXREPEAT else int(most)
            ends = after[0] is _constants.LITERAL and len(inner) == 1 and not _takes(inner[0], after[1])
            ways *= 1 if ends else (most - int(least) + 1) * max(1, _most(inner)) ** (1 if most < 2 else 2)
        elif operation is _constants.BRANCH:
            ways *= sum(_most(each) for each in value[1])
        elif operation in (_constants.ASSERT, _constants.ASSERT_NOT):
            ways *= _most(value[1])
    return ways


def _flat(tree: Any) -> Iterator[tuple[Any, Any]]:
    for operation, value in tree:
        if operation is _constants.SUBPATTERN:
            yield from _flat(value[-1])
        else:
            yield operation, value


_CLASSES = {
    _constants.CATEGORY_WORD: r"\w",
    _constants.CATEGORY_DIGIT: r"\d",
    _constants.CATEGORY_SPACE: r"\s",
    _constants.CATEGORY_NOT_SPACE: r"\S",
}


def _takes(part: tuple[Any, Any], code: int) -> bool:
    """Whether a letter is one of a class; of what is no class nothing is known."""
    operation, value = part
    if operation is not _constants.IN:
        return True
    negated = any(kind is _constants.NEGATE for kind, _ in value)
    found = any(
        (kind is _constants.LITERAL and each == code)
        or (kind is _constants.RANGE and each[0] <= code <= each[1])
        or (kind is _constants.CATEGORY and (each not in _CLASSES or re.match(_CLASSES[each], chr(code))))
        for kind, each in value
    )
    return found != negated


def test_the_measure_tells_a_pattern_that_takes_for_ever() -> None:
    assert _most(_parser.parse(r"(?:a+)+b")) > 10**9
    assert _most(_parser.parse(r".*.*=.*")) > 10**9
    assert _most(_parser.parse(r"a{0,40}b")) == 41


@pytest.mark.parametrize("signature", TABLE, ids=lambda each: each.name)
def test_no_pattern_takes_long_at_one_place(signature: Signature) -> None:
    for alternative in _alternatives(_parser.parse(signature.pattern)):
        assert _most(alternative) <= 1_000_000, signature.pattern


def _alternatives(tree: Any) -> list[Any]:
    (operation, value), *rest = list(tree) or [(None, None)]
    return list(value[1]) if operation is _constants.BRANCH and not rest else [tree]


def test_a_line_of_a_console_takes_a_time_that_grows_with_it_alone() -> None:
    """Each was quadratic: a megabyte of them took hours."""
    for odd in ("\x9d", "\x1b]", "\x90", "\x1b[", "\x1b[0;", "\x9b", "\x1b ", "\x1bP\x98"):
        assert console_lines((odd * 200_000).encode())
