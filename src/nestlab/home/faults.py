"""The faults that the user wants a lab to have (`lab.faults`): kept in the lab's directory until they are healed."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.typed import check, parsed
from nestlab.home.directories import LabHome
from nestlab.lab.faults import Fault, Faults, Impairment
from nestlab.lab.model import NAME, is_path

FILE = "faults.json"

MOST = 10_000


def load(place: LabHome | None) -> Faults:
    """Those of a lab. LabError where the file is damaged: what a machine is to be cut off cannot be asked of anybody
    else."""
    if place is None:
        return ()
    try:
        text = (place.root / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _damaged(place, str(error)) from error
    try:
        rows = parsed(text)
        if not isinstance(rows, list) or len(rows) > MOST:
            raise ValueError("it is no list of faults")
        return tuple(map(_fault, rows))
    except (ValueError, TypeError) as error:
        raise _damaged(place, str(error)) from error


def save(place: LabHome, faults: Faults) -> None:
    """Keep these and no others. LabError if that cannot be written."""
    import json

    if faults != load(place):
        files.replace(place.root / FILE, json.dumps([asdict(each) for each in faults]).encode(), 0o600)


def _fault(row: Any) -> Fault:
    if not isinstance(row, dict):
        raise ValueError("a fault is no object")
    known = {item.name for item in fields(Fault)}
    given = {name: value for name, value in row.items() if name in known}
    fault = Fault(**{**given, "impairment": Impairment(**given.get("impairment", {}))})
    check(fault, Fault, "a fault")
    if (fault.path and not is_path(fault.path)) or (fault.segment and not NAME.fullmatch(fault.segment)):
        raise ValueError(f"{fault.path} {fault.segment} is no machine and segment")
    return fault


def _damaged(place: LabHome, why: str) -> LabError:
    what = f"{place.root / FILE}, which says what lab {place.name} is cut off from, cannot be read: {why}."
    return LabError(what, hint="Move it away: nothing counts as cut, killed or impaired then.")
