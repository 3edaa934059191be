"""Keys and texts: what is typed, or refused before anything is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.base.keyboard import KEYS, LONGEST, chord, chords, typed


def test_words_are_keys_that_are_pressed_together() -> None:
    assert chord("ctrl-alt-f2") == ("ctrl", "alt", "f2")
    assert chord("Enter") == ("ret",)
    assert chords(["down", "win-r"]) == (("down",), ("meta_l", "r"))


@pytest.mark.parametrize("word", ["", "ctrl-", "f13x", "ctrl-alt-del-\x1b[2J", "é"])
def test_a_word_that_is_no_key_is_one_message(word: str) -> None:
    with pytest.raises(LabError, match="no key of a keyboard") as caught:
        chord(word)
    assert "\x1b" not in str(caught.value)


def test_a_slip_is_told() -> None:
    with pytest.raises(LabError) as caught:
        chord("ctrl-backspce")
    assert "`backspace`" in caught.value.hint


def test_a_text_is_typed_on_a_us_keyboard() -> None:
    assert typed("aB1!\n") == (("a",), ("shift", "b"), ("1",), ("shift", "1"), ("ret",))


@given(st.text(alphabet=[chr(code) for code in (*range(32, 127), 9, 10)], max_size=50))
def test_all_of_ascii_can_be_typed(text: str) -> None:
    found = typed(text)
    assert len(found) == len(text)
    assert all(set(keys) <= KEYS for keys in found)


def test_what_cannot_be_typed_is_refused_whole() -> None:
    with pytest.raises(LabError, match="'ü', character 3 ") as caught:
        typed("grün")
    assert "Nothing was typed" in caught.value.hint
    with pytest.raises(LabError, match=f"at most {LONGEST}"):
        typed("a" * (LONGEST + 1))
    with pytest.raises(LabError, match="at most"):
        chords(["a"] * (LONGEST + 1))
