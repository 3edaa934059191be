from __future__ import annotations

import os
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.events import Began, Ended, Event, Finished, Said, Started
from nestlab.home.journal import KEEP, Journal, last_steps, read, runs, start

EVENTS: list[Event] = [
    Began(1.0, verb="up", lab="pair", steps=("boot:hv1",)),
    Started(2.0, "boot:hv1", "hv1", "not there yet"),
    Said(3.0, "boot:hv1", "hv1", "waiting for ssh – still"),
    Finished(4.0, "boot:hv1", "hv1", 2.0),
    Ended(5.0, ok=True, seconds=4.0),
]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    with start(tmp_path / "journal", "up", now=0) as journal:
        for event in EVENTS:
            journal.write(event)
        assert list(read(journal.path)) == EVENTS, "while it is still being written, too"
    assert journal.path.name == "19700101T000000Z-up.jsonl"
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    with start(tmp_path, "up") as journal:
        for event in EVENTS:
            journal.write(event)
    os.truncate(journal.path, journal.path.stat().st_size - cut)
    assert list(read(journal.path)) == EVENTS[:-1]


def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "20260101T000000Z-up.jsonl"
    path.write_bytes(b'{"event":"said","at":1}\n\xff\n')
    with pytest.raises(LabError, match=r"20260101T000000Z-up.jsonl:2: "):
        list(read(path))


def test_a_journal_that_is_not_there_is_a_labs_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be read"):
        list(read(tmp_path / "nothing"))


def test_two_runs_in_one_second_have_their_own_journals(tmp_path: Path) -> None:
    paths = [start(tmp_path, verb, now=7).path for verb in ("up", "up", "up", "down")]
    assert len(set(paths)) == 4
    assert [run.path for run in runs(tmp_path) if run.verb == "up"] == paths[:3]
    assert {run.began for run in runs(tmp_path)} == {7.0}


def test_the_last_runs_are_kept(tmp_path: Path) -> None:
    for second in range(KEEP + 5):
        start(tmp_path, "up", now=second).close()
    assert [run.began for run in runs(tmp_path)] == list(range(5, KEEP + 5))


def test_other_files_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "noZtime-up.jsonl").touch()
    (tmp_path / "notes.txt").touch()
    assert runs(tmp_path) == []
    assert runs(tmp_path / "nothing") == []


def test_a_full_disk_ends_the_journal_and_not_the_run() -> None:
    with Journal(Path("/dev/full"), os.open("/dev/full", os.O_WRONLY)) as journal:
        journal.write(EVENTS[0])
        assert journal.error == "The journal /dev/full ends early: No space left on device."
        journal.write(EVENTS[1])


def test_a_directory_that_cannot_be_made_is_a_labs_error(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    with pytest.raises(LabError, match="cannot be written"):
        start(tmp_path / "journal", "up")


def test_what_was_done_with_a_machine_last_is_found_in_the_newest_run_that_did_something(tmp_path: Path) -> None:
    for now, step, at in ((0, "boot:a", 10.0), (60, "stop:a", 70.0), (120, "boot:b", 130.0)):
        with start(tmp_path, "up", now=now) as journal:
            journal.write(Finished(at, step, step[-1], 1.0))
            journal.write(Said(at, "boot:c", "c", "not done"))
    (tmp_path / "20010101T000000Z-up.jsonl").write_text("damaged\n")
    assert last_steps(tmp_path, ["a", "b", "c"]) == {"a": ("stop", 70.0), "b": ("boot", 130.0)}
    assert last_steps(tmp_path / "none", ["a"]) == {}
