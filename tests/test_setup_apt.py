"""`scripts/setup` where another program is at work with apt, as in the first minutes of a new machine: the real script,
and the real apt-get on package lists and a dpkg database of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here"),
    pytest.mark.skipif(
        not Path("/var/lib/dpkg/info/mmdebstrap.list").exists(), reason="mmdebstrap is no installed package"
    ),
]

LOCKS = ["lists/lock", "dpkg/lock-frontend"]
"""apt's own, which `update` takes, and that of dpkg's front ends, which `install` takes."""


@contextmanager
def held(lock: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLD, str(lock)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A machine on which mmdebstrap seems to be missing, and whose apt knows no mirror."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for each in Path(folder).iterdir():
            if each.name != "mmdebstrap" and not (programs / each.name).is_symlink():
                (programs / each.name).symlink_to(each)
    (programs / "python3").unlink(missing_ok=True)
    (programs / "python3").symlink_to(sys.executable)
    (programs / "sudo").unlink(missing_ok=True)
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (programs / "sudo").chmod(0o755)
    for name in ("lists/partial", "dpkg", "cache/archives/partial", "parts", "log"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy("/var/lib/dpkg/status", tmp_path / "dpkg/status")
    (tmp_path / "sources.list").touch()
    (tmp_path / "apt.conf").write_text(
        f'Dir::State::lists "{tmp_path}/lists";\nDir::State::status "{tmp_path}/dpkg/status";\n'
        f'Dir::State "{tmp_path}";\nDir::Cache "{tmp_path}/cache";\nDir::Log "{tmp_path}/log";\n'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "{tmp_path}/parts";\n'
        'APT::Sandbox::User "";\n'
    )
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    (venv / ".nestlab-run").touch()
    return {**os.environ, "PATH": str(programs), "APT_CONFIG": str(tmp_path / "apt.conf")}


@pytest.mark.parametrize("lock", LOCKS)
def test_set_up_waits_for_who_holds_a_lock_of_apts_says_who_and_goes_on(
    tmp_path: Path, env: dict[str, str], lock: str
) -> None:
    words = ["sh", str(ROOT / "scripts/setup"), str(tmp_path / "venv")]
    with held(tmp_path / lock) as holder:
        process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "setup: installing mmdebstrap\n"
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        wanted = f"setup: waiting for {name} (pid {holder.pid}), which holds the package manager's lock\n"
        assert process.stdout.readline() == wanted
    rest, _ = process.communicate()
    assert process.returncode == 0, rest
    assert "waiting" not in rest


def test_set_up_does_not_wait_for_ever(tmp_path: Path, env: dict[str, str]) -> None:
    words = ["sh", str(ROOT / "scripts/setup"), str(tmp_path / "venv")]
    with held(tmp_path / "lists/lock") as holder:
        told = subprocess.run(words, env={**env, "NESTLAB_APT_WAIT": "0"}, capture_output=True, text=True)
    assert told.returncode == 2
    assert (
        f"(pid {holder.pid}) still holds the package manager's lock after 0 s. Repeat when it has ended." in told.stderr
    )


def test_what_else_apt_refuses_is_shown_and_ends_it(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "sources.list").write_text("nonsense\n")
    words = ["sh", str(ROOT / "scripts/setup"), str(tmp_path / "venv")]
    told = subprocess.run(words, env=env, capture_output=True, text=True)
    assert told.returncode == 2
    assert "Malformed line 1 in source list" in told.stderr
    assert told.stderr.endswith("setup: apt-get failed; its last lines are above.\n")
