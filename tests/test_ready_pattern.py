"""The patterns that a console is searched for mean what they mean elsewhere, and no console makes a search endless."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.engines.qemu.readiness import LINE, Search, connections
from nestlab.lab.console_pattern import LONGEST, compiled

PIECES = st.recursive(
    st.sampled_from(["a", "b", "x", "\\d", "\\w", "\\s", ".", "[ab]", "[^a]", "[a-c1-3]", "\\.", "^", "$"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
    ),
    max_leaves=8,
)


@given(PIECES, st.text("abx1. ", max_size=12))
def test_a_pattern_is_found_where_pythons_finds_it(pattern: str, line: str) -> None:
    if len(pattern) <= LONGEST:
        assert compiled(pattern).search(line) == bool(re.search(pattern, line, re.ASCII))


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "a*a*a*a*a*a*a*a*b", "(a?){50}a{50}$", "((((a+)+)+)+)+$"])
def test_what_would_take_pythons_for_ever_ends(pattern: str) -> None:
    assert not compiled(pattern).search("a" * 3000 + "!")


def test_letters_of_either_case() -> None:
    assert compiled("(?i)^LOGIN: ?$").search("login: ")
    assert compiled("(?i)[A-C]x").search("bX")
    assert not compiled("login").search("LOGIN")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "it is empty"),
        ("a" * (LONGEST + 1), "more than 200 letters"),
        ("(", "a `(` is not closed"),
        (")", "a `)` closes nothing"),
        ("[a", "a `[` is not closed"),
        ("*a", "`*` repeats nothing"),
        ("a**", "`*` repeats what is repeated already"),
        ("a{5,2}", "no number of repetitions"),
        ("a{1000}", "no number of repetitions"),
        ("a{,", "begins no number of repetitions"),
        ("(a{100}){100}", "its repetitions are too many together"),
        ("(?=a)", "there are only `(?:…)`"),
        (r"\bword", r"`\b` is not known here"),
        (r"(a)\1", r"`\1` is not known here"),
        ("a\\", "it ends in a backslash"),
        ("[b-a]", "a range that ends before it begins"),
        ("(" * 60 + "a" + ")" * 60, "nested too deeply"),
    ],
)
def test_what_is_no_pattern_is_told_why(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        compiled(pattern)


def test_a_console_is_searched_by_lines_however_it_comes() -> None:
    search = Search("^ready [0-9]+$")
    assert not search.feed(b"not ready 1\r\n\x1b[1;32mrea")
    assert search.feed(b"dy 17\x1b[0m\r\n")
    assert not Search("^b$").feed(b"a\nab\nba\n")


def test_a_prompt_that_stands_at_the_end_counts_once_nothing_follows_it() -> None:
    search = Search("login: ?$")
    assert not search.feed(b"Debian\r\nhost login: ")
    assert search.stands()
    assert not search.feed(b"root\r\nPass")
    assert not search.stands()


def test_a_line_without_end_is_searched_in_parts_and_not_kept() -> None:
    search = Search("b")
    assert not search.feed(b"a" * (5 * LINE + 3))
    assert len(search._rest) < LINE
    assert search.feed(b"b\n")


USERNET = """Hub -1 (mgmt):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   51       127.0.0.1 41277   10.182.113.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 28040   10.182.113.15    22     0     0
  UDP[238 sec]       13   10.182.113.15 41231  192.168.178.1    53     0     0
"""


def test_what_qemu_tells_of_its_user_network_is_read() -> None:
    """As QEMU 10.0.13 printed it."""
    assert connections(USERNET) == [
        ("ESTABLISHED", "127.0.0.1:41277", "10.182.113.15:22"),
        ("HOST_FORWARD", "127.0.0.1:28040", "10.182.113.15:22"),
    ]
    assert connections("nonsense\n" * 5) == []
