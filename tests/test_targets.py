"""Which lab and machines are meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home.targets import Which, expand, matches, which

PATHS = ("hv1", "hv1/web", "hv1/db", "hv2", "hv2/web")


def test_a_word_with_the_ending_of_yaml_is_a_lab_file(tmp_path: Path) -> None:
    assert which(["pair.yaml", "hv1"], ["pair"], tmp_path) == Which(tmp_path / "pair.yaml", machines=("hv1",))


def test_a_file_without_that_ending_is_a_lab_file_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "mylab").touch()
    assert which(["mylab"], [], tmp_path).file == tmp_path / "mylab"


def test_the_name_of_a_lab_wins_over_a_machine_of_that_name(tmp_path: Path) -> None:
    assert which(["hv1"], ["hv1", "pair"], tmp_path) == Which(lab="hv1")


def test_the_only_lab_is_meant_where_none_is_named(tmp_path: Path) -> None:
    assert which(["hv1/web", "hv2"], ["pair"], tmp_path) == Which(lab="pair", machines=("hv1/web", "hv2"))
    assert which([], ["pair"], tmp_path) == Which(lab="pair")


def test_the_lab_file_of_the_current_directory_is_meant_before_that(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").touch()
    assert which(["hv1"], ["other"], tmp_path) == Which(tmp_path / "lab.yaml", machines=("hv1",))


def test_a_machine_may_say_its_lab(tmp_path: Path) -> None:
    assert which(["two:hv1/web"], ["one", "two"], tmp_path) == Which(lab="two", machines=("hv1/web",))
    assert which(["two", "two:hv1"], ["one", "two"], tmp_path) == Which(lab="two", machines=("hv1",))


def test_machines_may_be_separated_by_commas(tmp_path: Path) -> None:
    assert which(["one:hv1,hv2/web"], ["one", "two"], tmp_path).machines == ("hv1", "hv2/web")


def test_a_machine_that_one_lab_has_says_which_lab(tmp_path: Path) -> None:
    paths = {"one": ["hv1", "hv1/a"], "two": ["hv1", "b"]}.__getitem__
    assert which(["b"], ["one", "two"], tmp_path, paths) == Which(lab="two", machines=("b",))
    assert which(["hv1,hv1/*"], ["one", "two"], tmp_path, paths).lab == "one"
    for word in ("hv1", "c"):
        with pytest.raises(LabError, match="not clear which lab"):
            which([word], ["one", "two"], tmp_path, paths)
    (tmp_path / "lab.yaml").touch()
    assert which(["b"], ["one", "two"], tmp_path, paths).file == tmp_path / "lab.yaml"


@pytest.mark.parametrize(
    ("words", "labs", "what", "hint"),
    [
        ([], [], "There is no lab, and no lab.yaml or nestlab.yaml here.", "nestlab up FILE"),
        ([], ["one", "two"], "Several labs exist.", "one, two"),
        (["hv1/web"], ["one", "two"], "It is not clear which lab hv1/web is in.", "LAB:hv1/web"),
        (["oen"], ["one", "two"], "It is not clear which lab oen is in.", "Did you mean lab one?"),
        (["oen:hv1"], ["one", "two"], "There is no lab oen.", "Did you mean one?"),
        (["one:hv1", "two:hv1"], ["one", "two"], "one and two are different labs.", "one lab at a time"),
        (["one", "two:hv1"], ["one", "two"], "two:hv1 is not in lab one.", "one lab at a time"),
        (["pear"], [], "There is no lab pear.", "nestlab up FILE"),
    ],
)
def test_what_is_not_clear_is_an_error(words: list[str], labs: list[str], what: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        which(words, labs, tmp_path)
    assert caught.value.what == what
    assert hint in caught.value.hint


def test_a_star_stays_within_one_name() -> None:
    assert expand(["hv*"], PATHS, "pair") == ("hv1", "hv2")
    assert expand(["*/web", "hv1"], PATHS, "pair") == ("hv1", "hv1/web", "hv2/web")
    assert not matches("hv1/web", "*")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("web", "Did you mean hv1/web or hv2/web?"),
        ("hv3", "Did you mean"),
        ("x*", "Its machines: hv1, "),
        ("qqq", "Its"),
    ],
)
def test_a_machine_that_is_not_there_is_an_error_with_a_guess(pattern: str, hint: str) -> None:
    with pytest.raises(LabError) as caught:
        expand([pattern], PATHS, "pair")
    assert hint in caught.value.hint
