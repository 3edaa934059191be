"""Machines that were moved to another hypervisor of their lab: where they are, where the lab file has them, and the
path that they were made under. Pure, and light to import.

A machine that moves stays who it is: its MAC addresses, leased addresses and keys go by the path that it was made under
(`born`), and its names by the one that the lab file has it under (`home`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import elapsed
from nestlab.lab.model import is_path, parent_of

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint, Spec

OTHER = "~"
"""Ends what a machine is made under whose own path another one, that has moved, was made under."""


@frozen
class Away:
    """`since`: seconds since the epoch. Kept as long as the machine is not where it was made."""

    born: str
    home: str
    path: str
    since: float = 0.0

    @property
    def at_home(self) -> bool:
        return self.home == self.path

    def said(self, now: float) -> str:
        """The whole sentence, and what takes it back."""
        passed = elapsed(max(0.0, now - self.since))
        back = f"nestlab migrate {self.path} {parent_of(self.home)}"
        return f"{self.path} is away from home, {parent_of(self.home)}, for {passed}; `{back}` takes it back"


Aways = tuple[Away, ...]

Phase = Literal["begun", "failed", "moved"]


@frozen
class Passage:
    """A migration that is not over. `begun`: what runs decides where the machine is; `failed`: it is where it was
    (`source`), and what was made for it at `target` is to go; `moved`: it is at `target`, and the rest of it at
    `source` is to go. `live`: while it runs; `ran`: it did."""

    source: str
    target: str
    phase: Phase = "begun"
    live: bool = False
    ran: bool = False
    keep: bool = False

    @property
    def rest(self) -> str:
        """Where what is there is to be removed; "" while that is not decided."""
        return {"begun": "", "failed": self.target, "moved": self.source}[self.phase]

    @property
    def said(self) -> str:
        """The whole sentence of one that was interrupted, and what ends it."""
        what = f"the migration of {self.source} to {parent_of(self.target)} was interrupted"
        rest = f"; what is left of it in {parent_of(self.rest)} is to go" if self.rest else ""
        return f"{what}{rest}: the next command that changes the lab ends it"

    @property
    def unseen(self) -> str:
        """The path under which nothing is to be seen meanwhile, since it is no machine of its own."""
        return self.source if self.phase == "moved" else self.target


def moved(aways: Aways, source: str, target: str, now: float, *, keep: bool = False) -> Aways:
    """After a machine went from `source` to `target`. `keep`: the lab file has it there now."""
    known = next((each for each in aways if each.path == source), Away(source, source, source))
    gone = replace(known, path=target, home=target if keep else known.home, since=now)
    others = tuple(each for each in aways if each.path != source)
    return others if gone.path == gone.born == gone.home else (*others, gone)


def told(aways: Aways, paths: Collection[str]) -> Aways:
    """What of it holds, by the paths of a lab file: a machine that is written down where it is, is at home there; of
    one that is not in the file, nothing is known. LabError where another machine has its place."""
    found = []
    for each in aways:
        here, there = each.path in paths, each.home in paths
        if here and there and not each.at_home:
            what = f"The lab file has a machine {each.path}, and {each.home}, which was moved, is there."
            hint = f"Call the new one otherwise; or `nestlab migrate {each.path} {parent_of(each.home)}` first."
            raise LabError(what, hint=hint)
        if here or there:
            found.append(replace(each, home=each.path) if here else each)
    return tuple(each for each in found if not (each.path == each.born == each.home))


def made_under(aways: Aways, paths: Iterable[str]) -> dict[str, str]:
    """By path in the lab file, where it is another: the path that a machine's MAC addresses and addresses go by."""
    by_home = {each.home: each.born for each in aways}
    taken = {each.born for each in aways}
    found = {path: by_home.get(path, f"{path}{OTHER}" if path in taken else path) for path in paths}
    return {path: born for path, born in found.items() if born != path}


def placed(blueprint: Blueprint, aways: Aways) -> Blueprint:
    """The blueprint with every machine where it is. Done twice, it changes nothing; what is back is put back. LabError
    where what a machine is in is not in the blueprint."""
    by_born = {each.born: each.path for each in aways}
    specs = blueprint.by_path()
    moves: dict[str, Spec] = {}
    for spec in blueprint.specs:
        known = spec.born if spec.born and is_path(spec.born) else spec.path
        path = spec.path if spec.born.endswith(OTHER) else by_born.get(known, known)
        if path != spec.path:
            moves[spec.path] = replace(spec, path=path, born="" if path == known else known)
    if not moves:
        return blueprint
    rest = [spec for spec in blueprint.specs if spec.path not in moves]
    for spec in moves.values():
        if spec.parent not in specs:
            what = f"{spec.parent} is not in the lab file any more, and {spec.born or spec.path} was moved into it."
            raise LabError(what, hint=f"Write it there again, and move {spec.path} away from it first.")
        last = max(at for at, each in enumerate(rest) if each.path == spec.parent or each.parent == spec.parent)
        rest.insert(last + 1, spec)
    return replace(blueprint, specs=tuple(rest))


def lines(aways: Sequence[Away], now: float, paths: Collection[str] | None = None) -> list[str]:
    """A sentence for each machine that is away from home; `paths`: only of these."""
    away = (each for each in aways if not each.at_home and (paths is None or each.path in paths))
    return [each.said(now) for each in sorted(away, key=lambda each: each.path.split("/"))]
