"""`nestlab doctor` of this machine, which people run first and programs often: without typer or an event loop, which
would cost more than all the rest."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from nestlab.cli.common import paint, print_json
from nestlab.cli.guard import MEND, out
from nestlab.errors import LabError

PATIENCE = 60.0
"""Seconds for all that is asked; what can hang has deadlines of its own."""


def wanted(words: Sequence[str]) -> bool:
    """Whether the words of a command line are a `doctor` that this module does by itself."""
    return words[:1] == ["doctor"] and all(word in ("--json", "--facts") for word in words[1:])


def doctor(words: Sequence[str]) -> int:
    """`nestlab doctor [--json] [--facts]`; the exit status."""
    from nestlab import probe
    from nestlab.doctor import gather, report

    source = Path(probe.__file__).read_bytes()
    try:
        done = subprocess.run(
            ["sh", "-c", gather.SCRIPT],
            input=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(
            f"This machine could not be looked at: {error}.", hint="Is there a sh, and does it work?"
        ) from error
    facts = gather.parse(done.stdout.decode(errors="replace"), "this machine")
    if "--facts" in words:
        out(facts.to_json())
        return 0
    found = report.visit("this machine", 0, facts)
    if "--json" in words:
        print_json(found.data())
    else:
        out(report.text(found, paint()))
    return 0 if report.ok([found]) else MEND
