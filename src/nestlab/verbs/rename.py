"""Gives a lab another name. Its machines, disks, addresses and keys stay: what was derived from its first name goes on
with that (see `home.former_names`).

Moving the lab's directory is the one step that counts. Killed before it, the lab has its old name; after it, the new
one, and what is left to do the next commands do, or say: the lab file's line, and the file for OpenSSH.

On a Proxmox VE the machines get the new name before that, one by one (`engines/pve/rename.py`). Killed among them, the
lab has its old name and all its machines, and the same command, or one with another name, renames them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines import Renamable
from nestlab.home import former_names, labs, lock
from nestlab.home.directories import SOCKET_NAME, Home, LabHome, check_socket
from nestlab.home.paths import Place
from nestlab.home.targets import no_such_lab
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.steps import Disconnect, Stop
from nestlab.verbs import connections
from nestlab.verbs.session import Session, looking
from nestlab.verbs.site import Site

BOM = b"\xef\xbb\xbf"


@frozen
class FileChange:
    """What becomes of the lab file. `advice`: what a person has to do, where nestlab does not do it ("": nothing)."""

    file: Path | None
    line: int = 0
    old: str = ""
    new: str = ""
    advice: str = ""
    _before: bytes = b""
    _after: bytes = b""

    @property
    def edits(self) -> bool:
        return bool(self._after)

    def perform(self) -> str:
        """Replace the file whole, as it is shown. What a person has to do if that cannot be done."""
        if self.file is None or not self.edits:
            return self.advice
        by_hand = f"Write `{self.new.strip()}` in line {self.line} of {self.file}"
        try:
            if self.file.read_bytes() != self._before:
                return f"{by_hand}: it changed meanwhile."
            files.replace(self.file, self._after, self.file.stat().st_mode & 0o777)
        except (LabError, OSError) as error:
            return f"{by_hand}. {error.what if isinstance(error, LabError) else error.strerror}"
        return ""


@frozen
class Renaming:
    """A lab at rest and locked, that may be renamed."""

    session: Session
    target: LabHome
    change: FileChange

    async def perform(self) -> str:
        """Rename it. What a person has to do to the lab file, where nestlab could not ("": nothing)."""
        session = self.session
        for step in session.plan("stopped").steps:
            assert isinstance(step, Disconnect), step
            await session.nest.perform(step, session.blueprint, lambda _: None)
        engine = await session.nest.engine()
        if isinstance(engine, Renamable):
            await engine.rename(self.target.name, partial(former_names.intend, session.place, self.target.name))
        former_names.keep(session.place)
        try:
            files.move(session.place.root, self.target.root)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise _taken(self.target) from error
            what = f"{session.place.root} cannot be renamed: {error.strerror}."
            raise LabError(what, hint="Check its owner and its directory.") from error
        self.target.rename.unlink(missing_ok=True)
        advice = self.change.perform()
        async with looking(session.site, name=self.target.name) as renamed:
            await connections.refresh(renamed)
        return advice


@asynccontextmanager
async def renaming(site: Site, name: str, new: str, environ: Mapping[str, str] = os.environ) -> AsyncIterator[Renaming]:
    """A lab that is to be called `new`, locked while the context is open. LabError when there is a lab of that name,
    or it is no name of a lab; when something of the lab runs or somebody works on it."""
    place = labs.existing(site.home, name)
    target = _target(site.home, place, new)
    async with lock.held(place.lock, name, "rename", wait=0) as stands:
        if not stands():
            raise no_such_lab(name, site.home.labs())
        made = blueprint_file.load(place.blueprint, name)
        _renamable(place, target, made)
        async with looking(site, name=name) as session:
            await session.look()
            _at_rest(session)
            yield Renaming(session, target, change_of(labs.load(place), place.name, new, environ))


def change_of(origin: labs.Origin | None, name: str, new: str, environ: Mapping[str, str]) -> FileChange:
    """What becomes of the lab file that a lab was made from."""
    from nestlab.labfile import lab_line
    from nestlab.labfile.compose import Unusable
    from nestlab.labfile.load import read

    if origin is None:
        return FileChange(None, advice=f"Write `lab: {new}` in its lab file, which is not known.")
    file = origin.file
    if any(map(labs.names_lab, origin.sets)):
        return FileChange(file, advice=f"With {file}, `--set lab={new}` names it from now on; {name} did before.")
    by_hand = f"Write `lab: {new}` in {file}"
    try:
        source, before = read(file, str(file)), file.read_bytes()
    except (Unusable, OSError):
        return FileChange(file, advice=f"{by_hand}, which cannot be read.")
    found = lab_line.find(source, environ)
    if found is None:
        return FileChange(file, advice=f"{by_hand}, which names no lab now.")
    if found.name == new:
        return FileChange(file, found.line)
    changed = found.renamed(new) if found.name == name else None
    if changed is None:
        advice = f"{by_hand}: its line {found.line} says `{found.old.strip()}`."
        return FileChange(file, found.line, found.old, advice=advice)
    after = changed[1].encode()
    after = BOM + after if before.startswith(BOM) else after
    return FileChange(file, found.line, found.old, changed[0], "", before, after)


def _target(home: Home, place: LabHome, new: str) -> LabHome:
    if new == place.name:
        raise LabError(f"Lab {new} is called that already.", hint="Give another name.")
    if home.existing(new) is not None:
        raise _taken(LabHome(new, place.root.with_name(new)))
    target = LabHome(new, place.root.with_name(new))
    check_socket(target.machine("") / SOCKET_NAME)
    return target


def _taken(target: LabHome) -> LabError:
    hint = f"Choose another name; `nestlab down {target.name}` would end the lab that is there."
    return LabError(f"There is a lab {target.name} already: {target.root}", hint=hint)


def _renamable(place: LabHome, target: LabHome, made: Blueprint | None) -> None:
    from nestlab.network.switch_control import socket_path

    if made is None:
        raise LabError(f"Nothing was ever made of lab {place.name}.", hint="`nestlab gc` removes its directory.")
    if made.on is not None:
        return  # its networks are not this machine's
    for segment in made.segments:
        socket_path(Path(Place(str(target.root)).switch), segment.name)


def _at_rest(session: Session) -> None:
    """LabError where something of the lab runs: processes have its name and its directory."""
    ends = {step.path for step in session.plan("stopped").steps if isinstance(step, Stop)}
    runs = ends | {path for path, seen in session.observed.machines.items() if seen.pid}
    if runs:
        name = session.place.name
        some = ", ".join(sorted(runs)[:8]) + (", …" if len(runs) > 8 else "")
        hint = f"`nestlab stop {name}` first, then rename it; disks stay."
        raise LabError(f"Machines of lab {name} run: {some}.", hint=hint)
