"""`nestlab snapshot`, `restore` and `snapshots`: a whole lab, saved at one moment and put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nestlab.base.errors import LabError
from nestlab.base.paint import human
from nestlab.base.printable import brief
from nestlab.cli import complete
from nestlab.cli.common import one_lab, print_json, site
from nestlab.cli.exit_status import MEND, agreed, guarded, run, say, show
from nestlab.cli.options import Debug, Json, NoWait, Yes

if TYPE_CHECKING:
    from nestlab.lab.snapshots import Manifest
    from nestlab.verbs.restores import Restored
    from nestlab.verbs.session import Session

Lab = Annotated[str, typer.Argument(metavar="LAB", help="The lab, or its lab file.", autocompletion=complete.labs)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the snapshot.")]
DiskOnly = Annotated[
    bool, typer.Option("--disk-only", help="Only disks, no memory: machines are off after it is restored.")
]
StopGuests = Annotated[
    bool, typer.Option("--stop-guests", help="Stop what runs inside hypervisors first, and start that again after.")
]
SnapshotWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[LAB] | rm LAB NAME", help="The lab; or `rm`, the lab, and snapshots to be removed."),
]


@guarded
def snapshot(
    lab: Lab,
    name: Name,
    disk_only: DiskOnly = False,
    stop_guests: StopGuests = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Save a whole lab at one moment: memory, devices and disks of all its machines, with what runs inside them. They
    stand still while that is written, and go on; it is told for how long. What was saved is tried before it counts.

    \b
    Examples:
      nestlab snapshot pair clean
      nestlab snapshot pair clean --stop-guests    without what runs inside
      nestlab snapshot pair clean --disk-only      as a power cut would leave the disks
    """
    return run(_snapshot(one_lab([lab]), name, disk_only=disk_only, stop=stop_guests, no_wait=no_wait, as_json=as_json))


async def _snapshot(name: str, called: str, *, disk_only: bool, stop: bool, no_wait: bool, as_json: bool) -> None:
    from nestlab.lab.snapshots import named
    from nestlab.show import snapshots as render
    from nestlab.verbs import session as verbs
    from nestlab.verbs import snapshots

    named(called)
    async with verbs.changing(site(), "snapshot", name=name, wait=0 if no_wait else None, say=say) as session:
        await snapshots.engine_of(session, "saved")
        began = time.monotonic()
        if stop and not disk_only:
            made = await _without_guests(session, called, as_json=as_json)
        else:
            made = await snapshots.take(session, called, _say(name), memory=not disk_only)
    if as_json:
        print_json({**render.data(made), "seconds": round(time.monotonic() - began, 3)})
        return
    show(render.told(made, time.monotonic() - began))


async def _without_guests(session: Session, called: str, *, as_json: bool) -> Manifest:
    """Stop what runs inside, take it, and start that again, whatever comes of it."""
    from nestlab.cli.lab_work import shown
    from nestlab.verbs import inner_machines, snapshots

    guests = inner_machines.guests(session)
    todo = session.plan("stopped", guests) if guests else None
    if todo is None:
        return await snapshots.take(session, called, _say(session.place.name))
    async with shown(session, todo, as_json=False, quiet=as_json) as emit:
        await session.apply(todo, emit, verb="stop")
    await session.look()
    try:
        return await snapshots.take(session, called, _say(session.place.name), stopped=guests)
    finally:
        await session.look()
        again = session.plan("running", guests)
        async with shown(session, again, as_json=False, quiet=as_json) as emit:
            await session.apply(again, emit, verb="start")


