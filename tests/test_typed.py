"""What is read is of the types that it is said to be, or it is told where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from nestlab.base.typed import check, parsed


@dataclass(frozen=True)
class Inner:
    name: str
    size: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", 1] = "a"
    many: tuple[Inner, ...] = ()
    pair: tuple[str, float] = ("x", 1)
    by: Mapping[str, int] = field(default_factory=dict)
    any: Any = None


GOOD = Outer(Inner("x", 5), 1, (Inner("y"),), ("z", 2.5), {"a": 1}, object())

WRONG: tuple[tuple[Any, str], ...] = (
    (Outer("x"), "it.inner is 'x'"),  # type: ignore[arg-type]
    (Outer(Inner(3)), "it.inner.name is 3"),  # type: ignore[arg-type]
    (Outer(Inner("x", True)), "it.inner.size is True"),
    (Outer(Inner("x"), "b"), "it.kind is 'b'"),  # type: ignore[arg-type]
    (Outer(Inner("x"), True), "it.kind is True"),  # type: ignore[arg-type]
    (Outer(Inner("x"), many=[]), r"it.many is \[\]"),  # type: ignore[arg-type]
    (Outer(Inner("x"), many=(Inner("y"), Inner(None))), r"it.many\[1\].name is None"),  # type: ignore[arg-type]
    (Outer(Inner("x"), pair=("x",)), "it.pair has 1 parts"),  # type: ignore[arg-type]
    (Outer(Inner("x"), by={"a": "b"}), "it.by.a is 'b'"),  # type: ignore[dict-item]
    (Outer(Inner("x"), by={1: 2}), "a key of it.by is 1"),  # type: ignore[dict-item]
)


def test_what_is_typed_passes() -> None:
    check(GOOD, Outer, "it")


@pytest.mark.parametrize(("value", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_is_not_is_told_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(value, Outer, "it")


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "[" * 20_000 + "]" * 20_000, "9" * 5000])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parsed(text)
