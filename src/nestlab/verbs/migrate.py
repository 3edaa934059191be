"""Migrates a machine of a lab to another node of its Proxmox VE, with what runs inside it in mind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.pve.engine import PveEngine
from nestlab.engines.pve.migration import Move, Ruling, judge
from nestlab.lab.model import parent_of, within
from nestlab.lab.places import called
from nestlab.proxmox.platform import ProxmoxPlatform
from nestlab.verbs.session import Emit, Session


@frozen
class Crossing:
    """A migration as it would be. `stopped`: machines inside that end before and start after it; `notes`: what else a
    person should know."""

    move: Move
    ruling: Ruling
    stopped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def look(session: Session, path: str, target: str, *, stop_guests: bool = False) -> Crossing:
    """Looks at a migration before it is made; the session has observed. LabError when it is none of a machine on a
    Proxmox VE."""
    engine = _engine(session, path)
    spec = session.blueprint[path]
    inside = _running_inside(session, path)
    move = await engine.migration.look(path, target, hypervisor=bool(spec.machine.hypervisor), inside=inside)
    notes = await engine.parted(session.blueprint, path, target)
    ruling = judge(move)
    if stop_guests and inside and move.running and not ruling.allowed:
        alone = judge(replace(move, inside=()))
        return Crossing(move, alone, inside, notes)
    return Crossing(move, ruling, (), notes)


async def go(session: Session, crossing: Crossing, emit: Emit, say: Callable[[str], None]) -> None:
    """Do it. LabError when it is not allowed; the guests that were stopped for it are started again in any case."""
    move, ruling = crossing.move, crossing.ruling
    if not ruling.allowed:
        raise LabError(f"{move.path} cannot migrate to {move.target.node} now: {ruling.why}.", hint=ruling.hint)
    engine = _engine(session, move.path)
    if crossing.stopped:
        await session.apply(session.plan("stopped", crossing.stopped), emit, verb="stop")
        await session.look()
    try:
        await engine.migration.go(move, ruling, say)
    finally:
        await session.nest.drop(move.path)
        await session.look()
        if crossing.stopped:
            await session.apply(session.plan("running", crossing.stopped), emit, verb="start")
            await session.look()


def _engine(session: Session, path: str) -> PveEngine:
    platform = session.platform
    if not isinstance(platform, ProxmoxPlatform):
        where = called(session.blueprint.on)
        what = f"Lab {session.blueprint.lab} is on {where}, where there is nowhere to migrate to."
        raise LabError(what, hint="Machines migrate between the nodes of a Proxmox VE: `on: pve://…`.")
    if parent_of(path):
        what = f"{path} is inside {parent_of(path)}, and moves with it."
        raise LabError(what, hint=f"nestlab migrate {path.split('/')[0]} NODE")
    return platform.engine


def _running_inside(session: Session, path: str) -> tuple[str, ...] | None:
    """The machines inside that run; None where one of them cannot be asked."""
    inner = [seen for seen in session.observed.machines.values() if seen.path != path and within(seen.path, path)]
    outer = session.observed.machines.get(path)
    if outer is not None and outer.state == "running" and any(seen.state == "unknown" for seen in inner):
        return None
    return tuple(seen.path for seen in inner if seen.state in ("running", "paused"))
