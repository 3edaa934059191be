"""What was read from a file or a text, made sure to be what its type says. Pure, and light to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints


def parsed(data: bytes | str) -> Any:
    """The value of a JSON text. ValueError for everything that is none, also NaN, numbers of thousands of digits, and
    what is nested too deeply."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def check(value: Any, kind: Any, where: str) -> None:
    """ValueError, naming the place, unless a value is of a type as annotations say it, and all that is in it:
    dataclasses, tuples, mappings, unions and literals."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin is None:
        _plain(value, kind, where)
        if is_dataclass(kind):
            for name, hint in _hints(type(value)):  # type: ignore[arg-type]
                check(getattr(value, name), hint, f"{where}.{name}")
    elif origin is Literal:
        if value not in inner or isinstance(value, bool) not in {isinstance(each, bool) for each in inner}:
            raise ValueError(f"{where} is {_shown(value)}")
    elif origin in (UnionType, Union):
        _any(value, inner, where)
    elif origin is tuple:
        _is(value, tuple, where)
        many = len(inner) == 2 and inner[1] is Ellipsis
        if not many and len(value) != len(inner):
            raise ValueError(f"{where} has {len(value)} parts")
        for at, each in enumerate(value):
            check(each, inner[0] if many else inner[at], f"{where}[{at}]")
    elif issubclass(origin, Mapping):
        _is(value, Mapping, where)
        for key, each in value.items():
            check(key, inner[0], f"a key of {where}")
            check(each, inner[1], f"{where}.{key}")
    else:
        raise TypeError(f"no reader for {kind}")


def _any(value: Any, kinds: tuple[Any, ...], where: str) -> None:
    for kind in kinds:
        try:
            return check(value, kind, where)
        except ValueError as error:
            if is_dataclass(kind) and isinstance(value, kind):  # type: ignore[arg-type]
                raise error
    raise ValueError(f"{where} is {_shown(value)}")


def _plain(value: Any, kind: Any, where: str) -> None:
    if kind is float:
        _is(value, (int, float), where)
    else:
        _is(value, NoneType if kind is None else kind, where)


def _is(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where} is {_shown(value)}")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


_NAMED: dict[type, Mapping[str, type]] = {}


def names(kind: type, **known: type) -> None:
    """What the annotations of a dataclass name and its module cannot import: that imports it."""
    _NAMED[kind] = known


@cache
def _hints(kind: type) -> tuple[tuple[str, Any], ...]:
    found = get_type_hints(kind, localns=dict(_NAMED.get(kind, {})))
    return tuple((each.name, found[each.name]) for each in fields(kind))
