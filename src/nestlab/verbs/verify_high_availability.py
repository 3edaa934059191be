"""Proves that high availability watches over the machines that ask for it: its manager says so itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nestlab.base.errors import LabError
from nestlab.base.printable import brief
from nestlab.base.proofs import Proof
from nestlab.lab.blueprint import Spec

if TYPE_CHECKING:
    from nestlab.verbs.nest import Nest

CLAIM = "high availability"


@runtime_checkable
class Watching(Protocol):
    """An engine on whose ground high availability may watch over machines."""

    async def watched(self) -> Mapping[str, tuple[str, str]]:
        """By path: its word for a machine, and the state that its manager tells; "": it does not know it yet."""


async def prove(nest: Nest, specs: Iterable[Spec], down: frozenset[str]) -> list[Proof]:
    """The claim of every machine with `ha: true` that runs."""
    found = []
    for spec in specs:
        if spec.machine.ha and not {spec.path, spec.parent} & down:
            found.append(await _of(nest, spec))
    return found


async def _of(nest: Nest, spec: Spec) -> Proof:
    try:
        engine = await nest.engine(spec.parent)
        sid, state = (await engine.watched()).get(spec.path, ("", "")) if isinstance(engine, Watching) else ("", "")
    except LabError as error:
        return Proof(spec.path, spec.level, CLAIM, None, error.what)
    return proof(spec, sid, state)


def proof(spec: Spec, sid: str, state: str) -> Proof:
    """What follows from what its manager says. Pure."""
    if state == "started":
        return Proof(spec.path, spec.level, CLAIM, True, f"{sid} is started, and its manager watches over it")
    seen = f"{sid} is {brief(state)}" if state else "its manager tells nothing of it"
    why = f"nobody starts it again: nestlab exec {spec.parent} -- ha-manager status"
    return Proof(spec.path, spec.level, CLAIM, False, seen, why)
