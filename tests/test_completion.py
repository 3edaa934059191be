"""Completion in the shell offers what belongs at a place, and nothing where it cannot know."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.cli import complete
from nestlab.doctor.remedies import FIXABLE

LAB = """\
lab: x
images: {mine: {from: debian}}
machines: {hv: {hypervisor: kvm, machines: {web: {image: tiny}}}, db: {}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NESTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMP_CWORD", raising=False)
    (tmp_path / "lab.yaml").write_text(LAB)
    monkeypatch.setattr(complete, "_labs", lambda: ["x"])
    monkeypatch.setattr(complete, "paths", lambda name: iter(["hv", "hv/web", "db"]))


def type_in(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)


def test_after_fix_there_are_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in("nestlab doctor --fix ", monkeypatch)
    assert complete.doctor_words("") == [*FIXABLE, "hv", "hv/web", "db"]
    type_in("nestlab doctor ", monkeypatch)
    assert complete.doctor_words("") == ["hv", "hv/web", "db"]


def test_a_command_for_a_machine_is_not_completed_with_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for line, offers in (("nestlab exec ", True), ("nestlab exec hv ", True), ("nestlab exec hv -- ls ", False)):
        type_in(line, monkeypatch)
        assert bool(complete.machines_then_command("")) == offers
    for line, offers in (("nestlab ssh ", True), ("nestlab ssh hv ", False), ("nestlab ssh -- ", False)):
        type_in(line, monkeypatch)
        assert bool(complete.machine_then_command("")) == offers


def test_of_bashs_words_those_before_the_cursor_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_TYPER_COMPLETE_ARGS", raising=False)
    monkeypatch.setenv("COMP_WORDS", "nestlab exec h -- ls")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert complete.machines_then_command("h") == ["hv", "hv/web"]


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("ma", ["machines."]),
        ("machines.", ["machines.hv.", "machines.db."]),
        ("machines.hv.mem", ["machines.hv.memory="]),
        ("machines.hv.machines.", ["machines.hv.machines.web."]),
        ("machines.hv.im", ["machines.hv.image.", "machines.hv.image="]),
        ("machines.db.internet=", ["machines.db.internet=true", "machines.db.internet=false"]),
        ("images.", ["images.mine."]),
        ("images.mine.sui", ["images.mine.suite="]),
        ("defaults.accel=k", ["defaults.accel=kvm"]),
        ("nothing.at.all", []),
    ],
)
def test_keys_for_set_come_from_the_table_and_the_file(
    word: str, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in("nestlab up --set ", monkeypatch)
    assert complete.set_keys(word) == offered


def test_images_are_offered_where_they_are_built_or_removed() -> None:
    assert complete.images_to_build("") == ["debian", "kvm", "libvirt", "pve", "tiny", "lab.yaml"]
    assert complete.built_images("") == []


def test_validate_takes_files_and_labs() -> None:
    assert complete.labs_and_files("") == ["lab.yaml", "x"]
