"""`up`, `plan`, `down` and their like as coroutines; `labs` declares the commands. Light to import, without typer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from nestlab.base.errors import LabError
from nestlab.cli import next_steps, settling
from nestlab.cli.common import here, home, lab_named, paint, print_json, site
from nestlab.cli.consent import Consent, agree, may_take, own
from nestlab.cli.exit_status import MEND, answered, on_terminal, say, show, width

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


async def bring_up(
    found: Which, sets: list[str], *, verify: bool, no_wait: bool, as_json: bool, consent: Consent, pause: bool = False
) -> int | None:
    """`pause`: see `pausing`."""
    from nestlab.home import consents
    from nestlab.verbs import session as verbs

    lab, source = _wanted(found, sets, consent)
    machines = _machines(found, [placed.path for placed in lab.walk()], lab.name)
    may_take(lab, consent, as_json=as_json)
    waiting = verbs.changing(site(), "up", lab=lab, source=source, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        own(lab, source, consent)  # another nestlab may have made or renamed it meanwhile
        leave = settling.left_down(session, machines)
        todo = await session.weighed(lambda: session.plan("running", machines, leave=leave))
        notes = (*await _checked(session, todo), *settling.notes(session))
        await _announce(session, todo, notes, as_json=as_json, left=leave, ports=_ports(session))
        if not consent.replace:
            agree(todo, "--replace", as_json=as_json)
        consents.keep(session.place, lab.taken)
        if pause:
            await _with_pauses(session, todo, machines, as_json=as_json)
            todo = replace(todo, steps=())
        async with shown(session, todo, as_json=as_json) as emit:
            if not pause:
                await session.apply(todo, emit, verb="up")
            verdict = await session.verify(emit) if verify else None
        if verdict is None:  # the proofs looked already
            await session.look()
        settled = await settling.settle(session)
        _conclude(session, as_json=as_json)
    if verdict is not None:
        _print_verdict(verdict, as_json=as_json)
    settled.check()
    if not as_json:
        next_steps.print_next(session, other=_other_here(session.blueprint.lab), program=_program())
    return MEND if verdict is not None and not verdict.ok else None


async def _with_pauses(session: Session, todo: Plan, machines: tuple[str, ...], *, as_json: bool) -> None:
    from nestlab.cli import pausing

    async def apply(plan: Plan) -> None:
        async with shown(session, plan, as_json=as_json) as emit:
            await session.apply(plan, emit, verb="up")

    async def again() -> Plan:
        await session.look(setups=True)
        leave = settling.left_down(session, machines)
        return await session.weighed(lambda: session.plan("running", machines, leave=leave))

    await pausing.until_done(todo, apply, again, session.blueprint)


async def show_plan(found: Which, sets: list[str], *, as_json: bool, consent: Consent) -> None:
    from nestlab.plan.restart_cost import restart_cost
    from nestlab.show import render, taken
    from nestlab.verbs import session as verbs

    lab, _ = _wanted(found, sets, consent)
    machines = _machines(found, [placed.path for placed in lab.walk()], lab.name)
    async with verbs.looking(site(), lab=lab) as session:
        await session.look(setups=True)
        leave = settling.left_down(session, machines)
        todo = await session.weighed(lambda: session.plan("running", machines, leave=leave))
        accelerated = await session.accelerations()
        refused = None
        try:
            notes = await session.check(todo)
        except LabError as error:
            notes, refused = (), error
        notes = (*notes, *settling.notes(session))
        cost = restart_cost(session.blueprint, session.observed, todo)
        notes = (*notes, cost) if cost else notes
        ports = _ports(session)
        usual, in_all = await _usual(session, todo)
        if as_json:
            told = {"what": refused.what, "hint": refused.hint} if refused else None
            planned = render.plan_data(todo, accelerated, usual, ports, in_all)
            print_json({**planned, "notes": list(notes), "taken": taken.data(lab.taken), "refused": told})
            return
        show(render.plan(todo, session.blueprint, paint(), usual=usual, left=leave, ports=ports, in_all=in_all))
        show(render.accelerations(accelerated, paint()))
        for note in (*notes, *taken.lines(lab.taken)):
            show(f"note: {note}")
        if refused:
            show(f"note: `up` would refuse this: {refused.what}\n{refused.hint}")


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


async def change(
    verb: str, want: Want, found: Which, *, no_wait: bool, as_json: bool, agreed: bool = False
) -> int | None:
    """`agreed`: a person need not be asked before something is deleted on purpose."""
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    waiting = verbs.changing(site(), verb, name=name, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        machines = _machines(found, _known(session), name)
        todo = await session.weighed(lambda: session.plan(want, machines))
        if want == "running":
            await _checked(session, todo)
        if as_json or todo or want != "gone":
            await _announce(session, todo, (), as_json=as_json)
        if want == "running":
            agree(todo, "", as_json=as_json)
        ask = want == "gone" and not agreed and not as_json and on_terminal()
        if ask and not answered(_farewell(session, todo, machines)):
            say("nothing was changed")
            return MEND
        async with shown(session, todo, as_json=as_json) as emit:
            await session.apply(todo, emit, verb=verb)
        if want == "gone" and not machines:
            await session.platform.leave()
            verbs.forget(session.place)
            if not as_json:
                show(f"{name}: nothing of it is left")
        else:
            await session.look()
            settled = await settling.settle(session)
            _conclude(session, as_json=as_json)
            settled.check()
    return None


async def again(
    verb: str, way: Literal["restart", "anew"], found: Which, *, no_wait: bool, as_json: bool, agreed: bool = False
) -> int | None:
    """Restart machines as they are, or make them anew, which is asked first unless it is `agreed`."""
    from nestlab.verbs import session as verbs

    name = lab_named(found)
    waiting = verbs.changing(site(), verb, name=name, wait=0 if no_wait else None, say=say)
    async with waiting as session:
        paths = list(session.blueprint.by_path())
        machines = _machines(found, paths, name)
        if not machines and way == "anew":
            hint = f"Such as `nestlab recreate {name} {next(iter(paths), 'MACHINE')}`; 'hv*' names several."
            raise LabError("Name the machines to be made anew.", hint=hint)
        todo = await session.weighed(lambda: session.plan_again(way, machines or paths))
        await _checked(session, todo)
        await _announce(session, todo, (), as_json=as_json)
        if not agreed:
            agree(todo, "--yes" if way == "anew" else "", as_json=as_json)
        async with shown(session, todo, as_json=as_json) as emit:
            await session.apply(todo, emit, verb=verb)
        await session.look()
        settled = await settling.settle(session)
        _conclude(session, as_json=as_json)
        settled.check()
    return None


async def _checked(session: Session, todo: Plan) -> tuple[str, ...]:
    """What is tight, before anything is made or deleted. LabError where images cannot be built here, packages of
    theirs are not there, or the lab does not fit."""
    from nestlab.verbs import unknown_packages

    await unknown_packages.learn(session.site, unknown_packages.built(session.blueprint, todo), say)
    return await session.check(todo)


def _known(session: Session) -> list[str]:
    return list(dict.fromkeys([*session.blueprint.by_path(), *sorted(session.observed.machines)]))


def _farewell(session: Session, todo: Plan, machines: tuple[str, ...]) -> str:
    from nestlab.home import snapshots
    from nestlab.plan.steps import Written

    what = f"{', '.join(machines)} of lab {todo.lab}" if machines else f"lab {todo.lab} with all its machines"
    if not machines and (saved := snapshots.names(session.place)):
        what += f" and {len(saved)} snapshot{'s' * (len(saved) > 1)}"
    known = [change.written for change in todo.losses if change.written and ("/" not in change.path or machines)]
    written = Written(sum(each.size for each in known), any(each.at_most for each in known))
    return f"Delete {what}, disks included{f' ({written} written)' if written.size else ''}?"


def _wanted(found: Which, sets: list[str], consent: Consent) -> tuple[Lab, Origin]:
    from nestlab.verbs import session as verbs

    if found.file is None:
        return verbs.read_again(site().home, found.lab, os.environ, sets)
    lab, source = verbs.read(found.file, os.environ, sets)
    own(lab, source, consent)
    return lab, source


async def _usual(session: Session, todo: Plan) -> tuple[Mapping[str, float], float | None]:
    """Seconds that steps usually take, by id, and all of them together, as far as that is known."""
    from nestlab.plan.duration import in_all

    usual = session.usual(todo)
    outer = await session.platform.boots() if usual else None
    return usual, in_all(todo, usual, session.blueprint, os.cpu_count() or 1, outer) if todo else None


def _ports(session: Session) -> dict[str, str]:
    """What `up` changes with the ports of machines, by path."""
    from nestlab.verbs import port_changes

    return {each.path: str(each) for each in port_changes.due(session)}


def _machines(found: Which, paths: list[str], lab: str) -> tuple[str, ...]:
    from nestlab.home.targets import expand

    return expand(found.machines, paths, lab) if found.machines else ()


async def _announce(
    session: Session,
    todo: Plan,
    notes: tuple[str, ...],
    *,
    as_json: bool,
    left: Collection[str] = (),
    ports: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """What is to be done, and how the machines that start on this host are accelerated."""
    from nestlab.show import render

    accelerated = await session.outer_accelerations(todo)
    usual, in_all = await _usual(session, todo)
    if as_json:
        _print_event("plan", {**render.plan_data(todo, accelerated, usual, ports, in_all), "notes": list(notes)})
        return
    show(render.plan(todo, session.blueprint, paint(), most=MOST, usual=usual, left=left, ports=ports, in_all=in_all))
    if accelerated:
        show(render.accelerations(accelerated, paint()))
    for note in notes:
        show(f"note: {note}")
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
    usual = session.usual(todo)
    longest = max((len(spec.path) for spec in session.blueprint.specs), default=0)  # proofs are of all machines
    width = max(render.width_of(todo, session.blueprint), min(28, longest))
    try:
        async with live.showing(sys.stderr, session.blueprint.images, width=width, paint=paint(sys.stderr)) as emit:

            def tell(event: Event) -> None:
                tally.feed(event)
                emit(_with_usual(event, usual))

            yield tell
    finally:
        if tally.line(paint(sys.stderr)):
            say(tally.line(paint(sys.stderr)))


def _with_usual(event: Event, usual: Mapping[str, float]) -> Event:
    """A step that starts says how long it usually takes."""
    from nestlab.base.events import Started
    from nestlab.show import render

    if isinstance(event, Started) and event.step in usual:
        return replace(event, why=render.usually(event.why, usual[event.step]))
    return event


def _conclude(session: Session, *, as_json: bool) -> None:
    """The machines as they were seen last."""
    import time

    from nestlab.show import machine_table

    machines = machine_table.rows(session.blueprint, session.observed, time.time())
    if as_json:
        _print_event("machines", machine_table.data(session.blueprint.lab, machines, session.faults))
        return
    table = "\n".join([machine_table.table(machines, paint(), width(sys.stdout)), *settling.notes(session)])
    show(f"\n{machine_table.head(session.blueprint.lab, machines, paint())}\n{table}")


def _print_verdict(verdict: Any, *, as_json: bool) -> None:
    from nestlab.show import render

    if as_json:
        _print_event("proofs", verdict.data())
    else:
        show(f"\n{render.verdict(verdict, paint())}")


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


def _print_event(kind: str, data: dict[str, Any]) -> None:
    print_json({"event": kind, **data}, indent=None)
    sys.stdout.flush()
