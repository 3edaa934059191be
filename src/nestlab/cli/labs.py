"""Commands that change a lab or say what would change: up, plan, start, stop, down, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.cli import lab_work
from nestlab.cli.absent_lab import absent_lab
from nestlab.cli.common import meant, one_lab
from nestlab.cli.consent import Consent
from nestlab.cli.exit_status import guarded, run, say
from nestlab.cli.options import Debug, Json, LabWord, NoWait, Sets, Words, Yes

if TYPE_CHECKING:
    pass

Replace = Annotated[bool, typer.Option("--replace", help="Agree that disks are deleted, where the plan says so.")]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over a lab of the same name that another file made.")]
Private = Annotated[
    bool, typer.Option("--private", help="Agree that machines get files and secrets that others here may not read.")
]
Pause = Annotated[
    bool, typer.Option("--pause-on-failure", help="What fails to come up stays, to be entered; a terminal asks then.")
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the proofs at the end.")]


@guarded
def up(
    words: Words = None,
    sets: Sets = None,
    no_verify: NoVerify = False,
    replace: Replace = False,
    adopt: Adopt = False,
    private: Private = False,
    pause: Pause = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Bring a lab up as its lab file says, and prove it. What is as it should be stays untouched; what changed is
    changed live or by a restart, with its disk kept. Before a disk is deleted it asks.

    \b
    Examples:
      nestlab up examples/pair.yaml
      nestlab up pair                            again, from the same lab file
      nestlab up pair hv1/web                    one machine, and what it is in
      nestlab up lab.yaml --set machines.hv1.memory=4G
      nestlab up pair --pause-on-failure         a machine that panics stays, for its console
    """
    consent = Consent(replace, adopt, private)
    work = lab_work.bring_up(
        meant(words), sets or [], verify=not no_verify, no_wait=no_wait, as_json=as_json, consent=consent, pause=pause
    )
    return run(work)


@guarded
def plan(
    words: Words = None, sets: Sets = None, adopt: Adopt = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Show what `up` would do, with reasons, and how each machine would be accelerated. Changes nothing."""
    consent = Consent(adopt=adopt)
    return run(lab_work.show_plan(meant(words), sets or [], as_json=as_json, consent=consent))


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
def restart(words: Words = None, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Shut machines down and start them as they were made; what runs inside them too. Disks stay.

    \b
    Examples:
      nestlab restart hv1/web
      nestlab restart pair 'hv*'
    """
    return run(lab_work.again("restart", "restart", meant(words), no_wait=no_wait, as_json=as_json))


@guarded
def recreate(
    words: Words = None, yes: Yes = False, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Delete machines with their disks, and make them again as they were made, with what is inside them. Names and
    addresses stay. On a terminal it asks; elsewhere it needs --yes.

    \b
    Examples:
      nestlab recreate hv1/web
      nestlab recreate pair hv1 --yes
    """
    return run(lab_work.again("recreate", "anew", meant(words), no_wait=no_wait, as_json=as_json, agreed=yes))


@guarded
def down(
    words: Words = None, yes: Yes = False, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """End machines and delete everything of them, disks too; without machines, the whole lab. On a terminal it shows
    what is deleted, and asks. A lab that is not there is no error.

    \b
    Examples:
      nestlab down pair
      nestlab down pair hv1/web --yes
    """
    gone = absent_lab(words)
    if gone is not None:
        say(f"There is no lab {gone}: nothing is to be ended." if gone else "There is no lab: nothing is to be ended.")
        return None
    work = lab_work.change("down", "gone", meant(words), no_wait=no_wait, as_json=as_json, agreed=yes)
    return run(work)
