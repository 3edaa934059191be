"""Commands that change a lab or say what would change: up, plan, start, stop, down, verify."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.cli import lab_work
from nestlab.cli.common import lab_named, meant, one_lab
from nestlab.cli.guard import MEND, answered, guarded, run, say
from nestlab.cli.options import Debug, Json, LabWord, NoWait, Sets, Words, Yes

if TYPE_CHECKING:
    from nestlab.home.targets import Which

NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the proofs at the end.")]


@guarded
def up(
    words: Words = None,
    sets: Sets = None,
    no_verify: NoVerify = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Bring a lab up as its lab file says, and prove it. What is as it should be stays untouched.

    \b
    Examples:
      nestlab up examples/pair.yaml
      nestlab up pair                            again, from the same lab file
      nestlab up pair hv1/web                    one machine, and what it is in
      nestlab up lab.yaml --set machines.hv1.memory=4G
    """
    return run(lab_work.bring_up(meant(words), sets or [], verify=not no_verify, no_wait=no_wait, as_json=as_json))


@guarded
def plan(words: Words = None, sets: Sets = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Show what `up` would do, with reasons, and how each machine would be accelerated. Changes nothing."""
    return run(lab_work.show_plan(meant(words), sets or [], as_json=as_json))


@guarded
def verify(words: LabWord = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Prove a running lab, level by level. Exit status 2 if a claim does not hold."""
    return run(lab_work.prove(one_lab(words), as_json=as_json))


@guarded
def start(words: Words = None, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Start machines that were stopped, as they were made: the lab file is not read."""
    return run(lab_work.change("start", "running", meant(words), no_wait=no_wait, as_json=as_json))


@guarded
def stop(words: Words = None, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Shut machines down, those inside first. Disks stay; `start` and `up` go on with them."""
    return run(lab_work.change("stop", "stopped", meant(words), no_wait=no_wait, as_json=as_json))


@guarded
def down(
    words: Words = None, yes: Yes = False, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """End machines and delete everything of them, disks too; without machines, the whole lab. On a terminal it asks.

    \b
    Examples:
      nestlab down pair
      nestlab down pair hv1/web --yes
    """
    found = meant(words)
    if not yes and not as_json and sys.stdin.isatty() and sys.stderr.isatty() and not _confirmed(found):
        say("nothing was changed")
        return MEND
    return run(lab_work.change("down", "gone", found, no_wait=no_wait, as_json=as_json))


def _confirmed(found: Which) -> bool:
    name = lab_named(found)
    what = ", ".join(found.machines) + f" of lab {name}" if found.machines else f"lab {name} with all its machines"
    return answered(f"Delete {what}, disks included?")
