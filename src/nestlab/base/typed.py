"""What was read from a file or a text, made sure to be what its type says. Pure, and light to import."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeAlias, Union, get_args, get_origin, get_type_hints


def parsed(data: bytes | str) -> Any:
    """The value of a JSON text. ValueError for everything that is none, also NaN, numbers of thousands of digits, and
    what is nested too deeply."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


Fault: TypeAlias = Callable[[str], str]
"""What is wrong with a value, told once it is known where that stands."""

Reader: TypeAlias = Callable[[Any], Fault | None]


def check(value: Any, kind: Any, where: str) -> None:
    """ValueError, naming the place, unless a value is of a type as annotations say it, and all that is in it:
    dataclasses, tuples, mappings, unions and literals."""
    fault = _reader(kind)(value)
    if fault is not None:
        raise ValueError(fault(where))


@cache
def _reader(kind: Any) -> Reader:
    """What a type asks of a value, worked out once: a lab has thousands of values, of few types."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda _: None
    if origin is None:
        return _plain(kind)
    if origin is Literal:
        return _literal(inner)
    if origin in (UnionType, Union):
        return _any(inner)
    if origin is tuple:
        return _many(inner[0]) if len(inner) == 2 and inner[1] is Ellipsis else _several(inner)
    if issubclass(origin, Mapping):
        return _mapping(*inner)
    raise TypeError(f"no reader for {kind}")


def _plain(kind: Any) -> Reader:
    wanted: Any = (int, float) if kind is float else NoneType if kind is None else kind
    true, fields_too = kind is bool, is_dataclass(kind)

    def read(value: Any) -> Fault | None:
        if not isinstance(value, wanted) or (isinstance(value, bool) and not true):
            return _odd(value)
        if fields_too:
            for name, reader in _fields(value.__class__):
                if (fault := reader(getattr(value, name))) is not None:
                    return _below(fault, f".{name}")
        return None

    return read


def _literal(words: tuple[Any, ...]) -> Reader:
    known = tuple((isinstance(each, bool), each) for each in words)
    return lambda value: None if (isinstance(value, bool), value) in known else _odd(value)


def _any(kinds: tuple[Any, ...]) -> Reader:
    readers = [(kind if is_dataclass(kind) else None, _reader(kind)) for kind in kinds]
    none = NoneType in kinds

    def read(value: Any) -> Fault | None:
        if value is None and none:
            return None
        for kind, reader in readers:
            fault = reader(value)
            if fault is None:
                return None
            if kind is not None and isinstance(value, kind):  # type: ignore[arg-type]
                return fault
        return _odd(value)

    return read


def _many(kind: Any) -> Reader:
    reader = _reader(kind)

    def read(value: Any) -> Fault | None:
        if not isinstance(value, tuple):
            return _odd(value)
        for at, each in enumerate(value):
            if (fault := reader(each)) is not None:
                return _below(fault, f"[{at}]")
        return None

    return read


def _several(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Fault | None:
        if not isinstance(value, tuple):
            return _odd(value)
        if len(value) != len(readers):
            count = len(value)
            return lambda where: f"{where} has {count} parts"
        for at, (reader, each) in enumerate(zip(readers, value, strict=True)):
            if (fault := reader(each)) is not None:
                return _below(fault, f"[{at}]")
        return None

    return read


def _mapping(key_kind: Any, kind: Any) -> Reader:
    key_reader, reader = _reader(key_kind), _reader(kind)

    def read(value: Any) -> Fault | None:
        if not isinstance(value, Mapping):
            return _odd(value)
        for key, each in value.items():
            if (fault := key_reader(key)) is not None:
                return _key(fault)
            if (fault := reader(each)) is not None:
                return _below(fault, f".{key}")
        return None

    return read


def _odd(value: Any) -> Fault:
    return lambda where: f"{where} is {_shown(value)}"


def _below(fault: Fault, step: str) -> Fault:
    return lambda where: fault(f"{where}{step}")


def _key(fault: Fault) -> Fault:
    return lambda where: fault(f"a key of {where}")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


_NAMED: dict[type, Mapping[str, type]] = {}


def names(kind: type, **known: type) -> None:
    """What the annotations of a dataclass name and its module cannot import: that imports it."""
    _NAMED[kind] = known


@cache
def _fields(kind: type) -> tuple[tuple[str, Reader], ...]:
    found = get_type_hints(kind, localns=dict(_NAMED.get(kind, {})))
    return tuple((each.name, _reader(found[each.name])) for each in fields(kind))