@guarded
def restore(
    lab: Lab,
    name: Name,
    disk_only: DiskOnly = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int | None:
    """Put a lab back to a snapshot: its machines go on where they were, with what ran inside them. What the lab is now
    is lost, which it asks about; where anything fails, the lab is what it was, with its machines off.

    \b
    Examples:
      nestlab restore pair clean
      nestlab restore pair clean --disk-only    only its disks; `nestlab start pair` boots it
    """
    return run(_restore(one_lab([lab]), name, disk_only=disk_only, yes=yes, no_wait=no_wait, as_json=as_json))


async def _restore(
    lab: str, name: str, *, disk_only: bool = False, parked: bool = False, yes: bool, no_wait: bool, as_json: bool
) -> int | None:
    """`parked`: the snapshot goes once the lab goes on from it."""
    from nestlab.home import snapshots as kept
    from nestlab.show import snapshots as render
    from nestlab.verbs import restores
    from nestlab.verbs import session as verbs

    async with verbs.changing(site(), "restore", name=lab, wait=0 if no_wait else None, say=say) as session:
        ready = await restores.look(session, name, _say(lab), disks_only=disk_only)
        if not as_json:
            show(render.announced(ready.manifest, lab, ready.ends, ready.loses, memory=ready.memory))
        asks = ready.ends or ready.loses
        if asks and not as_json and not agreed(yes, f"Put lab {lab} back to {name}?", "nothing was changed"):
            return MEND
        done = await restores.restore(session, ready, _say(lab))
        if parked:
            kept.remove(session.place, name)
    if as_json:
        print_json(_data(done))
    else:
        show(render.restored(done.manifest, lab, done.seconds, done.loaded, done.left, memory=ready.memory))
        for path, each in sorted((done.renewed or {}).items()):
            show(render.renewed(path, each.clock, each.random, each.went_on, each.why))
    if done.ports is not None:
        done.ports.check()
    return None


@guarded
def snapshots(words: SnapshotWords = None, yes: Yes = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """List the snapshots of a lab as a tree, with their ages, sizes, and how often each was loaded and that failed; a
    star marks the one that the lab goes on from. Or remove some.

    \b
    Examples:
      nestlab snapshots pair
      nestlab snapshots rm pair clean
    """
    if words and words[0] == "rm":
        return run(_remove(words[1:], yes=yes, as_json=as_json))
    return run(_list(one_lab(words), as_json=as_json))


async def _list(lab: str, *, as_json: bool) -> None:
    from nestlab.cli.common import home
    from nestlab.home import labs
    from nestlab.home import snapshots as kept
    from nestlab.lab.snapshots import in_order
    from nestlab.show import snapshots as render

    found = kept.listing(labs.existing(home(), lab))
    if as_json:
        print_json({"lab": lab, "snapshots": [render.row(each) for each in found]})
        return
    if not found:
        show(f"lab {lab} has no snapshots; `nestlab snapshot {lab} NAME` makes one")
        return
    show(render.tree(in_order(found), time.time()))


def _data(done: Restored) -> dict[str, object]:
    renewed = {path: asdict(each) for path, each in (done.renewed or {}).items()}
    times = {"seconds": round(done.seconds, 3), "loaded": round(done.loaded, 3)}
    return {"lab": done.manifest.lab, "restored": done.manifest.name, **times, "renewed": renewed, "left": done.left}


async def _remove(words: list[str], *, yes: bool, as_json: bool) -> int | None:
    from nestlab.home import snapshots as kept
    from nestlab.verbs import session as verbs

    if len(words) < 2:
        raise LabError("Name the lab and its snapshot.", hint="nestlab snapshots rm LAB NAME")
    lab, names = one_lab(words[:1]), list(dict.fromkeys(words[1:]))
    async with verbs.changing(site(), "snapshots rm", name=lab, say=say) as session:
        for name in names:
            if name not in kept.names(session.place):
                kept.manifest(session.place, name)
        if not agreed(yes or as_json, f"Remove {', '.join(names)} of lab {lab}?", "nothing was removed"):
            return MEND
        freed = sum(kept.remove(session.place, name) for name in names)
    if as_json:
        print_json({"lab": lab, "removed": names, "bytes": freed})
    else:
        show(f"removed {', '.join(names)}: {human(freed)}")
    return None


@guarded
def park(lab: Lab, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False) -> int | None:
    """Save a lab with its memory and end its machines: it takes no memory and no CPU, also over a reboot of this
    computer. `unpark` goes on where it was.

    \b
    Examples:
      nestlab park pair
      nestlab unpark pair
    """
    return run(_park(one_lab([lab]), no_wait=no_wait, as_json=as_json))


async def _park(name: str, *, no_wait: bool, as_json: bool) -> None:
    from nestlab.cli.lab_work import shown
    from nestlab.lab.snapshots import PARKED
    from nestlab.show import snapshots as render
    from nestlab.verbs import session as verbs
    from nestlab.verbs import snapshots

    async with verbs.changing(site(), "park", name=name, wait=0 if no_wait else None, say=say) as session:
        await snapshots.engine_of(session, "parked")
        if not any(each.state in snapshots.RUNS for each in session.observed.machines.values()):
            raise LabError(f"Nothing of lab {name} runs.", hint=f"What is off needs no parking: nestlab start {name}")
        made = await snapshots.take(session, PARKED, _say(name), park=True)
        await session.look()
        todo = session.plan("stopped")
        async with shown(session, todo, as_json=False, quiet=True) as emit:
            await session.apply(todo, emit, verb="park")
    if as_json:
        print_json(render.data(made))
    else:
        show(f"{name}: parked; `nestlab unpark {name}` goes on where it was")


@guarded
def unpark(
    lab: Lab, yes: Yes = False, no_wait: NoWait = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Go on with a lab that was parked, also after a reboot of this computer. Its clocks are set right."""
    return run(_unpark(one_lab([lab]), yes=yes, no_wait=no_wait, as_json=as_json))


async def _unpark(name: str, *, yes: bool, no_wait: bool, as_json: bool) -> int | None:
    from nestlab.cli.common import home
    from nestlab.home import labs
    from nestlab.home import snapshots as kept
    from nestlab.lab.snapshots import PARKED

    if PARKED not in kept.names(labs.existing(home(), name)):
        raise LabError(f"Lab {name} is not parked.", hint=f"`nestlab start {name}` starts what is off.")
    return await _restore(name, PARKED, parked=True, yes=yes, no_wait=no_wait, as_json=as_json)


def _say(lab: str) -> Callable[[str], None]:
    return lambda text: say(brief(f"{lab}: {text}"))
