"""`up`, `plan`, `down` and their like as coroutines; `labs` declares the commands. Light to import, without typer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.cli.common import here, home, lab_named, paint, print_json, site
from nestlab.cli.guard import MEND, out, say

if TYPE_CHECKING:
    from nestlab.base.events import Event
    from nestlab.home.labs import Origin
    from nestlab.home.targets import Which
    from nestlab.lab.model import Lab
    from nestlab.plan.steps import Plan, Want
    from nestlab.show.live import Emit
    from nestlab.verbs.session import Session

MOST = 24
"""Lines of a plan that `up` shows."""


async def bring_up(found: Which, sets: list[str], *, verify: bool, no_wait: bool, as_json: bool) -> int | None:
    from nestlab.verbs import session as verbs

    lab, source = _wanted(found, sets)
    machines = _machines(found, [placed.path for placed in lab.walk()], lab.name)
    before = _made_from(lab.name)
    waiting = verbs.changing(site(), "up", lab=lab, source=source, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        todo = session.plan("running", machines)
        _same_lab(before, source, todo)
        notes = await session.check(todo)
        await _announce(session, todo, notes, as_json=as_json)
        async with shown(session, todo, as_json=as_json) as emit:
            await session.apply(todo, emit, verb="up")
            verdict = await session.verify(emit) if verify else None
        if verdict is None:  # the proofs looked already
            await session.look()
        _conclude(session, as_json=as_json)
    if verdict is not None:
        _print_verdict(verdict, as_json=as_json)
    if not as_json:
        _print_next(session)
    return MEND if verdict is not None and not verdict.ok else None


async def show_plan(found: Which, sets: list[str], *, as_json: bool) -> None:
    from nestlab.show import render
    from nestlab.verbs import session as verbs

    lab, _ = _wanted(found, sets)
    machines = _machines(found, [placed.path for placed in lab.walk()], lab.name)
    async with verbs.looking(site(), lab=lab) as session:
        await session.look(setups=True)
        todo = session.plan("running", machines)
        accelerated = await session.accelerations()
        if as_json:
            print_json(render.plan_data(todo, accelerated))
            return
        out(render.plan(todo, session.blueprint, paint()))
        out(render.accelerations(accelerated, paint()))


async def prove(name: str, *, as_json: bool) -> int | None:
    from nestlab.plan.steps import Plan
    from nestlab.verbs import session as verbs

    async with (
        verbs.looking(site(), name=name) as session,
        shown(session, Plan(name), as_json=False, quiet=as_json) as emit,
    ):
        verdict = await session.verify(emit)
    if as_json:
        print_json(verdict.data())
    else:
        _print_verdict(verdict, as_json=False)
    return None if verdict.ok else MEND


async def change(verb: str, want: Want, found: Which, *, no_wait: bool, as_json: bool) -> None:
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    waiting = verbs.changing(site(), verb, name=name, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        known = [*session.blueprint.by_path(), *sorted(session.observed.machines)]
        machines = _machines(found, list(dict.fromkeys(known)), name)
        todo = session.plan(want, machines)
        if want == "running":
            await session.check(todo)
        if as_json or todo or want != "gone":
            await _announce(session, todo, (), as_json=as_json)
        async with shown(session, todo, as_json=as_json) as emit:
            await session.apply(todo, emit, verb=verb)
        if want == "gone" and not machines:
            verbs.forget(session.place)
            if not as_json:
                out(f"{name}: nothing of it is left")
        else:
            await session.look()
            _conclude(session, as_json=as_json)


def _wanted(found: Which, sets: list[str]) -> tuple[Lab, Origin]:
    from nestlab.verbs import session as verbs

    if found.file is not None:
        return verbs.read(found.file, os.environ, sets)
    return verbs.read_again(site().home, found.lab, os.environ, sets)


def _made_from(lab: str) -> Origin | None:
    """What a lab that is there was made from; before this run writes down its own."""
    from nestlab.home import labs

    place = home().existing(lab) if lab in home().labs() else None
    return labs.load(place) if place else None


def _same_lab(before: Origin | None, now: Origin, todo: Plan) -> None:
    """LabError where a plan takes machines away of a lab that was made from another file, which is still there: two
    labs of one name."""
    removed = sorted(step.path for step in todo.steps if step.verb == "remove")
    if before is None or not removed or before.file.resolve() == now.file.resolve() or not before.file.exists():
        return
    what = f"Lab {todo.lab} was made from {before.file}; by {now.file} it would lose {', '.join(removed[:8])}."
    hint = f"Call this one otherwise (`lab:` in {now.file}), or end that one first: nestlab down {todo.lab}"
    raise LabError(what, hint=hint)


def _machines(found: Which, paths: list[str], lab: str) -> tuple[str, ...]:
    from nestlab.home.targets import expand

    return expand(found.machines, paths, lab) if found.machines else ()


async def _announce(session: Session, todo: Plan, notes: tuple[str, ...], *, as_json: bool) -> None:
    """What is to be done, and how the machines that start on this host are accelerated."""
    from nestlab.show import render

    accelerated = await session.outer_accelerations(todo)
    if as_json:
        _print_event("plan", {**render.plan_data(todo, accelerated), "notes": list(notes)})
        return
    out(render.plan(todo, session.blueprint, paint(), most=MOST))
    if accelerated:
        out(render.accelerations(accelerated, paint()))
    for note in notes:
        out(f"note: {note}")
    sys.stdout.flush()


@contextlib.asynccontextmanager
async def shown(session: Session, todo: Plan, *, as_json: bool, quiet: bool = False) -> AsyncIterator[Emit]:
    """Where events go: JSON on stdout, or progress on stderr, with the sum of what was done as its last line."""
    from nestlab.show import live, render

    if quiet:
        yield lambda event: None
        return
    if as_json:
        yield live.as_json(sys.stdout)
        return
    tally = render.Tally()
    longest = max((len(spec.path) for spec in session.blueprint.specs), default=0)  # proofs are of all machines
    width = max(render.width_of(todo, session.blueprint), min(28, longest))
    try:
        async with live.showing(sys.stderr, session.blueprint.images, width=width, paint=paint(sys.stderr)) as emit:

            def tell(event: Event) -> None:
                tally.feed(event)
                emit(event)

            yield tell
    finally:
        if tally.line(paint(sys.stderr)):
            say(tally.line(paint(sys.stderr)))


def _conclude(session: Session, *, as_json: bool) -> None:
    """The machines as they were seen last."""
    import time

    from nestlab.show import machine_table

    machines = machine_table.rows(session.blueprint, session.observed, time.time())
    if as_json:
        _print_event("machines", machine_table.data(session.blueprint.lab, machines))
        return
    out(f"\n{machine_table.head(session.blueprint.lab, machines, paint())}\n{machine_table.table(machines, paint())}")


def _print_verdict(verdict: Any, *, as_json: bool) -> None:
    from nestlab.show import render

    if as_json:
        _print_event("proofs", verdict.data())
    else:
        out(f"\n{render.verdict(verdict, paint())}")


def _program() -> str:
    """How a person calls nestlab here: by its name if the shell finds it, else by the path it was called by."""
    import os
    import shutil

    called = sys.argv[0]
    if shutil.which("nestlab") or not called.endswith("/nestlab"):
        return "nestlab"
    return os.path.relpath(called)


def _other_here(lab: str) -> bool:
    """Whether commands that name no lab mean another one here."""
    from nestlab.home import labs
    from nestlab.home.targets import default

    file = default((lab,), here()).file
    return file is not None and labs.lab_of(home(), file) != lab


def _print_next(session: Session) -> None:
    from nestlab.show import render

    running = [path for path, seen in session.observed.machines.items() if seen.state == "running"]
    specs = session.blueprint.by_path()
    outside = session.blueprint.on is not None  # nothing runs commands in a container of a Proxmox VE from outside
    shut = [path for path in running if path in specs and outside and specs[path].machine.container]
    running = [path for path in running if path not in shut]
    deepest = max(running, key=lambda path: path.count("/"), default=None)
    hypervisors = [s.path for s in session.blueprint.specs if s.machine.hypervisor and s.path in running]
    several = len(session.site.home.labs()) > 1 or _other_here(session.blueprint.lab)
    text = render.next_lines(
        session.blueprint.lab,
        deepest,
        next(iter(hypervisors), None),
        console=next(iter(shut), None),
        several=several,
        program=_program(),
    )
    out(f"\n{text}")


def _print_event(kind: str, data: dict[str, Any]) -> None:
    print_json({"event": kind, **data}, indent=None)
    sys.stdout.flush()
