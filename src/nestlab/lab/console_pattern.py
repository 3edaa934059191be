"""Regular expressions for a console: what a machine prints must not be able to make a search take for ever.

Python's own engine tries every way to match, which can take longer than anybody lives (`(a+)+$`). This one keeps the
set of all ways at once (K. Thompson, CACM 11 (1968) 6), so a search takes time linear in the text. It has what that
allows: no references back and no looking around. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from nestlab.base.frozen import frozen

LONGEST = 200
"""Letters of a pattern."""

MOST = 1000
"""States of a pattern with its repetitions written out."""

REPEATS = 100
"""The largest number in `{m,n}`."""

DEEPEST = 50
"""Groups inside groups."""

REMEMBERED = 2000
"""Steps that are remembered, by state and letter; with more all are forgotten: the text may be anything."""

Letters = Callable[[str], bool]
"""Whether a letter is one of those meant."""

_CLASSES: dict[str, Letters] = {
    "d": lambda c: c in "0123456789",
    "w": lambda c: c == "_" or (c.isascii() and c.isalnum()),
    "s": lambda c: c in " \t\r\n\f\v",
}
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}
_SPECIAL = frozenset(".[]()*+?{}|^$\\")


@dataclass
class _State:
    """`letters`: it takes one of these. `edge`: it takes none, at the beginning (`^`) or end (`$`) of a line only."""

    letters: Letters | None = None
    edge: str = ""
    next: list[int] = field(default_factory=list)


@frozen
class Pattern:
    """A pattern that was read by `compiled`."""

    text: str
    states: tuple[_State, ...]
    first: int
    last: int
    caseless: bool
    _steps: dict[tuple[frozenset[int], str], frozenset[int]] = field(default_factory=dict, compare=False, repr=False)

    def search(self, line: str) -> bool:
        """Whether the pattern is somewhere in a line (which has no newline)."""
        if self.caseless:
            line = line.lower()
        now = self._closed({self.first}, "^")
        for letter in line:
            if self.last in now:
                return True
            now = self._step(now, letter)
        return self.last in now or self.last in self._closed(now, "^$" if not line else "$")

    def _step(self, now: frozenset[int], letter: str) -> frozenset[int]:
        known = self._steps.get((now, letter))
        if known is None:
            if len(self._steps) >= REMEMBERED:
                self._steps.clear()
            found = {self.first}
            for number in now:
                state = self.states[number]
                if state.letters is not None and state.letters(letter):
                    found.update(state.next)
            known = self._steps[now, letter] = self._closed(found, "")
        return known

    def _closed(self, numbers: Iterable[int], edges: str) -> frozenset[int]:
        """All states that are reached without a letter."""
        found: set[int] = set()
        todo = list(numbers)
        while todo:
            number = todo.pop()
            if number in found:
                continue
            found.add(number)
            state = self.states[number]
            if state.letters is None and (not state.edge or state.edge in edges):
                todo.extend(state.next)
        return frozenset(found)


@lru_cache(maxsize=64)
def compiled(text: str) -> Pattern:
    """A pattern, ready to search with. ValueError, with a reason for a person, where it is none."""
    if not text:
        raise ValueError("it is empty, and would be found in any line")
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} letters")
    caseless = text.startswith("(?i)")
    return _Reader(text[4:] if caseless else text, caseless).pattern(text)


@dataclass
class _Reader:
    """Reads a pattern from left to right. A piece is its first and its last state."""

    rest: str
    caseless: bool
    at: int = 0
    depth: int = 0
    states: list[_State] = field(default_factory=list)

    def pattern(self, text: str) -> Pattern:
        first, last = self.either()
        if self.at < len(self.rest):
            raise ValueError("a `)` closes nothing")
        return Pattern(text, tuple(self.states), first, last, self.caseless)

    def state(self, letters: Letters | None = None, edge: str = "", *next: int) -> int:
        if len(self.states) >= MOST:
            raise ValueError("its repetitions are too many together")
        self.states.append(_State(letters, edge, list(next)))
        return len(self.states) - 1

    def peek(self) -> str:
        return self.rest[self.at : self.at + 1]

    def take(self) -> str:
        letter = self.peek()
        self.at += 1
        return letter

    def either(self) -> tuple[int, int]:
        pieces = [self.sequence()]
        while self.peek() == "|":
            self.take()
            pieces.append(self.sequence())
        if len(pieces) == 1:
            return pieces[0]
        last = self.state()
        for _, end in pieces:
            self.states[end].next.append(last)
        return self.state(None, "", *(first for first, _ in pieces)), last

    def sequence(self) -> tuple[int, int]:
        first = last = self.state()
        while self.peek() not in ("", "|", ")"):
            begins, ends = self.repeated()
            self.states[last].next.append(begins)
            last = ends
        return first, last

    def repeated(self) -> tuple[int, int]:
        start = self.at
        piece = self.one()
        end, least, most = self.at, 1, 1
        if (letter := self.peek()) and letter in "*+?":
            self.take()
            least, most = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[letter]
        elif letter == "{":
            least, most = self.counted()
        if self.at == end:
            return piece
        if self.peek() == "?":
            self.take()  # the shortest match first: whether there is one does not depend on it
        if (after := self.peek()) and after in "*+?{":
            raise ValueError(f"`{after}` repeats what is repeated already")
        return self.copies(piece, (start, end), least, most)

    def counted(self) -> tuple[int, int]:
        found = re.compile(r"\{([0-9]{1,4})(,?)([0-9]{0,4})\}", re.ASCII).match(self.rest, self.at)
        if found is None:
            raise ValueError(r"`{` begins no number of repetitions such as {2,5}; the letter itself is `\{`")
        self.at = found.end()
        least = int(found[1])
        most = int(found[3]) if found[3] else -1 if found[2] else least
        if max(least, most) > REPEATS or 0 <= most < least:
            raise ValueError(f"`{found[0]}` is no number of repetitions from 0 to {REPEATS}")
        return least, most

    def copies(self, piece: tuple[int, int], where: tuple[int, int], least: int, most: int) -> tuple[int, int]:
        """A piece that is there `least` to `most` times (-1: any number): read as often as it is needed."""
        first = last = self.state()
        after = self.at
        fresh: tuple[int, int] | None = piece

        def once() -> tuple[int, int]:
            nonlocal fresh
            if fresh is not None:
                made, fresh = fresh, None
                return made
            self.at = where[0]
            return self.one()

        for _ in range(max(least, most == -1)):
            begins, ends = once()
            self.states[last].next.append(begins)
            last = ends
        end = self.state()
        self.states[last].next.append(end)
        if most == -1:
            self.states[last].next.append(begins)
            self.states[first].next += [] if least else [end]
        for _ in range(most - least):
            begins, ends = once()
            self.states[last].next.append(begins)
            self.states[ends].next.append(end)
            last = ends
        self.at = after
        return first, end

    def one(self) -> tuple[int, int]:
        letter = self.take()
        if letter == "(":
            return self.group()
        if letter in "*+?{":
            raise ValueError(f"`{letter}` repeats nothing")
        if letter in "^$":
            return self.around(self.state(None, letter))
        if letter == ".":
            return self.around(self.state(lambda _: True))
        if letter == "[":
            return self.around(self.state(self.listed()))
        return self.around(self.state(self.escaped() if letter == "\\" else self.exactly(letter)))

    def around(self, state: int) -> tuple[int, int]:
        end = self.state()
        self.states[state].next.append(end)
        return state, end

    def group(self) -> tuple[int, int]:
        if self.rest.startswith("?:", self.at):
            self.at += 2
        elif self.peek() == "?":
            raise ValueError("of groups with `(?` there are only `(?:…)`, and `(?i)` at the beginning")
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("its groups are nested too deeply")
        piece = self.either()
        self.depth -= 1
        if self.take() != ")":
            raise ValueError("a `(` is not closed")
        return piece

    def exactly(self, letter: str) -> Letters:
        meant = letter.lower() if self.caseless else letter
        return lambda c: c == meant

    def escaped(self) -> Letters:
        letter = self.take()
        if not letter:
            raise ValueError("it ends in a backslash")
        if (kind := _CLASSES.get(letter.lower())) is not None:
            return kind if letter.islower() else lambda c: not kind(c)
        return self.exactly(self.literal(letter))

    def literal(self, letter: str) -> str:
        """The letter that a backslash and this one stand for."""
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter.isascii() and letter.isalnum():
            known = r"\d \D \w \W \s \S \t \r \n"
            raise ValueError(f"`\\{letter}` is not known here: {known} are, and a backslash before punctuation")
        return letter

    def listed(self) -> Letters:
        """The letters between brackets."""
        negated = self.peek() == "^"
        self.at += negated
        kinds: list[Letters] = []
        ranges: list[tuple[str, str]] = []
        empty = True
        while (letter := self.take()) != "]" or empty:
            empty = False
            if not letter:
                raise ValueError("a `[` is not closed")
            if letter == "\\":
                if self.peek().lower() in _CLASSES:
                    kinds.append(self.escaped())
                    continue
                letter = self.literal(self.take())
            ranges.append((letter, self.upper(letter)))
        if self.caseless:
            ranges += [(low.lower(), high.lower()) for low, high in ranges]

        def meant(c: str) -> bool:
            return (any(low <= c <= high for low, high in ranges) or any(kind(c) for kind in kinds)) != negated

        return meant

    def upper(self, low: str) -> str:
        """The end of a range such as `a-z`; the letter itself where it begins none."""
        if self.peek() != "-" or self.rest[self.at + 1 : self.at + 2] in ("", "]"):
            return low
        self.take()
        high = self.take()
        if high == "\\":
            high = self.literal(self.take())
        if high < low:
            raise ValueError(f"`{low}-{high}` is a range that ends before it begins")
        return high
