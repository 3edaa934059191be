"""What a computer cannot hold is noted when a lab file is checked: it may be meant for another."""

from __future__ import annotations

from pathlib import Path

from nestlab.lab.model import GIB
from nestlab.labfile import check

TEXT = "lab: x\nmachines:\n  a: {memory: %s}\n  b:\n    memory: 2G\n"


def notes(place: Path, text: str, memory: int) -> list[tuple[int, str, str]]:
    file = place / "lab.yaml"
    file.write_text(text)
    return [(each.line, each.key, each.what) for each in check(file, environ={}, memory=memory)[1]]


def test_a_machine_larger_than_the_computer_is_noted_where_it_says_so(tmp_path: Path) -> None:
    found = notes(tmp_path, TEXT % "900G", 8 * GIB)
    assert found == [(3, "machines.a.memory", "900G is more than the 8.0G of this computer")]


def test_machines_that_are_too_large_together_are_noted(tmp_path: Path) -> None:
    found = notes(tmp_path, TEXT % "7G", 8 * GIB)
    assert found == [(2, "machines", "its machines have 9.0G together, more than the 8.0G of this computer")]


def test_what_fits_or_runs_elsewhere_is_not_noted(tmp_path: Path) -> None:
    assert not notes(tmp_path, TEXT % "1G", 8 * GIB)
    assert not notes(tmp_path, TEXT % "900G", 0)
    assert not notes(tmp_path, "on: pve://root@pam!lab@pve1\n" + TEXT % "900G", 8 * GIB)
