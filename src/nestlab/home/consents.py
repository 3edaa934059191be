"""What the user agreed that a lab's machines get of this computer: kept in the lab's directory, so that it is asked
once."""

from __future__ import annotations

import json
from collections.abc import Iterable

from nestlab.base import files
from nestlab.home.directories import LabHome
from nestlab.lab.model import Taken

NAME = "agreed.json"


def load(place: LabHome | None) -> frozenset[str]:
    """The files and variables, as `Taken` names them."""
    try:
        found = json.loads((place.root / NAME).read_text(encoding="utf-8")) if place is not None else []
        return frozenset(each for each in found if isinstance(each, str))
    except (OSError, ValueError, TypeError, RecursionError):
        return frozenset()


def keep(place: LabHome, found: Iterable[Taken]) -> None:
    """Keep what is private among what a lab takes. LabError if that cannot be written."""
    known = load(place)
    now = known | {each.what for each in found if each.private}
    if now != known:
        files.replace(place.root / NAME, json.dumps(sorted(now)).encode(), 0o600)
