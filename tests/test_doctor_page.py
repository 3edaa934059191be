"""docs/doctor.md lists every check with a real finding, and is current."""

from __future__ import annotations

import os
from pathlib import Path

from doctor_page import examples, page
from nestlab.doctor.checks import checks

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "doctor.md"


def test_every_check_has_an_example_at_some_host() -> None:
    assert {check.name for check in checks} == set(examples())


def test_the_committed_page_is_current() -> None:
    if os.environ.get("NESTLAB_GOLDEN") == "write":
        DOCUMENT.write_text(page())
    assert page() == DOCUMENT.read_text(), "write it again: NESTLAB_GOLDEN=write pytest tests/test_doctor_page.py"
