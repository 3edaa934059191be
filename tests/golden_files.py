"""Golden files: expected text, kept beside the tests. `NESTLAB_GOLDEN=write pytest` writes them anew, to be read."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def assert_golden(name: str, text: str) -> None:
    """`text` is what the golden file `name` says."""
    path = GOLDEN / name
    if os.environ.get("NESTLAB_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text(), f"{path} differs"
