"""Writes into the lab file that a machine is in another hypervisor now, where nestlab can."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError, Mistakes
from nestlab.base.frozen import frozen
from nestlab.home import labs
from nestlab.lab.model import Lab, Machine, parent_of
from nestlab.lab.moved_machines import Away
from nestlab.verbs.session import Session

BOM = b"\xef\xbb\xbf"


@frozen
class Written:
    """The lab file as it was and as it will be."""

    file: Path
    advice: str
    before: bytes
    after: bytes

    def perform(self) -> str:
        """Replace the file. What a person has to do if that cannot be done, else ""."""
        try:
            if self.file.read_bytes() != self.before:
                return f"{self.file} changed meanwhile. {self.advice}"
            files.replace(self.file, self.after, self.file.stat().st_mode & 0o777)
        except (LabError, OSError) as error:
            return f"{self.advice} ({error.what if isinstance(error, LabError) else error.strerror})"
        return ""


def change_of(session: Session, path: str, target: str, environ: Mapping[str, str] = os.environ) -> Written | None:
    """The change to the lab file that a machine's new place is; None where the file has it there. LabError where its
    lines cannot simply be moved."""
    from nestlab.labfile import machine_block, parse, parse_text
    from nestlab.labfile.compose import Unusable
    from nestlab.labfile.load import read

    origin = labs.load(session.place)
    known = next((each for each in session.moves.aways if each.path == path), Away(path, path, path))
    home = known.home
    if parent_of(home) == target:
        return None
    advice = f"Write it into {target} in the lab file by hand: `nestlab up` then takes that for its home."
    if origin is None:
        raise LabError(f"The lab file of {session.place.name} is not known.", hint=advice)
    try:
        source, before = read(origin.file, str(origin.file)), origin.file.read_bytes()
        lab = parse(origin.file, environ=environ, sets=origin.sets)
        text = machine_block.moved(source, environ, home, target)
        wanted = placed(lab, home, target)
        good = text is not None and wanted is not None
        if text is not None and wanted is not None:
            after = parse_text(text, environ=environ, sets=origin.sets, directory=origin.file.parent)
            good = same(after, wanted)
    except (Unusable, Mistakes, OSError) as error:
        raise LabError(f"{origin.file} cannot be read as it is now: {error}.", hint=advice) from error
    if not good or text is None:
        what = f"The lines of {home} in {origin.file} cannot simply be moved: they are in brackets, or others' too."
        raise LabError(what, hint=f"Move it without --keep. {advice}")
    data = text.encode()
    return Written(origin.file, advice, before, BOM + data if before.startswith(BOM) else data)


def same(one: Lab, other: Lab) -> bool:
    """Whether two labs are the same, but for the memory of hypervisors, which may follow that of what is inside."""
    return _alike(one) == _alike(other)


def _alike(lab: Lab) -> tuple[object, ...]:
    machines = {each.path: replace(each.machine, machines=()) for each in lab.walk()}
    fixed = {path: replace(each, memory=0) if each.nests else each for path, each in machines.items()}
    return replace(lab, machines=()), fixed


def placed(lab: Lab, path: str, target: str) -> Lab | None:
    """The lab with a machine in another hypervisor; None where it has not both."""
    found = {each.path: each.machine for each in lab.walk()}
    if path not in found or target not in found or not parent_of(path):
        return None
    machines = _without(lab.machines, path.split("/"))
    return replace(lab, machines=_with(machines, target.split("/"), found[path]))


def _without(machines: tuple[Machine, ...], names: list[str]) -> tuple[Machine, ...]:
    if len(names) == 1:
        return tuple(each for each in machines if each.name != names[0])
    return tuple(
        replace(each, machines=_without(each.machines, names[1:])) if each.name == names[0] else each
        for each in machines
    )


def _with(machines: tuple[Machine, ...], names: list[str], machine: Machine) -> tuple[Machine, ...]:
    return tuple(
        replace(each, machines=_with(each.machines, names[1:], machine) if names[1:] else (*each.machines, machine))
        if each.name == names[0]
        else each
        for each in machines
    )
