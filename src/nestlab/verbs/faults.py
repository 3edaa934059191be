"""Faults on purpose: power cuts, links that are off, wrong clocks; and healing.

What the user wants is kept before it is done, so that whatever is interrupted is known: `settle`, which every verb that
starts machines ends with, makes the world what is kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from nestlab.base.did_you_mean import closest
from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.engines import Failing
from nestlab.home import faults as kept
from nestlab.lab.blueprint import Spec
from nestlab.lab.faults import Fault, Faults, Impairment, cut_off, span, with_fault, without
from nestlab.lab.model import level_of, parent_of, within
from nestlab.lab.places import Libvirt, Pve
from nestlab.plan import states
from nestlab.plan.steps import Plan
from nestlab.verbs.session import Session

RUNS = ("running", "paused")

SET_CLOCK = """
[ -w / ] || ! command -v sudo >/dev/null || exec sudo -n sh -c "$0" "$@"
date -s "@$1" >/dev/null && date +%s
"""
"""In a machine, with its own text as $0. Argument: seconds since the epoch. Prints what its clock says then."""

ANSWER = 60.0
"""Nominal seconds in which a machine sets its clock."""


async def kill(session: Session, paths: Sequence[str]) -> Faults:
    """Cut the power of machines that run, inner ones first. LabError, before anything is done, where one does not."""
    for path in paths:
        _running(session, path, "Only what runs can lose its power.")
        await _engine(session, path)
    done = []
    for path in sorted(paths, key=level_of, reverse=True):
        fault = Fault("kill", path, since=time.time())
        engine = await _engine(session, path)
        before = _keep(session, fault)
        try:
            await session.nest.drop(path)
            await engine.kill(path)
        except LabError:
            _put_back(session, before)
            raise
        done.append(fault)
    return tuple(done)


async def cut(session: Session, path: str, segment: str) -> Fault:
    """Take the links of a machine to a segment down. One that does not run comes up without. LabError where it has none
    or they are down already, and where nobody can tell whether it runs: then it is not cut off."""
    spec = on_segment(session, path, segment)
    _seen(session, path)
    known = next((each for each in session.faults if each.key == ("cut", path, segment)), None)
    fault = known or Fault("cut", path, segment, time.time())
    before = _keep(session, fault)
    if runs(session, path):
        try:
            await (await _engine(session, path)).link(spec, segment, up=False)
        except LabError:
            _put_back(session, before)
            raise
    if known is not None:
        raise LabError(f"{known.what} already.", hint=f"`{known.heal}` takes it back.")
    return fault


async def impair(session: Session, path: str, segment: str, impairment: Impairment) -> Fault:
    """Impair all frames of a segment, or those from and to a machine on it (`path`). What was so before is replaced."""
    if path:
        on_segment(session, path, segment)
    elif segment not in {each.name for each in session.blueprint.segments}:
        raise no_such_segment(session, segment)
    if isinstance(session.blueprint.on, Pve | Libvirt) and not parent_of(path):
        whose = "a Proxmox VE" if isinstance(session.blueprint.on, Pve) else "a libvirt"
        what = f"Frames on {segment} cannot be impaired: the networks of {whose} carry them, and it cannot."
        raise LabError(what, hint="`nestlab cut MACHINE SEGMENT` takes a cable out there, too.")
    _seen(session, path)
    fault = Fault("impair", path, segment, time.time(), impairment)
    before = _keep(session, fault)
    try:
        if not parent_of(path) or runs(session, parent_of(path)):
            await (await _engine(session, path)).impair(session.blueprint)
    except LabError:
        _put_back(session, before)
        raise
    return fault


def within_bridges(session: Session, segment: str) -> list[str]:
    """The hypervisors whose machines on the segment are joined by a bridge of theirs, whose frames do not pass the
    lab's switch."""
    joined = (spec.parent for spec in session.blueprint.specs if spec.parent)
    on = {spec.path: {nic.segment for nic in spec.nics} for spec in session.blueprint.specs}
    return sorted({path for path in joined if segment in on[path]})


async def clock(session: Session, path: str, shift: int) -> tuple[Fault, int]:
    """Set the clock of a running machine so far ahead of this computer's, and how far it then says that it is."""
    _running(session, path, "Its clock is right when it starts.")
    fault = Fault("clock", path, since=time.time(), shift=shift)
    before = _keep(session, fault)
    try:
        return fault, await _set_clock(session, path, shift)
    except LabError:
        _put_back(session, before)
        raise


