"""What the doctor begins before its imports: an answer is whole, comes with its status, and is given once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.cli import doctor_begin
from nestlab.doctor import gather


def test_the_doctors_script_is_in_its_file() -> None:
    again = "write it again: python -m nestlab.doctor.gather > src/nestlab/doctor/gather.sh"
    assert Path(doctor_begin.SCRIPT).read_text() == gather.SCRIPT, again


def test_the_early_questions_of_the_doctor_give_facts_once() -> None:
    doctor_begin.examine()
    assert gather.parse(doctor_begin.examined(60), "this machine").kernel != ""


def test_a_doctor_without_a_shell_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    doctor_begin.examine()
    with pytest.raises(OSError, match="No such file"):
        doctor_begin.examined(1)


def test_an_answer_of_any_length_is_whole_and_comes_with_its_status() -> None:
    asked = doctor_begin.Asked(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; cat; exit 3"], __file__)
    status, text = asked.told(10)
    assert (status, text) == (3, "x" * 300000 + Path(__file__).read_text())


def test_what_does_not_answer_is_ended() -> None:
    asked = doctor_begin.Asked(["sleep", "60"])
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        asked.told(0.1)
