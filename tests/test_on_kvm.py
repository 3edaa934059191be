"""The guest tests on a host with a working KVM, whatever this one has: inside a level-1 machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.guest, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.timeout(4 * 3600)
def test_guest_tests_pass_on_a_host_with_a_working_kvm() -> None:
    venv = Path(sys.prefix)
    done = subprocess.run(
        [str(REPOSITORY / "scripts/test-in-kvm"), str(venv)], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-8000:]
    assert " passed" in said
