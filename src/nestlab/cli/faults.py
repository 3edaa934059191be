"""Faults on purpose: kill, cut, impair, clock, heal."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.cli import complete
from nestlab.cli.common import lab_named, meant, print_json, site
from nestlab.cli.exit_status import guarded, run, say, show
from nestlab.cli.machines import the_one
from nestlab.cli.options import Debug, Json, MachineWord
from nestlab.lab import faults as sayings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nestlab.home.targets import Which
    from nestlab.lab.faults import Fault, Impairment
    from nestlab.plan.steps import Plan
    from nestlab.verbs.session import Session

Machines = Annotated[
    list[str],
    typer.Argument(metavar="MACHINE", help="Such as hv1/web, hv1,hv2 or hv*.", autocompletion=complete.machines),
]
Segment = Annotated[str, typer.Argument(metavar="SEGMENT", help="Such as wire.", autocompletion=complete.segments)]
Impaired = Annotated[
    list[str],
    typer.Argument(
        metavar="[MACHINE] SEGMENT",
        help="A segment, such as wire; before it the machine whose link alone is meant.",
        autocompletion=complete.machines_and_segments,
    ),
]
Delay = Annotated[str, typer.Option("--delay", metavar="TIME", help="Of each direction: 40ms, 1.5s.")]
Jitter = Annotated[str, typer.Option("--jitter", metavar="TIME", help="At most so much more or less delay.")]
Loss = Annotated[str, typer.Option("--loss", metavar="SHARE", help="Of the frames of each direction: 1%.")]
Rate = Annotated[str, typer.Option("--rate", metavar="RATE", help="At most so much of each direction: 10mbit.")]
Shift = Annotated[str, typer.Argument(metavar="SHIFT", help="Such as +1h, -30m or +1d12h.")]
Healed = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LAB|MACHINE|SEGMENT",
        help="The lab (may be left out), then machines and segments (none: all).",
        autocompletion=complete.machines_and_segments,
    ),
]


@guarded
def kill(machines: Machines, as_json: Json = False, debug: Debug = False) -> int | None:
    """Cut the power of machines: what they had not written to their disks is lost, and what runs inside them is gone
    too. `up` leaves them off and says so; `start` or `heal` starts them.

    \b
    Examples:
      nestlab kill hv1
      nestlab kill hv2/web
    """
    return run(_kill(meant(machines), as_json=as_json))


async def _kill(found: Which, *, as_json: bool) -> None:
    from nestlab.home.targets import expand
    from nestlab.verbs import faults
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "kill", name=lab_named(found), say=say) as session:
        if not found.machines:
            raise LabError("No machine is meant.", hint="Name it: nestlab kill hv1")
        done = await faults.kill(session, expand(found.machines, list(session.blueprint.by_path()), session.nest.lab))
    _tell(done, as_json=as_json)


@guarded
def cut(machine: MachineWord, segment: Segment, as_json: Json = False, debug: Debug = False) -> int | None:
    """Take the cable of a machine to a segment out: its card has no link, and no frame passes. It stays so until
    `heal`, also when the machine is started again. nestlab's own way to the machine is another card, which stays.

    \b
    Examples:
      nestlab cut hv1 wire
      nestlab cut pair:hv1/web wire
    """
    return run(_cut(meant([machine]), segment, as_json=as_json))


async def _cut(found: Which, segment: str, *, as_json: bool) -> None:
    from nestlab.verbs import faults
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "cut", name=lab_named(found), say=say) as session:
        path = the_one(session, found)
        fault = await faults.cut(session, path, segment)
        later = not faults.runs(session, path)
    _tell([fault], as_json=as_json)
    if later:
        say(f"{path} does not run: it starts without that link")


@guarded
def impair(
    words: Impaired,
    delay: Delay = "",
    jitter: Jitter = "",
    loss: Loss = "",
    rate: Rate = "",
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Impair all frames of a segment, or those from and to one machine on it: each direction is delayed, loses frames,
    and is no quicker than its rate. It stays so until `heal`; said again, the new one replaces it.

    \b
    Examples:
      nestlab impair wire --delay 40ms --loss 1%
      nestlab impair hv1 wire --delay 100ms --jitter 20ms
      nestlab impair pair wire --rate 10mbit
    """
    impairment = sayings.impairment(delay, jitter, loss, rate)
    return run(_impair(meant(words[:-1]), words[-1], impairment, as_json=as_json))


async def _impair(found: Which, segment: str, impairment: Impairment, *, as_json: bool) -> None:
    from nestlab.verbs import faults
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "impair", name=lab_named(found), say=say) as session:
        path = the_one(session, found) if found.machines else ""
        fault = await faults.impair(session, path, segment, impairment)
        inside = faults.within_bridges(session, segment)
    _tell([fault], as_json=as_json)
    if inside and not path:
        say(f"frames that stay inside a hypervisor are not impaired: a bridge carries them ({', '.join(inside)})")


@guarded
def clock(machine: MachineWord, shift: Shift, as_json: Json = False, debug: Debug = False) -> int | None:
    """Set the clock of a running machine so far ahead of this computer's, or behind it. What keeps time in it (chrony,
    systemd-timesyncd) may set it right again. Its hardware's clock stays right: it boots with the true time, and is set
    off again when it is up.

    \b
    Examples:
      nestlab clock hv1 +1h
      nestlab clock hv1/web -90s
    """
    return run(_clock(meant([machine]), sayings.shift(shift), as_json=as_json))


async def _clock(found: Which, shift: int, *, as_json: bool) -> None:
    from nestlab.verbs import faults
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "clock", name=lab_named(found), say=say) as session:
        fault, off = await faults.clock(session, the_one(session, found), shift)
    _tell([fault], as_json=as_json)
    if abs(off - shift) > _CLOSE:
        say(f"it says {off} s: something in it sets its clock")


_CLOSE = 30
"""Seconds by which a clock that was just set may be off: the command takes its time."""


@guarded
def heal(words: Healed = None, as_json: Json = False, debug: Debug = False) -> int | None:
    """Take back what `kill`, `cut`, `impair` and `clock` did: to a lab, to machines, or on segments. Machines that were
    killed are started, with what is inside them.

    \b
    Examples:
      nestlab heal                  all of it
      nestlab heal hv1              of one machine
      nestlab heal hv1 wire         one cable
      nestlab heal wire             all that is wrong on a segment
    """
    return run(_heal(meant(words), as_json=as_json))


async def _heal(found: Which, *, as_json: bool) -> None:
    from nestlab.verbs import faults
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    async with verbs.changing(site(), "heal", name=name, say=say) as session:
        chosen, machines, segments = faults.selected(session, found.machines)
        await faults.join(session, machines, segments)

        async def start(todo: Plan) -> None:
            await _start(session, todo, as_json=as_json)

        await faults.heal(session, chosen, start, (lambda _: None) if as_json else say)
    if as_json:
        print_json({"lab": name, "healed": [asdict(each) for each in chosen]})
    elif not chosen:
        say(f"{name}: nothing is to be healed{' there' if found.machines else ''}")


async def _start(session: Session, todo: Plan, *, as_json: bool) -> None:
    from nestlab.cli import lab_work

    async with lab_work.shown(session, todo, as_json=False, quiet=as_json) as emit:
        await session.apply(todo, emit, verb="heal")


def _tell(faults: Sequence[Fault], *, as_json: bool) -> None:
    if as_json:
        print_json({"faults": [asdict(each) for each in faults]})
        return
    for each in sayings.lines(faults, time.time()):
        show(each)
