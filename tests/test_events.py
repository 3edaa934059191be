from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.events import KINDS, Began, Event, Failed, from_line, to_line

EVENTS = st.one_of(*(st.builds(cls) for cls in KINDS.values())).filter(lambda event: math.isfinite(event.at))


@given(EVENTS)
def test_an_event_survives_being_a_line(event: Event) -> None:
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line) == event


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_a_line_that_is_no_event_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        from_line(line)


@pytest.mark.parametrize("data", [{}, {"event": "said"}, {"event": ["said"], "at": 1}, {"event": "said", "at": "1"}])
def test_an_object_that_is_no_event_is_a_value_error(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_line(json.dumps(data))


def test_an_event_says_its_kind_first() -> None:
    assert to_line(Failed(1.5, "boot:hv1", "hv1", "no", "yes")).startswith('{"event":"failed","at":1.5,')


def test_keys_of_a_newer_nestlab_are_ignored() -> None:
    assert from_line('{"event":"began","at":1,"verb":"up","mood":"good"}') == Began(1, verb="up")
