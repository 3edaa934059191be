"""`@frozen`: a frozen dataclass that is quick to define.

What `@dataclass(frozen=True)` makes of a class is source text that Python compiles, six functions one by one, and a
signature for a class without a docstring: before Python 3.13 that takes about a millisecond a class on a slow machine,
and every command defines some two hundred (a fifth of what `nestlab plan` took). Here `__init__` alone is compiled; the
other five are the same few functions for all classes. `dataclasses.fields`, `replace` and `asdict` take them as any
dataclass, `field(...)` says the same, and type checkers know it (PEP 681).
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """The class as a frozen dataclass: instances are equal and hash by their fields, and cannot be assigned to."""
    own = set(vars(cls))
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else dataclass asks inspect for the signature
    dataclass(init=False, repr=False, eq=False)(cls)
    made = fields(cls)  # type: ignore[arg-type]
    compared = [each.name for each in made if (each.compare if each.hash is None else each.hash)]
    methods: dict[str, Callable[..., Any]] = {
        "__init__": _init(cls, made),
        "__repr__": _repr([each.name for each in made if each.repr]),
        "__eq__": _eq(_getter([each.name for each in made if each.compare])),
        "__hash__": _hash(_getter(compared)),
        "__setattr__": _no_assignment,
        "__delattr__": _no_deletion,
    }
    for name, method in methods.items():
        if name not in own or (name == "__hash__" and "__eq__" in own and cls.__hash__ is None):
            setattr(cls, name, method)
    return cls


def _init(cls: type, made: tuple[Field[Any], ...]) -> Callable[..., None]:
    """`__init__(self, FIELD, …)`. It writes past `__setattr__`, which refuses."""
    known: dict[str, Any] = {"_missing": MISSING}
    words, steps = ["self"], ["_at = self.__dict__"]
    for each in sorted((each for each in made if each.init), key=lambda each: bool(each.kw_only)):
        if each.kw_only and "*" not in words:
            words.append("*")
        default, given = "", each.name
        if each.default is not MISSING:
            known[f"_d_{each.name}"], default = each.default, f"=_d_{each.name}"
        elif each.default_factory is not MISSING:
            known[f"_f_{each.name}"], default = each.default_factory, "=_missing"
            given = f"_f_{each.name}() if {each.name} is _missing else {each.name}"
        words.append(f"{each.name}{default}")
        steps.append(f"_at[{each.name!r}] = {given}")
    for each in made:
        if not each.init and each.default_factory is not MISSING:
            known[f"_f_{each.name}"] = each.default_factory
            steps.append(f"_at[{each.name!r}] = _f_{each.name}()")
    if hasattr(cls, "__post_init__"):
        steps.append("self.__post_init__()")
    body = "\n ".join(steps)
    exec(f"def __init__({', '.join(words)}):\n {body}", known)
    made_init: Callable[..., None] = known["__init__"]
    made_init.__qualname__ = f"{cls.__qualname__}.__init__"
    return made_init


def _getter(names: list[str]) -> Callable[[object], Any]:
    return operator.attrgetter(*names) if names else lambda _: ()


def _repr(names: list[str]) -> Callable[[object], str]:
    @reprlib.recursive_repr()
    def __repr__(self: object) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _eq(get: Callable[[object], Any]) -> Callable[[object, object], bool]:
    def __eq__(self: object, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(get(self) == get(other))

    return __eq__


def _hash(get: Callable[[object], Any]) -> Callable[[object], int]:
    def __hash__(self: object) -> int:
        return hash(get(self))

    return __hash__


def _no_assignment(self: object, name: str, _: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _no_deletion(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
