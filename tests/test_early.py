"""Facts that were asked for early are the facts; where that went wrong they are asked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.doctor import gather
from nestlab.hosts import early
from nestlab.hosts.local import LocalHost


async def test_facts_asked_early_are_those_asked_late() -> None:
    late = await LocalHost().facts()
    early.begin()
    host = LocalHost()
    found = await host.facts()
    assert (found.kernel, found.flags, found.kvm, found.uid) == (late.kernel, late.flags, late.kvm, late.uid)
    assert early.said(1.0) == "", "an answer is given once"


@pytest.mark.parametrize("command", [["/nowhere"], ["true"], ["false"]])
async def test_a_probe_that_failed_is_run_again(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "command", lambda: command)
    early.begin()
    assert (await LocalHost().facts()).kernel != ""


def test_a_probe_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "command", lambda: ["sleep", "60"])
    early.begin()
    assert early.said(0.1) == ""


def test_the_doctors_script_is_in_its_file() -> None:
    again = "write it again: python -m nestlab.doctor.gather > src/nestlab/doctor/gather.sh"
    assert Path(early.SCRIPT).read_text() == gather.SCRIPT, again


def test_what_the_doctor_asks_early_are_facts_and_are_told_once() -> None:
    early.examine()
    assert gather.parse(early.examined(60), "this machine").kernel != ""


def test_a_doctor_without_a_shell_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    early.examine()
    with pytest.raises(OSError, match="No such file"):
        early.examined(1)


def test_an_answer_of_any_length_is_whole_and_comes_with_its_status() -> None:
    asked = early.Asked(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; cat; exit 3"], __file__)
    status, text = asked.told(10)
    assert (status, text) == (3, "x" * 300000 + Path(__file__).read_text())


def test_what_does_not_answer_is_ended() -> None:
    asked = early.Asked(["sleep", "60"])
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        asked.told(0.1)
