"""Which labs exist, and which lab file each was made from, so that `nestlab up LAB` finds it again."""

from __future__ import annotations

import json
from pathlib import Path

from nestlab.base.files import replace
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.home.directories import Home, LabHome
from nestlab.home.targets import no_such_lab

NAME = "origin.json"


@frozen
class Origin:
    """`file`: absolute. `sets`: what `--set` put over it; a name that it gave the lab is the one that this has now."""

    file: Path
    sets: tuple[str, ...] = ()


def load(place: LabHome) -> Origin | None:
    """Where a lab came from; None if nobody wrote it down."""
    try:
        data = parsed((place.root / NAME).read_text(encoding="utf-8"))
        sets = (f"lab={place.name}" if names_lab(each) else each for each in map(str, data["sets"]))
        file = Path(data["file"])
        file.resolve(), file.exists()  # a path that cannot be is none
        return Origin(file, tuple(sets))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def names_lab(text: str) -> bool:
    """Whether a `--set` gives the lab its name."""
    return text.partition("=")[0].strip() == "lab"


def save(place: LabHome, origin: Origin) -> None:
    """Remember it, replacing what was known before, in one step. LabError if that fails."""
    replace(place.root / NAME, to_json(origin), 0o600)


def to_json(origin: Origin) -> bytes:
    return json.dumps({"file": str(origin.file), "sets": list(origin.sets)}).encode()


def lab_of(home: Home, file: Path) -> str | None:
    """The lab that was made from a lab file, without reading the file; None if there is none, or several."""
    wanted = file.resolve()
    found = []
    for name in home.labs():
        place = home.existing(name)
        origin = load(place) if place else None
        if origin is not None and origin.file.resolve() == wanted:
            found.append(name)
    return found[0] if len(found) == 1 else None


def existing(home: Home, name: str) -> LabHome:
    """The directory of a lab that is there. LabError when there is none."""
    labs = home.labs()
    place = home.existing(name) if name in labs else None
    if place is None:
        raise no_such_lab(name, labs)
    return place
