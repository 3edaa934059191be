"""`nestlab pve` and `nestlab migrate`: setting up and checking a Proxmox VE, and moving machines on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.printable import brief
from nestlab.cli import complete
from nestlab.cli.common import home, lab_named, meant, print_json, site
from nestlab.cli.guard import MEND, agreed, guarded, run, say, show
from nestlab.cli.narrow_help import FittedTyper
from nestlab.cli.options import Debug, Json, MachineWord, NoWait, Yes

if TYPE_CHECKING:
    from nestlab.home.targets import Which
    from nestlab.lab.model import Pve

group = FittedTyper(
    help="A Proxmox VE as the host of labs: set it up, check it, believe its certificate.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Where = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS|FILE|LAB",
        help="pve://HOST, pve+ssh://NODE, pve+local, or a lab that is on one.",
        autocompletion=complete.labs_and_machines,
    ),
]
User = Annotated[str, typer.Option("--user", metavar="USER@REALM", help="Who is made for nestlab.")]
TokenId = Annotated[str, typer.Option("--token", metavar="ID", help="The API token that is made for it.")]
Perform = Annotated[
    bool, typer.Option("--perform", help="Do it, as who NESTLAB_PVE_USER or the address names (root@pam), and keep it.")
]


@group.command("setup")
@guarded
def setup(
    where: Where,
    user: User = "nestlab@pve",
    token: TokenId = "nestlab",
    perform: Perform = False,
    yes: Yes = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Print the commands that make a pool, roles, a user and an API token with exactly what nestlab needs, for root on
    a node; --perform makes them through the API, and keeps the token for later.

    \b
    Examples:
      nestlab pve setup pve://pve1.example.org
      nestlab pve setup lab.yaml                 for what that lab uses
      nestlab pve setup pve://root@pam@pve1.example.org --perform
    """
    from nestlab.cli import proxmox_work

    meant = meant_by(where)
    return run(
        proxmox_work.setup(
            meant.on, meant.bridges, user, token, perform=perform, yes=yes, as_json=as_json, named=meant.named
        )
    )


@group.command("check")
@guarded
def check(where: Where, as_json: Json = False, debug: Debug = False) -> int | None:
    """Say whether nestlab may do there what it needs, which privilege is missing where, and what the nodes can do.
    Changes nothing. Exit status 2 if something is missing."""
    from nestlab.cli import proxmox_work

    meant = meant_by(where)
    return run(
        proxmox_work.check(meant.on, meant.bridges, hypervisors=meant.hypervisors, as_json=as_json, named=meant.named)
    )


@group.command("trust")
@guarded
def trust(where: Where, yes: Yes = False, debug: Debug = False) -> int | None:
    """Show the fingerprint of the certificate that it shows now, and believe it from now on, if that is agreed to. Lab
    files may name the address then, also one that is reached by ssh."""
    from nestlab.cli import proxmox_work

    meant = meant_by(where)
    return run(proxmox_work.trust(meant.on, yes=yes, named=meant.named))


Target = Annotated[str, typer.Argument(metavar="NODE", help="The node it is to be on.")]
StopGuests = Annotated[
    bool, typer.Option("--stop-guests", help="Stop what runs inside it first, and start that again after.")
]


@guarded
def migrate(
    machine: MachineWord,
    node: Target,
    stop_guests: StopGuests = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Move a machine of a lab on a Proxmox VE to another node, after saying what runs inside it and whether that can be
    carried over. Switched off it always moves.

    \b
    Examples:
      nestlab migrate hv1 pve2
      nestlab migrate hv1 pve2 --stop-guests     where guests that run would be lost
    """
    found = meant([machine])
    return run(_migrate(found, node, stop_guests=stop_guests, yes=yes, no_wait=no_wait, as_json=as_json))


async def _migrate(
    found: Which, node: str, *, stop_guests: bool, yes: bool, no_wait: bool, as_json: bool
) -> int | None:
    from nestlab.cli.lab_work import shown
    from nestlab.cli.machines import the_one
    from nestlab.plan.steps import Plan
    from nestlab.verbs import migrate as moving
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    waiting = verbs.changing(site(), "migrate", name=name, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        path = the_one(session, found)
        crossing = await moving.look(session, path, node, stop_guests=stop_guests)
        move, ruling = crossing.move, crossing.ruling
        if not as_json:
            _tell(crossing)
        asks = ruling.allowed and move.running  # what is off moves without a question
        if asks and not agreed(yes, "Migrate it while it runs?", "nothing was moved"):
            return MEND
        async with shown(session, Plan(name), as_json=as_json) as emit:
            await moving.go(session, crossing, emit, lambda text: say(brief(f"{path}: {text}")))
        seen = session.observed.machines[path]
        if as_json:
            print_json({"machine": path, "node": seen.node, "state": seen.state, "stopped": list(crossing.stopped)})
        else:
            show(brief(f"{path} is on {seen.node} now, {seen.state}"))
    return None


def _tell(crossing: object) -> None:
    from nestlab.verbs.migrate import Crossing

    assert isinstance(crossing, Crossing)
    move, ruling = crossing.move, crossing.ruling
    how = "while it runs" if move.running and ruling.online else "switched off"
    show(f"{move.path}: from {move.source.node} to {move.target.node}, {how}: {brief(ruling.why)}")
    if move.inside:
        show(f"  inside it run {brief(', '.join(move.inside))}")
    if crossing.stopped:
        show("  they are stopped first and started again after")
    for note in crossing.notes:
        show(f"  {brief(note)}")


@frozen
class Meant:
    """A Proxmox VE as a lab uses it. `bridges`: those that its segments name; `hypervisors`: machines run inside its
    machines, as of an address they may. `named`: the user said the address, or a lab of theirs is there."""

    on: Pve
    bridges: tuple[str, ...] = ()
    hypervisors: bool = True
    named: bool = True


def meant_by(word: str) -> Meant:
    """What is meant by an address, a lab file or the name of a lab."""
    from pathlib import Path

    from nestlab.home import labs
    from nestlab.lab import blueprint_file
    from nestlab.lab.model import Pve

    if word.startswith(("pve://", "pve+")):
        return Meant(Pve(word))
    named = True
    if word in home().labs():
        made = blueprint_file.load(labs.existing(home(), word).blueprint, word)
        on, segments = (made.on, made.segments) if made else (None, ())
        nests = any(spec.machine.hypervisor for spec in made.specs) if made else True
    elif word.endswith((".yaml", ".yml")):
        from nestlab.labfile import parse

        lab = parse(Path(word), environ=os.environ)
        on, segments, named = lab.on, lab.segments, lab.named
        nests = any(placed.machine.hypervisor for placed in lab.walk())
    else:
        raise LabError(f"{word} is neither an address nor a lab.", hint="Such as pve://pve1.example.org, or lab.yaml.")
    if on is None:
        raise LabError(f"{word} is a lab on this machine.", hint="Say `on: pve://HOST` in its lab file.")
    return Meant(on, tuple(dict.fromkeys(each.bridge for each in segments if each.bridge)), nests, named)
