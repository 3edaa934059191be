"""How a machine's QEMU is ended: the script that does it, with a process in QEMU's place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.engines.qemu import scripts

NAME = "nestlab:lab:web"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(900)
"""


@pytest.mark.parametrize("code", [STUBBORN, STUBBORN.replace("SIG_IGN", "SIG_DFL")])
def test_what_does_not_end_by_itself_is_ended_by_force_and_that_is_said(code: str, tmp_path: Path) -> None:
    # Its arguments hold the machine's name, by which its QEMU is known.
    words = [sys.executable, "-c", code, "qemu-system-x86_64", "-name", f"{NAME},debug-threads=on"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        done = subprocess.run(
            ["sh", "-c", scripts.STOP, "stop", NAME, str(tmp_path), "0", "asked"],
            capture_output=True,
            text=True,
            check=True,
        )
        process.wait()
    assert done.stdout == "forced\n"
    assert scripts.forced(done.stdout, 0) == (
        "ended by force: it did not answer; what it had not written to its disk is lost"
    )
    assert "did not shut down within 60 s" in str(scripts.forced(done.stdout, 60))


def test_what_has_ended_by_itself_was_not_forced(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", scripts.STOP, "stop", NAME, str(tmp_path), "5", "asked"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert scripts.forced(done.stdout, 1) is None
