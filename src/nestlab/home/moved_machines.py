"""Which machines of a lab were moved to other hypervisors, and which migrations are not over: kept in one file of the
lab's directory, so that the end of a migration is one write."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.typed import check, parsed
from nestlab.home.directories import LabHome
from nestlab.lab.model import is_path
from nestlab.lab.moved_machines import Away, Aways, Passage

FILE = "away.json"

MOST = 10_000

Row = TypeVar("Row", Away, Passage)


@frozen
class Moves:
    """`aways`: machines that are not where they were made; `passages`: migrations that are not over."""

    aways: Aways = ()
    passages: tuple[Passage, ...] = ()


NONE = Moves()


def load(place: LabHome | None) -> Moves:
    """Those of a lab. LabError where the file is damaged: machines would be taken for others."""
    if place is None:
        return NONE
    try:
        text = (place.root / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return NONE
    except (OSError, ValueError) as error:
        raise _damaged(place, str(error)) from error
    try:
        data = parsed(text)
        if not isinstance(data, dict):
            raise ValueError("it is no object")
        return Moves(_rows(Away, data.get("away", [])), _rows(Passage, data.get("passages", [])))
    except (ValueError, TypeError) as error:
        raise _damaged(place, str(error)) from error


def save(place: LabHome, moves: Moves, *, synced: bool = True) -> None:
    """Keep these and no others, in one step. LabError if that cannot be written. `synced`: see `files.replace`."""
    import json

    data = {"away": [asdict(each) for each in moves.aways], "passages": [asdict(each) for each in moves.passages]}
    files.replace(place.root / FILE, json.dumps(data).encode(), 0o600, synced=synced)


def _rows(kind: type[Row], rows: Any) -> tuple[Row, ...]:
    if not isinstance(rows, list) or len(rows) > MOST:
        raise ValueError("it has no list of machines")
    known = {item.name for item in fields(kind)}
    found = []
    for row in rows:
        if not isinstance(row, dict):
            raise ValueError("a machine is no object")
        each = kind(**{name: value for name, value in row.items() if name in known})
        check(each, kind, "a machine")
        paths = (each.born, each.home, each.path) if isinstance(each, Away) else (each.source, each.target)
        if not all(map(is_path, paths)):
            raise ValueError(f"{paths} are no machines")
        found.append(each)
    return tuple(found)


def _damaged(place: LabHome, why: str) -> LabError:
    what = f"{place.root / FILE}, which says where machines of lab {place.name} are, cannot be read: {why}."
    hint = 'It is {"away": […], "passages": […]}; without it, machines count as where they were made.'
    return LabError(what, hint=hint)
