"""`nestlab doctor` of this machine, which people run first and programs often: without typer or an event loop, which
would cost more than all the rest. The machine is asked while the doctor is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.printable import to_json
from nestlab.cli import doctor_begin
from nestlab.cli.exit_status import MEND, out, paint, width

PATIENCE = 60.0
"""Nominal seconds for all that is asked; what can hang has deadlines of its own."""


def doctor(words: Sequence[str]) -> int:
    """`nestlab doctor [--json] [--facts]`, begun by `doctor_begin.examine`; the exit status."""
    from nestlab.doctor import gather, report

    try:
        said = doctor_begin.examined(patience.allowed(PATIENCE))
    except OSError as error:
        what = f"This machine could not be looked at: {error}."
        raise LabError(what, hint="Is there a sh, and does it work?") from error
    facts = replace(gather.parse(said, "this machine"), slowness=_slowness())
    if "--facts" in words:
        out(facts.to_json())
        return 0
    found = report.visit("this machine", 0, facts)
    if "--json" in words:
        out(to_json(found.data(), indent=1))
    else:
        out(report.text(found, paint(), width(sys.stdout)))
    return 0 if report.ok([found]) else MEND


def _slowness() -> float:
    from nestlab.hosts import speed

    return speed.parse(doctor_begin.measured(patience.allowed(PATIENCE))) or 0.0
