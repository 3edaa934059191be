"""`@frozen` makes what `@dataclass(frozen=True)` makes."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.frozen import frozen


@frozen
class Mine:
    """With all that a field may be."""

    a: int
    b: tuple[int, ...] = ()
    c: dict[str, int] = field(default_factory=dict, hash=False)
    seen: str = field(default="", compare=False)
    hidden: str = field(default="", repr=False)
    named: bool = field(default=False, kw_only=True)
    words: ClassVar[str] = "words"

    @cached_property
    def double(self) -> int:
        return 2 * self.a


@dataclass(frozen=True)
class Theirs:
    """The same."""

    a: int
    b: tuple[int, ...] = ()
    c: dict[str, int] = field(default_factory=dict, hash=False)
    seen: str = field(default="", compare=False)
    hidden: str = field(default="", repr=False)
    named: bool = field(default=False, kw_only=True)
    words: ClassVar[str] = "words"


@frozen
class More(Mine):
    d: int = 4


@frozen
class Empty:
    pass


@frozen
class One:
    only: tuple[int, ...]


@frozen
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"{self.low} is above {self.high}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checked) and self.low == other.low

    def __repr__(self) -> str:
        return f"{self.low}..{self.high}"


FIELDS = st.fixed_dictionaries(
    {"a": st.integers(0, 2)},
    optional={
        "b": st.lists(st.integers(0, 1), max_size=2).map(tuple),
        "c": st.dictionaries(st.sampled_from("xy"), st.integers(0, 1), max_size=1),
        "seen": st.sampled_from(["", "s"]),
        "hidden": st.sampled_from(["", "h"]),
        "named": st.booleans(),
    },
)


@given(FIELDS, FIELDS)
def test_it_equals_hashes_and_prints_as_a_frozen_dataclass_does(one: dict[str, Any], two: dict[str, Any]) -> None:
    mine: list[Any] = [Mine(**each) for each in (one, two)]
    theirs: list[Any] = [Theirs(**each) for each in (one, two)]
    assert (mine[0] == mine[1]) == (theirs[0] == theirs[1])
    assert repr(mine[0]) == repr(theirs[0]).replace("Theirs", "Mine")
    assert asdict(mine[0]) == asdict(theirs[0])
    assert [each.name for each in fields(mine[0])] == [each.name for each in fields(theirs[0])]
    if mine[0] == mine[1]:
        assert hash(mine[0]) == hash(mine[1])
    assert mine[0] != theirs[0]


def test_nothing_of_it_can_be_assigned_or_deleted() -> None:
    made = Mine(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        made.a = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        made.other = 2  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'a'"):
        del made.a
    assert made.double == 2


def test_it_is_replaced_copied_and_pickled() -> None:
    made = Mine(1, (2,), {"x": 1}, named=True)
    assert replace(made, a=5) == Mine(5, (2,), {"x": 1}, named=True)
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    assert Mine(1).c is not Mine(1).c


def test_one_that_inherits_has_all_fields_and_is_never_equal_to_its_base() -> None:
    assert More(1, d=2).d == 2
    assert More(1) == More(1)
    assert More(1) != Mine(1)
    assert repr(One((1,))) == "One(only=(1,))"
    assert (Empty(), hash(Empty()), repr(Empty())) == (Empty(), hash(Empty()), "Empty()")


def test_arguments_are_checked_as_of_any_function() -> None:
    make: Any = Mine
    for words, named in (((), {}), ((1, (), {}, "", "", True), {}), ((1,), {"x": 2})):
        with pytest.raises(TypeError):
            make(*words, **named)


def test_what_a_class_says_itself_stays() -> None:
    assert Checked(1, 2) == Checked(1, 3)
    assert repr(Checked(1, 2)) == "1..2"
    with pytest.raises(ValueError, match="3 is above 2"):
        Checked(3, 2)
    assert hash(Checked(1, 2)) == hash(Checked(1, 2))
