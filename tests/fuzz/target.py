"""What a target is, and how the outcome of one case is told."""

from __future__ import annotations

import asyncio
import importlib
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

import nestlab
from nestlab.base.errors import LabError, Mistakes
from nestlab.base.printable import printable

NAMES = ("labfile", "facts", "logs", "pve", "agent", "reports", "tar", "state", "images", "nodes")
"""The targets, each a module of `targets`."""

ROOT = Path(nestlab.__file__).parent

WAITED = 10
"""How many times as long as a processor may work on a case it may wait: also for a processor, where others work."""


class Target(Protocol):
    """One kind of input. `make` gives a case, decided by the generator alone; `run` gives it to nestlab and returns a
    word for what came of it, which is counted. An error of nestlab's own says that the input was refused; anything
    else that is raised is a finding, `Broken` a promise that was not kept."""

    def make(self, rng: Random) -> bytes: ...

    def run(self, case: bytes, place: Path) -> str: ...

    def close(self) -> None: ...


class Broken(AssertionError):
    """A promise was broken without an error: something was written outside, or is not fit for a terminal. `what` is the
    promise, `seen` what speaks against it."""

    def __init__(self, what: str, seen: str = "") -> None:
        super().__init__(f"{what}: {seen}" if seen else what)
        self.what = what


@dataclass(frozen=True)
class Outcome:
    """`word`: what came of a case. `finding`: what is wrong, by kind and place; "" if nothing is. `told`: all of it."""

    word: str
    finding: str = ""
    told: str = ""


def load(name: str) -> Target:
    """The target of a name, ready to run."""
    made: Target = importlib.import_module(f"fuzz.targets.{name}").Fuzzed()
    return made


def case_of(target: Target, name: str, seed: int, number: int) -> bytes:
    """One case: the same for the same seed and number, whatever was run before."""
    return target.make(Random(f"{seed} {name} {number}"))


def outcome(target: Target, case: bytes, place: Path) -> Outcome:
    """Run one case. `place`: an empty directory for it."""
    try:
        return Outcome(target.run(case, place))
    except LabError as error:
        return _refused(error)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:
        return Outcome("finding", finding_of(error), _plain("".join(traceback.format_exception(error))))


def _plain(text: str) -> str:
    """A text fit for a terminal."""
    return printable(text).encode(errors="backslashreplace").decode()


def _refused(error: LabError) -> Outcome:
    """A refusal must itself be fit to be shown."""
    text = printable(str(error))
    try:
        shown(text)
    except Broken as wrong:
        return Outcome("finding", f"in an error: {wrong.what}", repr(text))
    if not text.strip() or (isinstance(error, Mistakes) and not error.mistakes):
        return Outcome("finding", "an error without a text", "".join(traceback.format_exception(error)))
    return Outcome(f"refused ({type(error).__name__})")


def finding_of(error: BaseException) -> str:
    """The kind of an error and the innermost place of nestlab's that it went through."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    at = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT):
            at = f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{frame.name}"
    said = f": {error.what}" if isinstance(error, Broken) else ""
    return f"{type(error).__name__}{f' in {at}' if at else ''}{said}"[:200]


def shown(text: str) -> None:
    """Broken unless a text may go to a terminal as it is and to a pipe in UTF-8."""
    _encoded(text)
    if printable(text) != text:
        at = next(at for at, letter in enumerate(text) if printable(letter) != letter)
        raise Broken("a control character goes to the terminal", repr(text[max(0, at - 40) : at + 10]))


def _encoded(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Broken("half of a surrogate pair cannot be printed") from error


def counted(outcomes: Counter[str]) -> str:
    """What came of cases, the most frequent first."""
    return ", ".join(f"{number} {word}" for word, number in outcomes.most_common())
