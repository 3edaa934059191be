"""A lab that is up for all tests of a file, in a home of its own with a short path, of which nothing is left after."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import leaks
from command_line import Cli


@contextmanager
def lab_up(text: str) -> Iterator[Cli]:
    """nestlab in that home, with the lab of a file brought up; its proofs are not asked for."""
    found = re.search(r"^lab: (\S+)$", text, re.MULTILINE)
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as folder, leaks.world(Path(folder)):
        cli = Cli(Path(folder))
        try:
            cli("up", cli.file(text), "--no-verify")
            yield cli
        finally:
            cli("down", found[1], "--yes", status=None)
