"""Lines that are longer than the terminal is wide."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.paint import Paint
from nestlab.base.wrap import fit


def test_a_line_is_broken_between_words_at_its_indentation() -> None:
    assert fit("  one two three four five six", 20) == "  one two three four\n  five six"


def test_what_goes_on_stands_below_the_last_column() -> None:
    line = "fail  cpu   neither vmx nor svm is there at all"
    assert fit(line, 34) == "fail  cpu   neither vmx nor svm is\n            there at all"


def test_a_table_too_wide_goes_on_indented() -> None:
    assert fit("name    state    level  addresses  10.0.0.1", 36) == "name    state    level  addresses\n    10.0.0.1"


def test_a_command_in_backticks_stays_in_one_line_where_one_holds_it() -> None:
    assert fit("Say it again: `nestlab up pair --yes`.", 30) == "Say it again:\n`nestlab up pair --yes`."
    assert fit("Say `nestlab up pair --yes --debug --no-wait` now", 24).split("\n")[0] == "Say `nestlab up pair"


def test_a_word_longer_than_a_line_stays_whole() -> None:
    assert (
        fit("see /a/very/long/path/that/no/line/holds there", 20) == "see\n/a/very/long/path/that/no/line/holds\nthere"
    )


def test_a_line_quoted_from_a_file_stays_as_what_points_into_it() -> None:
    quoted = "  12 | machines: {hv: {hypervisor: kvm, memory: lots}}\n     |                                        ^"
    assert fit(quoted, 30) == quoted


def test_colours_have_no_width() -> None:
    red = Paint(on=True)("red", "error:")
    assert fit(f"{red} one two three four", 20) == f"{red} one two three\nfour"
    assert fit(f"{red} one two", 20) == f"{red} one two"


@pytest.mark.parametrize("width", [None, 10])
def test_without_a_width_or_a_sensible_one_nothing_changes(width: int | None) -> None:
    assert fit("x " * 100, width) == "x " * 100


@given(st.text("ab `-\n", max_size=300), st.integers(20, 100))
def test_nothing_is_lost_and_only_words_are_longer_than_a_line(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert fitted.split() == text.split()
    assert all(
        len(line) <= width or re.match(r"\s*(\d+ \||\|)", line) or len(re.findall(r"\S+", line)) == 1 or line in text
        for line in fitted.split("\n")
    )
    assert fit(fitted, width).split() == text.split()
