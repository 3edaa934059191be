"""A short slice of `make fuzz`, and every case that it ever found: nestlab takes what it is given, or refuses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fuzz import mutate, runner
from fuzz.shrink import shrunk
from fuzz.target import NAMES, ROOT, Outcome, case_of, load, outcome
from nestlab.base.errors import LabError
from waiting import LONG

SLICE = 60
"""Cases of each target, always the same."""

AWAITED: dict[str, str] = {}
"""Cases that still show what they were found with, by file: whose part it is to mend them."""


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """Targets set variables of their process, which elsewhere is a worker of their own."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def told(total: runner.Sum) -> str:
    return "\n\n".join(f"case {each.number}: {each.what}\n{each.told}" for each in total.findings.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_of_made_up_input_is_taken_or_refused(name: str) -> None:
    total = runner.run(name, seed=13, cases=SLICE, jobs=1, seconds=LONG)
    assert total.cases == SLICE
    unknown = {what for what in total.findings if f"{name}/{runner.stem(what)}" not in AWAITED}
    assert not unknown, told(total)


def stored() -> Iterator[object]:
    """The cases of a target together, and each by itself that still is to be mended."""
    for name, files in runner.stored().items():
        awaited = {f"{name}/{file.stem}": file for file in files if f"{name}/{file.stem}" in AWAITED}
        for key, file in awaited.items():
            yield pytest.param(name, [file], id=key, marks=pytest.mark.xfail(reason=AWAITED[key]))
        yield pytest.param(name, [file for file in files if file not in awaited.values()], id=name)


@pytest.mark.parametrize(("name", "files"), list(stored()))
def test_what_was_found_once_is_not_found_again(name: str, files: list[Path]) -> None:
    total = runner.replay(name, files, seconds=LONG)
    assert total.cases == len(files)
    assert not total.findings, told(total)


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_decided_by_its_seed_and_number(name: str) -> None:
    target = load(name)
    try:
        assert case_of(target, name, 1, 7) == case_of(target, name, 1, 7)
        assert len({case_of(target, name, 1, number) for number in range(20)}) > 10
    finally:
        target.close()


class Fake:
    """A target that does as a case says."""

    def make(self, rng: Random) -> bytes:
        return b""

    def run(self, case: bytes, place: Path) -> str:
        if b"refuse" in case:
            raise LabError("No.")
        if b"fail" in case:
            raise KeyError("x")
        return "taken"

    def close(self) -> None: ...


WORK = """
import faulthandler, select, signal
from fuzz import worker
faulthandler.register(signal.SIGPROF, chain=True)
with worker._watched(SECONDS):
    while True:
        WORK
"""


@pytest.mark.parametrize(("work", "seconds"), [("pass", 0.2), ("select.select([], [], [], 1000)", 0.02)])
def test_a_case_that_takes_too_long_is_ended_and_tells_where_it_was(work: str, seconds: float) -> None:
    text = WORK.replace("WORK", work).replace("SECONDS", str(seconds))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(runner.HERE.parent), str(ROOT.parent)])}
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == (-signal.SIGPROF if work == "pass" else 1)
    assert "most recent call first" in ended.stderr


def test_only_nestlabs_own_errors_are_refusals(tmp_path: Path) -> None:
    def come(case: bytes) -> Outcome:
        return outcome(Fake(), case, tmp_path)

    assert come(b"x") == Outcome("taken")
    assert come(b"refuse") == Outcome("refused (LabError)")
    assert come(b"fail").finding == "KeyError"


def test_what_is_found_is_made_smaller(tmp_path: Path) -> None:
    def fails(case: bytes) -> bool:
        return bool(outcome(Fake(), case, tmp_path).finding)

    assert shrunk(b"a\nb fail c\nd\n", fails) == b"fail"
    assert shrunk(b'{"a": [1, 2, "fail"], "b": {"c": null}}', fails) == b'{"a": ["fail"]}'
    assert shrunk(b'name\n{"a": [1, 2, "fail"], "b": {"c": null}}', fails) == b'name\n{"a": ["fail"]}'


def test_changes_are_decided_by_the_generator() -> None:
    data = {"a": [1, "x", None], "b": {"c": 2.5}}
    for seed in range(50):
        assert repr(mutate.tree(Random(seed), data)) == repr(mutate.tree(Random(seed), data))
        assert mutate.octets(Random(seed), b"hello") == mutate.octets(Random(seed), b"hello")
    assert data == {"a": [1, "x", None], "b": {"c": 2.5}}
