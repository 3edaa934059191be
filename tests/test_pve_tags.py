from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.engines.pve import tags
from nestlab.engines.pve.tags import Mark

MARK = Mark("pair", "hv1", 105, digest="d" * 40, names="n" * 40, image="kvm-1", cargo=("tiny-1",))

words = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30)
made = st.builds(
    Mark,
    lab=st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    path=st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True),
    vmid=st.integers(100, 999_999_999),
    digest=words,
    names=words,
    wanted=st.sampled_from(["running", "stopped"]),
    making=st.booleans(),
    told=words,
    since=st.integers(0, 1 << 33),
    bridged=st.lists(words, max_size=3).map(tuple),
    cargo=st.lists(words, max_size=3).map(tuple),
    kvm=st.booleans(),
)


@given(made, st.text(max_size=200))
def test_what_is_written_into_notes_is_read_from_them(mark: Mark, notes: str) -> None:
    written = tags.write(notes, mark)
    assert tags.read(written, mark.vmid) == mark
    again = replace(mark, wanted="running", making=False)
    assert tags.read(tags.write(written, again), mark.vmid) == again


@given(made, st.lists(st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1), max_size=5))
def test_what_a_person_wrote_stays_in_the_notes(mark: Mark, lines: list[str]) -> None:
    text = "\n".join(lines)
    once = tags.write(text, mark)
    assert once.startswith(text)
    assert tags.write(once, mark) == once


def test_a_person_may_write_around_the_mark() -> None:
    notes = f"Do not touch!\n\n{tags.line(MARK)}\nsaid Anna"
    assert tags.read(notes, 105) == MARK
    assert tags.write(notes, MARK) == f"Do not touch!\n\nsaid Anna\n\n{tags.line(MARK)}"


def test_a_copy_of_a_machine_is_not_the_machine() -> None:
    assert tags.read(tags.line(MARK), 105) == MARK
    assert tags.read(tags.line(MARK), 106) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nestlab: ",
        "nestlab: {",
        "nestlab: []",
        "nestlab: 3",
        'nestlab: {"template":"kvm-1"}',
        'nestlab: {"lab":"pair","vmid":105}',
        'nestlab: {"lab":"pair","path":"hv1","vmid":"105"}',
        'nestlab: {"lab":"pair","path":"hv1","vmid":105,"wanted":"gone"}',
        'nestlab: {"lab":["pair"],"path":"hv1","vmid":105}',
        'nestlab: {"lab":"pair","path":"hv1","vmid":105,"cargo":3}',
    ],
)
def test_what_is_no_mark_is_none(line: str) -> None:
    assert tags.read(line, 105) is None


def test_a_mark_of_a_later_nestlab_is_read_as_far_as_it_is_known() -> None:
    assert tags.of_line('nestlab: {"lab":"a","path":"b","vmid":100,"colour":"red"}') == Mark("a", "b", 100)


def test_long_notes_are_shortened_and_the_mark_is_not() -> None:
    notes = tags.write("x" * 9000, MARK)
    assert len(notes) <= tags.NOTES_LIMIT
    assert tags.read(notes, 105) == MARK


def test_tags_say_whose_it_is_and_leave_others_alone() -> None:
    own = f"nestlab;nestlab-pair;nestlab.{tags.stamp(MARK)}"
    assert tags.tags("", MARK) == own
    assert tags.tags("nestlab;nestlab-template", MARK) == own
    assert tags.tags("prod,nestlab.0123456789ab web", MARK) == own + ";prod;web"
    assert tags.stamp_of(tags.split(own)) == tags.stamp(MARK)
    assert tags.may_be(tags.split(own), "pair")
    assert tags.may_be(("nestlab", "nestlab-template"), "pair"), "a clone that has no tags of its own yet"
    assert not tags.may_be(tags.split(own), "pai")
    assert not tags.may_be(("nestlab-pair",), "pair")
