"""Moves machines between nodes of one cluster of Proxmox VE that nestlab made: PVE itself moves them, and says when.

A machine is its node's by the mark in its notes. That is changed once PVE has moved it, so that whoever comes after an
interruption finds by node and mark how far it came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Literal

from nestlab import kinds
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.pve import migration as pve
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.pve.resources import Found
from nestlab.engines.qemu.migration_requests import Keep, Moved
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import format_size, parent_of
from nestlab.lab.moved_machines import Passage
from nestlab.network.network_script import bridges
from nestlab.plan.migration import Ruling, Way
from nestlab.plan.steps import Boot, Seen, Stop

Keeps = Callable[[Keep], Awaitable[None]]


def together(blueprint: Blueprint, source: str, target: str) -> bool:
    """Whether two hypervisors are members of one cluster of Proxmox VE."""
    specs = blueprint.by_path()
    nodes = all(path in specs and specs[path].machine.hypervisor == "pve" for path in (source, target))
    return nodes and any({source, target} <= set(cluster.members) for cluster in blueprint.clusters)


async def look(
    blueprint: Blueprint,
    seen: Seen,
    source: NodeEngine,
    target: NodeEngine,
    *,
    cold: bool,
    inside: Sequence[str] | None,
) -> Ruling:
    """How a machine moves between two members, or why it does not."""
    path, spec = seen.path, blueprint[seen.path]
    there = target.parent
    way: Way = "live" if seen.state in ("running", "paused") else "off"
    if way == "live" and (cold or spec.machine.container):
        way = "restart"
    if seen.state in ("broken", "unknown", "paused"):
        what = f"{path} is {seen.state}: it cannot be moved."
        return Ruling(path, there, way, LabError(what, hint="nestlab up"))
    refused = _no_room(blueprint, spec, there)
    if refused is None and way == "live":
        refused = _unlike_bridges(blueprint, spec, there)
    move = await _move(source, path, target, spec, inside)
    judged = pve.judge(replace(move, running=way == "live", layers=()))
    if refused is None and not judged.allowed:
        refused = LabError(f"{path} cannot move to {there} now: {judged.why}.", hint=judged.hint)
    notes = ("a container: it is stopped, moved and started again",) if spec.machine.container and not cold else ()
    if way == "live" and move.layers:
        notes = (*notes, "its disks are copied whole first, since PVE moves no layers over a template's")
    return Ruling(path, there, way, refused, notes)


async def go(
    blueprints: tuple[Blueprint, Blueprint],
    passage: Passage,
    ends: tuple[NodeEngine, NodeEngine],
    keep: Keeps,
    say: Say,
) -> Moved:
    """Move it. LabError where that fails: then it is where it was. `blueprints`: with it where it was, and where it
    goes; `ends`: the engines of both nodes."""
    before, after = blueprints
    source, target = ends
    await keep(Keep("begun"))
    try:
        downtime = await _over(before, passage, source, target, say)
    except LabError:
        where = await _at(source, target, passage, say)
        if where == "source":
            await keep(Keep("failed"))
            await keep(Keep(None))
            with contextlib.suppress(LabError):
                await _again(source, before, passage, say)
        if where != "target":
            raise
        downtime = None
    await _arrived(source, passage, keep)
    await target.guests.look(exact=False)
    if passage.ran:
        await _runs(target, after, passage.target, say)
    return Moved(downtime or 0.0)


async def resume(
    passage: Passage,
    ends: tuple[NodeEngine | None, NodeEngine | None],
    keep: Keeps,
    say: Say,
) -> None:
    """End what somebody began who is gone. Nothing where a node cannot be asked: it stays written down."""
    source, target = ends
    if passage.phase == "failed":
        await keep(Keep(None))
        return
    where = await _at(source, target, passage, say)
    if where == "source":
        await keep(Keep("failed"))
        await keep(Keep(None))
    elif where == "target":
        await _arrived(source, passage, keep)


async def _over(before: Blueprint, passage: Passage, source: NodeEngine, target: NodeEngine, say: Say) -> float | None:
    """It is on the other node, off unless it moves while it runs."""
    path, spec = passage.source, before[passage.source]
    found = await source.guests.one(path)
    if found.mark.ha:
        say("taking it out of high availability while it moves")
    if passage.ran and not passage.live:
        await source.perform(Stop("it is moved", path), before, say)
    if found.mark.ha:
        await source.availability.leave(found.guest)
    move = await _move(source, path, target, spec, ())
    if move.running and move.layers:
        move = await source.migration.part(move, say)
    return await source.migration.go(move, pve.judge(move), say)


async def _again(source: NodeEngine, before: Blueprint, passage: Passage, say: Say) -> None:
    """It is as it was before a migration that failed."""
    if passage.ran:
        await _runs(source, before, passage.source, say)


async def _arrived(source: NodeEngine | None, passage: Passage, keep: Keeps) -> None:
    """It is the other node's from now on, and so is all that goes by its path."""
    if source is not None and await source.guests.find(passage.source):
        await source.hand_over(passage.source, passage.target)
    await keep(Keep("moved"))
    await keep(Keep(None))


