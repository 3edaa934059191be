"""Moves machines between hypervisors of a lab, and ends what an interrupted migration left.

How far a migration is stands in the lab's directory before anything is done (`home.moved_machines`); whoever works on
the lab next asks both hypervisors and ends it (`resolve`), one way or the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.files import replace_changed
from nestlab.engines import Engine
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.qemu import mover
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.engines.qemu.live_migration import cold, live
from nestlab.engines.qemu.migration_ends import resume
from nestlab.engines.qemu.migration_requests import Journey, Keep, Moved
from nestlab.engines.qemu.mover import End, Mover
from nestlab.home import faults as kept_faults
from nestlab.home import moved_machines as kept
from nestlab.home import ports as kept_ports
from nestlab.home.lab_keys import LabKeys
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.faults import cut_off
from nestlab.lab.model import parent_of
from nestlab.lab.moved_machines import Passage, moved, placed
from nestlab.verbs import node_migration
from nestlab.verbs.session import Session

Say = Callable[[str], None]

DOWN = ("stopped", "died", "killed", "broken")
"""States of a hypervisor in which nothing runs."""

REACHED = 20.0
"""Nominal seconds in which a hypervisor answers that is asked what became of a migration."""


async def go(session: Session, passage: Passage, say: Say) -> Moved:
    """Move a machine. LabError where that fails: then it is where it was."""
    if node_migration.together(session.blueprint, parent_of(passage.source), parent_of(passage.target)):
        blueprints = _blueprints(session, passage)
        source, target = [await _node(session, path) for path in (passage.source, passage.target)]
        if source is None or target is None:
            raise LabError("A node does not answer.", hint="nestlab status --deep")
        keep = _keeping(session, passage, blueprints[1])
        return await node_migration.go(blueprints, passage, (source, target), keep, say)
    async with await _mover(session, passage, say) as performer:
        if passage.live:
            return await performer.perform(live(_journey(session, performer, passage)))
        return await performer.perform(cold(passage.source, ran=passage.ran))


async def resolve(session: Session, say: Say) -> None:
    """End the migrations that were interrupted, as far as their hypervisors can be asked. What cannot be ended now
    stays written down, and is told."""
    for passage in session.moves.passages:
        what = f"the migration of {passage.source} to {parent_of(passage.target)} was interrupted"
        say(f"{what}: looking what became of it")
        try:
            await _resolve(session, passage, say)
        except LabError as error:
            say(f"it cannot be ended now: {error.what}")
    await session.look()
    for passage in session.moves.passages:
        if passage.phase == "begun":
            what = f"where {passage.source} is cannot be told until {parent_of(passage.source)} and"
            say(f"{what} {parent_of(passage.target)} answer")
        else:
            say(f"what is left of {passage.rest} is removed when {parent_of(passage.rest)} runs")


async def _resolve(session: Session, passage: Passage, say: Say) -> None:
    if node_migration.together(session.blueprint, parent_of(passage.source), parent_of(passage.target)):
        blueprints = _blueprints(session, passage)
        ends = (await _node(session, passage.source), await _node(session, passage.target))
        keep = _keeping(session, passage, blueprints[1])
        await node_migration.resume(passage, ends, keep, say)
        return
    async with await _mover(session, passage, say) as performer:
        journey = _journey(session, performer, passage)
        await performer.perform(resume(journey, passage.phase, live=passage.live))


def _journey(session: Session, performer: Mover, passage: Passage) -> Journey:
    spec = performer.target.blueprint.by_path().get(passage.target)
    cut = cut_off(session.faults, passage.source) | cut_off(session.faults, passage.target)
    down = (f"n{number}" for number, nic in enumerate(spec.nics if spec else ()) if nic.segment in cut)
    return mover.journey(performer.source, performer.target, runs=passage.ran, down=tuple(down))


async def _mover(session: Session, passage: Passage, say: Say) -> Mover:
    before, after = _blueprints(session, passage)
    source = await _end(session, passage.source, before)
    target = await _end(session, passage.target, after)
    return Mover(source, target, _keeping(session, passage, after), say)


def _keeping(session: Session, passage: Passage, after: Blueprint) -> Callable[[Keep], Awaitable[None]]:
    async def keep(request: Keep) -> None:
        await asyncio.to_thread(_keep, session, passage, request, after)

    return keep


async def _node(session: Session, path: str) -> NodeEngine | None:
    """The engine of the node that a machine is in; None where that cannot be asked."""
    engine = await _asked(session, parent_of(path))
    return engine if isinstance(engine, NodeEngine) else None


async def _asked(session: Session, parent: str) -> Engine | None:
    """The engine in a hypervisor, if that answers soon."""
    try:
        async with asyncio.timeout(patience.allowed(REACHED, 1.0)):
            return await session.nest.engine(parent)
    except (LabError, OSError, TimeoutError):
        return None


def _blueprints(session: Session, passage: Passage) -> tuple[Blueprint, Blueprint]:
    """The lab with the machine where it was, and where it goes."""
    known, aways = session.blueprint, session.moves.aways
    there = passage.target in known.by_path()
    source, target = (passage.target, passage.source) if there else (passage.source, passage.target)
    other = placed(known, moved(aways, source, target, 0.0)) if source in known.by_path() else known
    return (other, known) if there else (known, other)


async def _end(session: Session, path: str, blueprint: Blueprint) -> End:
    parent = parent_of(path)
    outer = session.observed.machines.get(parent)
    if outer is None or outer.state in DOWN:
        return End(path, None, blueprint, absent=True)
    engine = await _asked(session, parent)
    return End(path, engine if isinstance(engine, QemuEngine) else None, blueprint)


def _keep(session: Session, passage: Passage, request: Keep, after: Blueprint) -> None:
    """Write down how far a migration is; with its end all that goes by the machine's path."""
    moves, place = session.moves, session.place
    known = next((each for each in moves.passages if _same(each, passage)), passage)
    others = tuple(each for each in moves.passages if not _same(each, passage))
    keys = LabKeys(place.root)
    aways = moves.aways
    if request.phase == "begun":
        keys.hand_on(passage.source, passage.target)
    elif request.phase == "moved" and known.phase != "moved":
        aways = moved(aways, passage.source, passage.target, time.time(), keep=passage.keep)
    elif request.phase is None and known.rest:
        keys.drop(known.rest)
    passages = others if request.phase is None else (*others, replace(passage, phase=request.phase))
    session.moves = kept.Moves(aways, passages)
    kept.save(place, session.moves, synced=not request.quick)
    if request.phase == "moved" and not request.quick:
        _follow(session, passage, after)


def _same(one: Passage, other: Passage) -> bool:
    return (one.source, one.target) == (other.source, other.target)


def _follow(session: Session, passage: Passage, after: Blueprint) -> None:
    """All that is kept under the machine's path is under its new one."""
    place, source, target = session.place, passage.source, passage.target
    faults = tuple(replace(each, path=_moved(each.path, source, target)) for each in kept_faults.load(place))
    kept_faults.save(place, faults)
    session.faults = faults
    kept_ports.save(place, (replace(each, path=_moved(each.path, source, target)) for each in kept_ports.load(place)))
    wanted: dict[Path, tuple[bytes, int]] = {}
    for path in (place.blueprint, place.applied):
        made = blueprint_file.load(path, place.name)
        if made is not None:
            data = blueprint_file.blueprint_to_json(placed(made, session.moves.aways)).encode()
            wanted[path] = (data, 0o600)
    replace_changed(wanted)
    session.blueprint = after
    if session.previous is not None:
        session.previous = placed(session.previous, session.moves.aways)
    session.nest.adopt(after, source, target)


def _moved(path: str, source: str, target: str) -> str:
    return target if path == source else path