async def heal(
    session: Session, chosen: Sequence[Fault], start: Callable[[Plan], Awaitable[None]], say: Callable[[str], None]
) -> None:
    """Take faults back: links first, then clocks, then machines are started that were killed, by `start`. What cannot
    be taken back now stays on record, and is told as one LabError when all others are healed."""
    refused = []
    for fault in (each for each in chosen if each.kind != "kill"):
        try:
            await _undo(session, fault)
        except LabError as error:
            refused.append(error)
            continue
        _forget(session, [fault])
        say(f"{_was(fault)}: healed")
    ends = [each for each in chosen if each.kind == "kill"]
    if ends:
        todo = session.plan("running", [each.path for each in ends])
        await session.check(todo)
        await start(todo)
        _forget(session, ends)
    if refused:
        raise LabError("\n".join(error.what for error in refused), hint=refused[0].hint)


async def settle(session: Session) -> Faults:
    """The faults that are kept are so in what runs, and those of which nothing is left are forgotten: a machine that
    was killed and runs, and what the lab has no longer. Those that hold now."""
    specs, segments = session.blueprint.by_path(), {each.name for each in session.blueprint.segments}
    gone = [each for each in session.faults if each.kind == "kill" and runs(session, each.path)]
    gone += [each for each in session.faults if each.path and each.path not in specs]
    gone += [each for each in session.faults if each.segment and each.segment not in segments]
    _forget(session, gone)
    impaired = {parent_of(each.path): each.path for each in session.faults if each.kind == "impair"}
    for parent, path in impaired.items():
        if not parent:
            await (await _engine(session, path)).impair(session.blueprint)
        elif runs(session, parent):
            with suppress(LabError):  # it does not answer now
                await (await _engine(session, path)).impair(session.blueprint)
    for fault in session.faults:
        if fault.path and runs(session, fault.path):
            with suppress(LabError):  # it has no such card any more, or does not answer: then nothing is cut there
                if fault.kind == "cut":
                    await (await _engine(session, fault.path)).link(specs[fault.path], fault.segment, up=False)
                elif fault.kind == "clock":
                    await _set_clock(session, fault.path, fault.shift)
    return session.faults


def selected(session: Session, words: Sequence[str]) -> tuple[Faults, list[str], list[str]]:
    """The faults that the words of `heal` mean, and those words: machines, and segments. LabError for a word that is
    neither."""
    from nestlab.home.targets import expand, matches

    known = [*session.blueprint.by_path(), *(each.path for each in session.faults if each.path)]
    names = {each.name for each in session.blueprint.segments} | {each.segment for each in session.faults}
    machines: list[str] = []
    segments: list[str] = []
    for word in words:
        if any(matches(path, word) for path in known):
            machines += expand([word], list(dict.fromkeys(known)), session.blueprint.lab)
        elif word in names:
            segments.append(word)
        else:
            raise _no_such(session, word, [*known, *names])
    faults = (each for each in session.faults if not machines or each.path in machines)
    return tuple(each for each in faults if not segments or each.segment in segments), machines, segments


async def join(session: Session, machines: Iterable[str], segments: Iterable[str]) -> None:
    """Have links be up of which nothing is on record, where the machines run."""
    for path in machines:
        for segment in segments:
            spec = on_segment(session, path, segment)
            if runs(session, path) and segment not in cut_off(session.faults, path):
                await (await _engine(session, path)).link(spec, segment, up=True)


def left_down(session: Session, machines: Sequence[str]) -> frozenset[str]:
    """The machines that were killed and that an `up` of these (none: of all) does not start. LabError where one of them
    is in such a machine: only it can be meant by its name."""
    ends = {path for path, seen in session.observed.machines.items() if seen.state == "killed"}
    for path in machines:
        for each in ends - set(machines):
            if within(path, each):
                what = f"{path} is in {each}, which was killed; `up` does not undo that."
                raise LabError(what, hint=f"`nestlab heal {each}` or `nestlab start {each}` starts it.")
    return frozenset(ends - set(machines))


