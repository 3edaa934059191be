"""Which ports of 127.0.0.1 are to lead to machines, and what that changes. `ports` does it. Light to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nestlab.base.frozen import frozen
from nestlab.home import ports as kept_ports
from nestlab.home.ports import Kept

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint
    from nestlab.verbs.session import Session


@frozen
class PortChange:
    """What the next `up` changes while the machine `path` runs: `opened` and `closed` are ports, with `local` 0 where
    any free one of 127.0.0.1 will do."""

    path: str
    opened: tuple[Kept, ...] = ()
    closed: tuple[Kept, ...] = ()

    def __str__(self) -> str:
        opened = [f"127.0.0.1:{each.local or '(a free port)'} leads to its port {each.port}" for each in self.opened]
        closed = [f"127.0.0.1:{each.local} no longer leads to its port {each.port}" for each in self.closed]
        return f"live: {', '.join([*opened, *closed])}"


def due(session: Session) -> tuple[PortChange, ...]:
    """What of the ports of machines that are there already is not as the lab file and the user want it."""
    before = kept_ports.load(session.place)
    found = wanted(session.blueprint, before)
    opened = [each for each in found if not (each in before or renews(each, before))]
    closed = gone(before, found)
    known = session.observed.machines
    paths = dict.fromkeys(each.path for each in (*opened, *closed) if each.path in known)
    return tuple(
        PortChange(path, *(tuple(each for each in some if each.path == path) for some in (opened, closed)))
        for path in paths
    )


def wanted(blueprint: Blueprint, before: Sequence[Kept]) -> list[Kept]:
    """What there should be; `local` 0 where that is open."""
    specs = blueprint.by_path()
    asked = [each for each in before if each.asked and each.path in specs]
    known = {(each.path, each.port): each.local for each in before if not each.asked}
    said = [
        Kept(spec.path, each.port, each.local or known.get((spec.path, each.port), 0))
        for spec in blueprint.specs
        for each in spec.machine.ports
    ]
    return [*said, *(each for each in asked if each.local not in {other.local for other in said})]


def gone(before: Sequence[Kept], wanted: Sequence[Kept]) -> list[Kept]:
    """What there should be no more."""
    return [each for each in before if each not in wanted and not renews(each, wanted)]


def renews(each: Kept, others: Iterable[Kept]) -> bool:
    """Whether the lab file now says what the user asked for before, or the other way round."""
    return any((each.path, each.port, each.local) == (other.path, other.port, other.local) for other in others)
