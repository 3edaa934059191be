"""START, by real shells: QEMU gets a session of its own, and a failure is told however late it comes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from nestlab.engines.qemu import scripts
from waiting import LONG

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]

pytestmark = pytest.mark.parametrize("shell", SHELLS)


def words(shell: str, root: Path, qemu: str) -> list[str]:
    return [shell, "-c", scripts.START, "start", "nestlab:lab:m", str(root), "{}", "sh", "-c", qemu]


def start(shell: str, root: Path, qemu: str) -> tuple[int, list[str]]:
    """Until its end: the status and what was said."""
    done = subprocess.run(words(shell, root, qemu), capture_output=True, text=True, timeout=LONG)
    return done.returncode, done.stdout.splitlines()


def test_a_qemu_that_fails_says_why_and_leaves_no_boot(shell: str, tmp_path: Path) -> None:
    status, said = start(shell, tmp_path, "echo 'qemu: no such device' >&2; exit 1")
    assert (status, said) == (0, ["nestlab-start: started", "qemu: no such device", "nestlab-start: failed"])
    assert not (tmp_path / "boot").exists()
    assert not (tmp_path / "pid").exists()


def test_one_that_ends_after_its_guest_spoke_did_not_fail_to_start(shell: str, tmp_path: Path) -> None:
    panic = "echo 'warning: TCG' >&2; echo 'Kernel panic' >>console.log; exit 1"
    assert start(shell, tmp_path, panic) == (0, ["nestlab-start: started", "Kernel panic"])


def test_one_whose_guest_says_nothing_and_shuts_down_did_not_fail(shell: str, tmp_path: Path) -> None:
    assert start(shell, tmp_path, "echo 'warning: TCG' >&2; exit 0") == (0, ["nestlab-start: started"])


def test_one_that_a_signal_ends_before_its_guest_spoke_failed(shell: str, tmp_path: Path) -> None:
    assert start(shell, tmp_path, "kill -9 $$")[1][-1] == "nestlab-start: failed"


def test_its_machine_is_known_by_its_pid_from_the_first_moment(shell: str, tmp_path: Path) -> None:
    look = "cat pid >>console.log; echo $$ >>console.log"
    _, (_, told, own) = start(shell, tmp_path, look)
    assert told == own


def test_what_ends_its_shell_does_not_end_it(shell: str, tmp_path: Path) -> None:
    qemu = "echo up >>console.log; read x <hold; echo going >>console.log"
    os.mkfifo(tmp_path / "hold")
    with subprocess.Popen(
        words(shell, tmp_path, qemu), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == ["nestlab-start: started\n", "up\n"]
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LONG)
    pid = int((tmp_path / "pid").read_text())
    assert os.getsid(pid) == pid
    (tmp_path / "hold").write_text("go on\n")  # blocks until it reads
