"""A stdout that is full or closed is told in one message, and no stream that is missing ends nestlab otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nestlab.cli import exit_status
from nestlab.cli.exit_status import reporting
from nestlab.cli.streams import Unwritten

FULL = "error: stdout cannot be written: No space left on device.\nMake room where it goes, or send it elsewhere.\n"
CLOSED = (
    "error: stdout cannot be written: it is closed.\nGive nestlab a stdout: a terminal, a pipe, a file or /dev/null.\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "task.log"
    path.write_text("write: No space left on device\n")
    return path


def nestlab(home: Path, words: Sequence[str], streams: str, buffered: str = "") -> subprocess.CompletedProcess[str]:
    """nestlab with streams as a shell redirects them."""
    env = {**os.environ, "NESTLAB_HOME": str(home), "NO_COLOR": "1", "PYTHONUNBUFFERED": buffered}
    argv = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "nestlab", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize(("streams", "told"), [(">/dev/full", FULL), (">&-", CLOSED)])
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [["doctor"], ["doctor", "--json"], ["doctor", "--facts"], ["explain", "LOG"], ["schema"], ["--help"]]
)
def test_a_stdout_that_takes_nothing_is_told_in_one_message(
    tmp_path: Path, log: Path, words: list[str], buffered: str, streams: str, told: str
) -> None:
    said = nestlab(tmp_path, [str(log) if word == "LOG" else word for word in words], streams, buffered)
    assert (said.returncode, said.stderr) == (2, told)
    assert not list(tmp_path.glob("crash-*"))


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_the_other_streams_may_be_closed_or_full(tmp_path: Path, log: Path, streams: str) -> None:
    said = nestlab(tmp_path, ["explain", str(log)], streams)
    assert said.returncode == 0
    assert "No space left on device" in said.stdout
    assert nestlab(tmp_path, ["nosuch"], streams).returncode == 2
    assert nestlab(tmp_path, ["doctor", "--fix", "granola"], f"{streams} >&-").returncode == 2


def test_a_full_stdout_that_several_ran_into_is_no_bug_but_a_bug_beside_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NESTLAB_HOME", str(tmp_path))
    monkeypatch.setattr(exit_status, "silence", lambda: 141)
    full = Unwritten(28, "No space left on device")
    for errors, expected in (([full, full], 2), ([full, KeyError("x")], 1)):
        status = [0]
        with reporting(status, debug=False):
            raise ExceptionGroup("several", errors)
        assert status == [expected]
        assert ("stdout cannot be written" in capfd.readouterr().err) == (expected == 2)
