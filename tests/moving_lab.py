"""A lab called move that is up for all tests of a file, whose machines go from one hypervisor to another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from test_nested import Cli


@contextmanager
def moving(text: str) -> Iterator[Cli]:
    """nestlab in a home of its own, with that lab brought up from move.yaml there; nothing of it runs after."""
    with tempfile.TemporaryDirectory(prefix="nl-", dir="/tmp") as home:
        lab = Cli(Path(home))
        file = Path(home) / "move.yaml"
        file.write_text(text)
        try:
            lab.run("up", str(file), "--no-verify")
            yield lab
        finally:
            lab.run("down", "move", "--yes")
        assert not lab.qemus()


def machines(cli: Cli) -> dict[str, Any]:
    """What `status` says of each, by path."""
    return {row["path"]: row for row in cli.json("status", "move")["machines"]}
