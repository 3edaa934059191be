"""What a lab was called before it was renamed. What was made under its first name goes on with that: MAC addresses are
derived from it, and directories inside hypervisors are called by it."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.files import replace
from nestlab.base.typed import parsed
from nestlab.home import labs
from nestlab.home.directories import Home, LabHome
from nestlab.lab.model import LAB_NAME_LIMIT, NAME


def load(place: LabHome) -> tuple[str, ...]:
    """The names that a lab had, its first one first; none if it never was renamed. LabError if they cannot be read:
    with another first name, the machines would be taken for others."""
    try:
        names = parsed(place.former_names.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _damaged(place) from error
    if not isinstance(names, list) or not all(isinstance(name, str) and _good(name) for name in names):
        raise _damaged(place)
    return tuple(names)


def first(place: LabHome) -> str:
    """What a lab was called when it was made."""
    return next(iter(load(place)), place.name)


def keep(place: LabHome) -> None:
    """Write down the name that a lab has, before it gets another one. Done twice, or with no other name after it, it
    changes nothing."""
    names = load(place)
    if names[-1:] != (place.name,):
        replace(place.former_names, json.dumps([*names, place.name]).encode() + b"\n", 0o600)


def intend(place: LabHome, new: str, machines: Collection[int]) -> None:
    """Write down that a lab is about to be called `new`, and which VMs of a Proxmox VE are given that name one by one:
    whatever ends that, they stay machines of this lab."""
    names = [*(name for name in intended(place)[0] if name != new), new]
    replace(place.rename, json.dumps({"labs": names, "machines": sorted(machines)}).encode() + b"\n", 0o600)


def intended(place: LabHome) -> tuple[tuple[str, ...], frozenset[int]]:
    """The names that renames which were interrupted were to give a lab, and to which VMs; none when none was. LabError
    if that cannot be read: machines would not be seen."""
    try:
        data = json.loads(place.rename.read_text(encoding="utf-8"))
        names, machines = tuple(data["labs"]), frozenset(data["machines"])
    except FileNotFoundError:
        return (), frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(place) from error
    good = all(isinstance(name, str) and _good(name) for name in names)
    if not good or not all(isinstance(each, int) for each in machines):
        raise _unreadable(place)
    names = tuple(name for name in names if name != place.name)
    return names, machines if names else frozenset()


def called_now(home: Home, name: str, file: Path) -> str | None:
    """What the lab is called that was made from a lab file under this name, and renamed since; None if none was."""
    there = home.existing(name)
    if there is not None and there.blueprint.exists():
        return None
    for each in home.labs():
        place = home.existing(each)
        source = labs.load(place) if place else None
        if place and source and name in load(place) and source.file.resolve() == file.resolve():
            return each
    return None


def another_name(place: LabHome, file: Path, name: str) -> LabError:
    """The error for a lab whose lab file names another lab now."""
    hint = f"`nestlab up {file}` makes lab {name}; `nestlab down {place.name}` removes the old one."
    if name in load(place):
        hint = f"The lab was renamed since: write `lab: {place.name}` in that file."
    return LabError(f"The lab file of lab {place.name}, {file}, describes lab {name} now.", hint=hint)


def _good(name: str) -> bool:
    return NAME.fullmatch(name) is not None and len(name) <= LAB_NAME_LIMIT


def _damaged(place: LabHome) -> LabError:
    what = f"The former names of lab {place.name} in {place.former_names} cannot be read."
    return LabError(what, hint='It is a list of names, first the one that its machines were made under: ["NAME"].')


def _unreadable(place: LabHome) -> LabError:
    hint = 'It says {"labs": ["NEW"], "machines": [VMID, …]}: the names that a rename was giving them.'
    return LabError(f"{place.rename} cannot be read.", hint=hint)
