"""`nestlab pve`: setting up and checking a Proxmox VE."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.cli import complete
from nestlab.cli.common import home
from nestlab.cli.exit_status import guarded, run
from nestlab.cli.narrow_help import FittedTyper
from nestlab.cli.options import Debug, Json, Yes

if TYPE_CHECKING:
    from nestlab.lab.places import Pve

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
    from nestlab.lab.places import Pve, called

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
    if not isinstance(on, Pve):
        raise LabError(f"{word} is a lab on {called(on)}.", hint="Say `on: pve://HOST` in its lab file.")
    return Meant(on, tuple(dict.fromkeys(each.bridge for each in segments if each.bridge)), nests, named)
