"""What somebody may have meant who wrote a word that is not known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

MOST = 20_000
"""Pairs of letters that are compared: a word with a thousand short ones, or with fewer that are long."""


def meant(word: str, known: Iterable[str], *, misnomers: Mapping[str, str] | None = None, listed: bool = False) -> str:
    """A sentence such as "Did you mean `memory`?"; `listed`: else one that lists what there is; or "".

    `misnomers`: other names -> the known one.
    """
    options = tuple(known)
    right = (misnomers or {}).get(word.lower()) or closest(word, options)
    if right:
        return f"Did you mean `{right}`?"
    if listed and options:
        more = f" and {len(options) - 12} more" if len(options) > 12 else ""
        return f"There is {', '.join(f'`{option}`' for option in options[:12])}{more}."
    return ""


@lru_cache(maxsize=256)
def closest(word: str, options: tuple[str, ...]) -> str:
    """The option that a slip of the fingers makes the word of; "" if there is none.

    One slip (a letter too many, too few, another one, or two the wrong way round) for each three letters. Of what
    looks alike for more than that, as `firmware` for `image`, the meaning is another. The start of just one option
    means that one."""
    word = word[:80].lower()
    most, left = len(word) // 3, MOST
    near: list[tuple[int, str]] = []
    for each in options:
        if abs(len(each) - len(word)) <= most:
            left -= len(word) * len(each)
            if left < 0:
                break
            if (count := slips(word, each.lower(), most)) <= most:
                near.append((count, each))
    found = min(near, default=(0, ""))[1]
    begun = [each for each in options if len(word) > 2 and each[: len(word)].lower() == word]
    return begun[0] if len(begun) == 1 else found


def slips(one: str, other: str, most: int) -> int:
    """How many slips make one word of the other (the distance of Damerau and Levenshtein, of adjacent letters), as far
    as they are at most so many."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, its in enumerate(other, 1):
            cost = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != its))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == its:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        if min(now) > most and min(last) > most:  # all that follows comes from these two rows
            return most + 1
        before, last = last, now
    return last[-1]