def runs(session: Session, path: str) -> bool:
    seen = session.observed.machines.get(path)
    return seen is not None and seen.state in RUNS


def on_segment(session: Session, path: str, segment: str) -> Spec:
    """The machine, which has a card on the segment. LabError where it has none, or there is no such segment."""
    spec = session.blueprint[path]
    on = sorted({nic.segment for nic in spec.nics})
    if segment in on:
        return spec
    if segment not in {each.name for each in session.blueprint.segments}:
        raise no_such_segment(session, segment)
    raise LabError(f"{path} has no card on {segment}.", hint=f"It is on {', '.join(on) or 'no segment'}.")


def no_such_segment(session: Session, segment: str) -> LabError:
    names = [each.name for each in session.blueprint.segments]
    close = closest(segment, tuple(names))
    hint = f"Did you mean {close}?" if close else f"Its segments: {', '.join(names) or 'none'}."
    return LabError(f"Lab {session.blueprint.lab} has no segment {segment}.", hint=hint)


def _no_such(session: Session, word: str, known: Sequence[str]) -> LabError:
    close = closest(word, tuple(known))
    hint = f"Did you mean {close}?" if close else "`nestlab status` shows what is cut, killed or impaired."
    return LabError(f"Lab {session.blueprint.lab} has no machine and no segment {word}.", hint=hint)


def _running(session: Session, path: str, why: str) -> None:
    if not runs(session, path):
        state = states.said(session.observed.machines.get(path))
        raise LabError(f"{path} does not run: {state}.", hint=why)


def _seen(session: Session, path: str) -> None:
    """LabError where it cannot be told whether a machine runs: what it is in does not answer."""
    seen = session.observed.machines.get(path)
    if seen is not None and seen.state == "unknown":
        what = f"Whether {path} runs cannot be told: {one_line(seen.why) or 'what it is in does not answer'}."
        raise LabError(what, hint=f"Nothing was done to it. See: nestlab status {session.blueprint.lab}")


async def _engine(session: Session, path: str) -> Failing:
    engine = await session.nest.engine(parent_of(path))
    if not isinstance(engine, Failing):
        raise LabError(f"What runs {path} cannot make it fail.", hint="Do it in the machine: nestlab ssh")
    return engine


async def _undo(session: Session, fault: Fault) -> None:
    if fault.kind == "impair":
        before = session.faults
        _forget(session, [fault])
        try:
            if not parent_of(fault.path) or runs(session, parent_of(fault.path)):
                await (await _engine(session, fault.path)).impair(session.blueprint)
        except LabError:
            _put_back(session, before)
            raise
        return
    if not fault.path or not runs(session, fault.path) or fault.path not in session.blueprint.by_path():
        return
    if fault.kind == "cut":
        await (await _engine(session, fault.path)).link(session.blueprint[fault.path], fault.segment, up=True)
    elif fault.kind == "clock":
        await _set_clock(session, fault.path, 0)


async def _set_clock(session: Session, path: str, shift: int) -> int:
    """How far the machine's clock then is from this computer's, in seconds, by its own word."""
    host = await session.nest.host(path)
    argv = ("sh", "-c", SET_CLOCK, SET_CLOCK, str(round(time.time()) + shift))
    done = await host.run(argv, check=False, timeout=ANSWER)  # which the host stretches
    said = re.fullmatch(r"([0-9]{1,12})\s*", done.text)
    if done.status or said is None:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"])[-1]
        raise LabError(f"The clock of {path} cannot be set: {last[:200]}", hint="Its user needs root's rights.")
    return int(said[1]) - round(time.time())


def _was(fault: Fault) -> str:
    if fault.kind == "clock":
        return f"the clock of {fault.path}, {span(abs(fault.shift))} {'ahead' if fault.shift > 0 else 'behind'}"
    return fault.what


def _keep(session: Session, fault: Fault) -> Faults:
    """Those that were kept before."""
    before = session.faults
    session.faults = with_fault(before, fault)
    kept.save(session.place, session.faults)
    return before


def _put_back(session: Session, before: Faults) -> None:
    session.faults = before
    kept.save(session.place, before)


def _forget(session: Session, gone: Sequence[Fault]) -> None:
    if gone:
        session.faults = without(session.faults, gone)
        kept.save(session.place, session.faults)
