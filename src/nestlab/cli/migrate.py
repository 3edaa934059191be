"""`nestlab migrate`: a machine moves to another hypervisor of its lab, or to another node of its Proxmox VE."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.paint import human
from nestlab.base.printable import brief
from nestlab.cli import complete
from nestlab.cli.common import lab_named, meant, print_json, site
from nestlab.cli.exit_status import MEND, agreed, guarded, run, say, show
from nestlab.cli.options import Debug, Json, MachineWord, NoWait, Yes

if TYPE_CHECKING:
    from nestlab.home.targets import Which
    from nestlab.plan.migration import Ruling
    from nestlab.verbs.migrate import Crossing
    from nestlab.verbs.moving import Arrived
    from nestlab.verbs.session import Session

Target = Annotated[
    str,
    typer.Argument(
        metavar="HYPERVISOR|NODE",
        help="Where it is to be: another hypervisor of the lab, or a node of the Proxmox VE that the lab is on.",
        autocompletion=complete.machines,
    ),
]
Cold = Annotated[bool, typer.Option("--cold", help="Stop it, move it and start it again, rather than while it runs.")]
Keep = Annotated[bool, typer.Option("--keep", help="Write its new place into the lab file.")]
StopGuests = Annotated[
    bool, typer.Option("--stop-guests", help="Stop what runs inside it first, and start that again after.")
]


@guarded
def migrate(
    machine: MachineWord,
    target: Target,
    cold: Cold = False,
    keep: Keep = False,
    stop_guests: StopGuests = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Move a machine to another hypervisor of its lab, with its disks, while it runs if it can: its addresses, its
    names and its MAC addresses stay. It is away from home then, which `status` says, and `up` leaves it there; `--keep`
    writes its new place into the lab file. On a Proxmox VE: to another node.

    \b
    Examples:
      nestlab migrate hv1/web hv2
      nestlab migrate hv2/web hv1                home again
      nestlab migrate hv1/db hv2 --cold          stopped, moved, started
      nestlab migrate hv1 pve2 --stop-guests     on a Proxmox VE, where guests that run would be lost
    """
    found = meant([machine])
    work = _migrate(
        found, target, cold=cold, keep=keep, stop_guests=stop_guests, yes=yes, no_wait=no_wait, as_json=as_json
    )
    return run(work)


async def _migrate(
    found: Which,
    target: str,
    *,
    cold: bool,
    keep: bool,
    stop_guests: bool,
    yes: bool,
    no_wait: bool,
    as_json: bool,
) -> int | None:
    from nestlab.cli.machines import the_one
    from nestlab.lab.model import parent_of
    from nestlab.lab.places import Pve
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    waiting = verbs.changing(site(), "migrate", name=name, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        path = the_one(session, found)
        if not parent_of(path) and isinstance(session.blueprint.on, Pve):
            return await _to_node(session, path, target, stop_guests=stop_guests, yes=yes, as_json=as_json)
        await _to_hypervisor(session, path, target, cold=cold, keep=keep, as_json=as_json)
    return None


async def _to_hypervisor(session: Session, path: str, target: str, *, cold: bool, keep: bool, as_json: bool) -> None:
    from nestlab.cli import settling
    from nestlab.verbs import connections, moving

    change = None
    ruling = await moving.look(session, path, target, cold=cold)
    if keep:
        from nestlab.verbs import place_kept

        change = place_kept.change_of(session, ruling.path, ruling.target)
    if not as_json and ruling.refused is None:
        _announce(ruling)
    arrived = await moving.go(session, ruling, lambda text: say(brief(f"{path}: {text}")), keep=change is not None)
    advice = change.perform() if change is not None else ""
    await connections.refresh(session)
    await settling.settle(session)
    seen = session.observed.machines.get(arrived.path)
    state = seen.state if seen else "not to be seen"
    if as_json:
        print_json({**_data(ruling, arrived), "state": state})
        return
    show(brief(_told(arrived, target, state, ruling)))
    for note in (*settling.notes(session), *([advice] if advice else [])):
        show(brief(note))


def _announce(ruling: Ruling) -> None:
    from nestlab.lab.model import parent_of

    how = {"live": "while it runs", "restart": "stopped, and started there", "off": "switched off"}[ruling.way]
    show(f"{ruling.path}: from {parent_of(ruling.path)} to {ruling.target}, {how}")
    for note in ruling.notes:
        show(f"  {brief(note)}")


def _told(arrived: Arrived, target: str, state: str, ruling: Ruling) -> str:
    said = f"{arrived.path} is in {target} now, {state}"
    if ruling.way != "live":
        return said
    silent = f", and answered no echo for {arrived.silent:.2f} s" if arrived.silent is not None else ""
    sent = f"; {human(arrived.sent)} of memory in {arrived.total:.1f} s" if arrived.total else ""
    return f"{said}: it stood still for {arrived.downtime:.2f} s{silent}{sent}"


def _data(ruling: Ruling, arrived: Arrived) -> dict[str, object]:
    return {
        "machine": arrived.path,
        "from": ruling.path,
        "hypervisor": ruling.target,
        "way": ruling.way,
        "downtime": arrived.downtime,
        "silent": arrived.silent,
        "total": arrived.total,
        "sent": arrived.sent,
        "at": time.time(),
    }


async def _to_node(
    session: Session, path: str, node: str, *, stop_guests: bool, yes: bool, as_json: bool
) -> int | None:
    from nestlab.cli.lab_work import shown
    from nestlab.plan.steps import Plan
    from nestlab.verbs import migrate as crossings

    crossing = await crossings.look(session, path, node, stop_guests=stop_guests)
    move, ruling = crossing.move, crossing.ruling
    if not as_json:
        _tell(crossing)
    asks = ruling.allowed and move.running  # what is off moves without a question
    if asks and not agreed(yes, "Migrate it while it runs?", "nothing was moved"):
        return MEND
    async with shown(session, Plan(session.blueprint.lab), as_json=as_json) as emit:
        await crossings.go(session, crossing, emit, lambda text: say(brief(f"{path}: {text}")))
    seen = session.observed.machines[path]
    if as_json:
        print_json({"machine": path, "node": seen.node, "state": seen.state, "stopped": list(crossing.stopped)})
    else:
        show(brief(f"{path} is on {seen.node} now, {seen.state}"))
    return None


def _tell(crossing: Crossing) -> None:
    move, ruling = crossing.move, crossing.ruling
    how = "while it runs" if move.running and ruling.online else "switched off"
    show(f"{move.path}: from {move.source.node} to {move.target.node}, {how}: {brief(ruling.why)}")
    if move.inside:
        show(f"  inside it run {brief(', '.join(move.inside))}")
    if crossing.stopped:
        show("  they are stopped first and started again after")
    for note in crossing.notes:
        show(f"  {brief(note)}")