async def _runs(engine: NodeEngine, blueprint: Blueprint, path: str, say: Say) -> None:
    """It runs, as before: what moved while it ran is only looked at."""
    await engine.perform(Boot("it was moved", path), blueprint, say)


async def _at(
    source: NodeEngine | None, target: NodeEngine | None, passage: Passage, say: Say
) -> Literal["source", "target", "unknown"]:
    """Where it is, once no task of PVE's is at work on it."""
    for engine, path in ((source, passage.source), (target, passage.target)):
        there = await _found(engine, path, say) if engine is not None else None
        if there is not None:
            return "target" if there.guest.node == _name(passage.target) else "source"
    return "unknown" if source is None or target is None else "source"


async def _found(engine: NodeEngine, path: str, say: Say) -> Found | None:
    """A machine by its mark, on whichever node it is."""
    await engine.guests.look(exact=False)
    for found in await engine.guests.find(path):
        if not found.mark.making and await engine.guests.unlocked(found.guest, say):
            await engine.guests.look(exact=False)
            return next(iter(await engine.guests.find(path)), None)
    return None


async def _move(
    source: NodeEngine, path: str, target: NodeEngine, spec: Spec, inside: Sequence[str] | None
) -> pve.Move:
    hypervisor = bool(spec.machine.hypervisor)
    managed = bool((await source.guests.one(path)).mark.ha)
    return await source.migration.look(path, target.name, hypervisor=hypervisor, inside=inside, managed=managed)


def _no_room(blueprint: Blueprint, spec: Spec, target: str) -> LabError | None:
    """A node's memory holds its machines and what it needs itself, as in the lab file."""
    inside = sum(each.machine.memory for each in blueprint.children(target)) + spec.machine.memory
    need, has = inside + kinds.kinds()["pve"].overhead, blueprint[target].machine.memory
    if need <= has:
        return None
    what = f"{target} has {format_size(has)} of memory, and with {spec.path} it needs {format_size(need)}."
    return LabError(what, hint=f"Give it `memory: {format_size(need)}` in the lab file, then `nestlab up`.")


def _unlike_bridges(blueprint: Blueprint, spec: Spec, target: str) -> LabError | None:
    """A machine that runs keeps the names of its bridges."""
    here, there = bridges(blueprint[spec.parent]), bridges(blueprint[target])
    for nic in spec.nics:
        if here.get(nic.segment) != there.get(nic.segment):
            what = f"{nic.segment} is {here.get(nic.segment)} in {spec.parent} and {there.get(nic.segment)} in {target}"
            hint = "A machine that runs keeps its bridge: list the segments of both nodes in one order, or --cold."
            return LabError(f"{spec.path} cannot move while it runs: {what}.", hint=hint)
    return None


def _name(path: str) -> str:
    """What the node that a machine is in calls itself."""
    return parent_of(path).rpartition("/")[2]
