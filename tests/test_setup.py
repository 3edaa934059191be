"""scripts/setup, with programs of the test's own on its PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TOOLS = "sh env uname dirname date mktemp rm grep sed cat tail sleep id touch python3"

APT = """#!/bin/sh
# An apt-get whose lists are locked on the first calls, as 2.6 says it; then dpkg's lock, as dpkg says it.
echo "$*" >>"$CALLS"
case $(wc -l <"$CALLS") in
1 | 2) echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4321 (unattended-upgr)'
  echo 'E: Unable to lock directory /var/lib/apt/lists/'; exit 100 ;;
4) echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 2147483647'; exit 100 ;;
esac
"""
BROKEN = "#!/bin/sh\necho 'E: Unable to locate package nothing'; exit 100\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH without mmdebstrap, and an environment that is already made."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in (*TOOLS.split(), "wc"):
        found = next(Path(place, name) for place in ("/usr/bin", "/bin") if Path(place, name).exists())
        (programs / name).symlink_to(found)
    for name in ("newuidmap", "mount", "sudo"):
        write(programs / name, '#!/bin/sh\nexec "$@"\n')
    write(tmp_path / "venv/bin/python", "#!/bin/sh\n")
    (tmp_path / "venv/.nestlab-run").touch()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def setup(machine: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(machine / "bin"), "HOME": str(machine), "CALLS": str(machine / "calls"), **more}
    words = [str(REPOSITORY / "scripts/setup"), str(machine / "venv")]
    return subprocess.run(words, env={**env, "TMPDIR": str(machine)}, capture_output=True, text=True, check=False)


needs_debian = pytest.mark.skipif(
    Path("/usr/sbin/mmdebstrap").exists() or os.uname().machine != "x86_64", reason="mmdebstrap is in /usr/sbin"
)


@needs_debian
def test_setup_waits_for_another_apt_and_says_for_whom(machine: Path) -> None:
    write(machine / "bin/apt-get", APT)
    done = setup(machine)
    assert done.returncode == 0, done.stderr
    waited = [line for line in done.stdout.splitlines() if "waiting" in line]
    assert waited == [
        "setup: waiting for unattended-upgr (pid 4321), which holds the package manager's lock",
        "setup: waiting for another program (pid 2147483647), which holds the package manager's lock",
    ]
    calls = (machine / "calls").read_text().splitlines()
    assert [" update" in call for call in calls] == [True, True, True, False, False]
    assert "mmdebstrap" in calls[-1]


@needs_debian
def test_the_wait_for_another_apt_is_bounded(machine: Path) -> None:
    write(machine / "bin/apt-get", APT)
    done = setup(machine, NESTLAB_APT_WAIT="0")
    assert done.returncode == 2
    assert "unattended-upgr (pid 4321) still holds the package manager's lock after 0 s" in done.stderr


@needs_debian
def test_what_is_no_lock_is_told_at_once(machine: Path) -> None:
    write(machine / "bin/apt-get", BROKEN)
    done = setup(machine)
    assert done.returncode == 2
    assert "Unable to locate package nothing" in done.stderr
    assert "waiting" not in done.stdout
