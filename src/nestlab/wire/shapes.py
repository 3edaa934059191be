"""Typed readers of answers that come from elsewhere: from a Proxmox VE, a guest agent, a QEMU. Light to import.

A reader takes a value as it came and gives it back as what it must be, or raises `Unfit`. `read` turns that into one
error which names who answered, what was asked, and what was odd. Whoever takes answers reads them so: what follows may
rely on the types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line

T = TypeVar("T")
Reader = Callable[[Any], T]

LARGEST = (1 << 63) - 1
"""The largest whole number that is taken; and its negative the smallest."""

DIGITS = 19
"""Digits of a whole number in a text."""

NAME = 64
"""Characters of the longest name."""

SHOWN = 40
"""Characters of an odd text that an error shows."""


class Odd(LabError):
    """Somebody answered what nobody who is sound would: `what` names who, what was asked, and what was odd."""


class Unfit(ValueError):
    """A value is not what it must be; `place` says where it stands in the answer."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""

    def below(self, key: object) -> Unfit:
        """The same, seen from the value that it is in."""
        self.place = f"{_shown(str(key))}{'.' * bool(self.place)}{self.place}"
        return self

    def __str__(self) -> str:
        return f"{self.place or 'it'} {self.what}"


def read(value: Any, reader: Reader[T], who: str, asked: str) -> T:
    """The value as `reader` gives it back. Odd if it is not that: `who` answered so when it was asked for `asked`."""
    try:
        return reader(value)
    except Unfit as error:
        raise odd(who, asked, str(error)) from error


def odd(who: str, asked: str, what: str) -> Odd:
    """The error for an answer of `who` that cannot be used, and why."""
    hint = "nestlab uses nothing of it. Is it of a version that nestlab knows, and can it be trusted?"
    return Odd(f"{one_line(who)} gave an odd answer to {one_line(asked)}: {what}.", hint=hint)


def anything(value: Any) -> Any:
    """Whatever it is: nobody looks into it."""
    return value


def text(value: Any) -> str:
    """A text; a number is one, too (Perl does not tell them apart). Half of a surrogate pair becomes a question
    mark, so that the text can be written."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(whole(value) if isinstance(value, int) else real(value))
    raise Unfit(f"is {_kind(value)}, not a text")


def word(value: Any) -> str:
    """A name of one line that may become a part of a path: without a slash, and not `.` or `..`."""
    found = text(value)
    if not found or len(found) > NAME or "/" in found or found in (".", "..") or not found.isprintable():
        raise Unfit(f"is {_shown(found)!r}, which is no name")
    return found


def token(value: Any) -> str:
    """A text for a header of HTTP, or "": printable ASCII without blanks."""
    found = text(value)
    if not all("!" <= letter <= "~" for letter in found):
        raise Unfit("has characters that do not belong there")
    return found


def whole(value: Any) -> int:
    """A whole number of at most 63 bits; a text of digits is one, too."""
    if isinstance(value, str) and len(value) <= DIGITS + 1 and value.removeprefix("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise Unfit(f"is {_kind(value)}, not a whole number")
    if not -LARGEST <= value <= LARGEST:
        raise Unfit("is a number of more than 63 bits")
    return int(value)


def count(value: Any) -> int:
    """A whole number that is not negative."""
    found = whole(value)
    if found < 0:
        raise Unfit(f"is {found}, less than 0")
    return found


def status(value: Any) -> int:
    """How a command ended; Windows has statuses of 32 bits."""
    found = whole(value)
    if not -(1 << 32) < found < 1 << 32:
        raise Unfit("is no exit status")
    return found


def real(value: Any) -> float:
    """A number that is not infinite; a text of one is one, too."""
    if isinstance(value, str) and len(value) <= SHOWN:
        try:
            value = float(value)
        except ValueError:
            raise Unfit("is a text, not a number") from None
    if not isinstance(value, int | float):
        raise Unfit(f"is {_kind(value)}, not a number")
    if not -LARGEST <= value <= LARGEST:  # false for NaN
        raise Unfit("is no number of a sensible size")
    return float(value)


def flag(value: Any) -> bool:
    """True or false, or a number that says it; "" is false."""
    if isinstance(value, str) and value in ("", "true", "false"):
        return value == "true"
    return whole(value) != 0


def maybe(reader: Reader[T]) -> Reader[T | None]:
    """That, or null."""
    return lambda value: None if value is None else reader(value)


def rows(reader: Reader[T]) -> Reader[list[T]]:
    """A list of them."""

    def of(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise Unfit(f"is {_kind(value)}, not a list")
        found = []
        for number, each in enumerate(value):
            try:
                found.append(reader(each))
            except Unfit as error:
                raise error.below(number) from None
        return found

    return of


def table(reader: Reader[T]) -> Reader[dict[str, T]]:
    """An object with any keys."""

    def of(value: Any) -> dict[str, T]:
        found = {}
        for key, each in _object(value).items():
            try:
                found[text(key)] = reader(each)
            except Unfit as error:
                raise error.below(key) from None
        return found

    return of


def record(
    required: Mapping[str, Reader[Any]], optional: Mapping[str, Reader[Any]] | None = None, /, **more: Reader[Any]
) -> Reader[dict[str, Any]]:
    """An object: what it must have, and what it may have (null counts as missing; in `more` an underscore stands for a
    dash). Nothing else of it is kept."""
    others = dict(optional or {}) | {name.replace("_", "-"): reader for name, reader in more.items()}

    def of(value: Any) -> dict[str, Any]:
        has, found = _object(value), {}
        for key, reader in (*required.items(), *others.items()):
            if has.get(key) is None:
                if key in required:
                    raise Unfit(f"has no {key}")
                continue
            try:
                found[key] = reader(has[key])
            except Unfit as error:
                raise error.below(key) from None
        return found

    return of


def scalars(value: Any) -> dict[str, Any]:
    """An object of which the texts and numbers are kept, as they are but for their size."""
    found: dict[str, Any] = {}
    for key, each in _object(value).items():
        if isinstance(each, str):
            found[text(key)] = text(each)
        elif isinstance(each, int | float):
            try:
                found[text(key)] = whole(each) if isinstance(each, int) else real(each)
            except Unfit as error:
                raise error.below(key) from None
    return found


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit(f"is {_kind(value)}, not an object")
    return value


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _shown(found: str) -> str:
    short = found if len(found) <= SHOWN else found[:SHOWN] + "…"
    return one_line(short.encode(errors="replace").decode())
