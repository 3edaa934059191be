"""Applies a plan: every step as soon as what it needs is done, and no more boots at once than there are CPUs."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, continued
from nestlab.base.events import Began, Ended, Event, Failed, Finished, Said, Started
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import parent_of
from nestlab.plan.duration import slot_of, slots
from nestlab.plan.steps import Boot, Plan, Remove, Step, Stop
from nestlab.show.render import subject
from nestlab.verbs.nest import Nest

Emit = Callable[[Event], None]

SHOWN = 8
"""Steps named in an error; of more, the number is given."""


BRIEF = 15.0
"""Nominal seconds, of an emulated machine, in which one is removed that is in a hypervisor which is removed too."""


class Stopping:
    """Ctrl-C as a value. Pressed once: no further step starts, those at work are cancelled and may clean up.
    Pressed twice: nothing is waited for any more, and what does not end on being cancelled ends with the process."""

    def __init__(self) -> None:
        self.once = asyncio.Event()
        self.twice = asyncio.Event()

    def press(self) -> None:
        (self.twice if self.once.is_set() else self.once).set()


class Unfinished(LabError):
    """Steps failed, so some are left. `failures` by step id; `left` are the ids of all that was not done."""

    many = True

    def __init__(
        self, what: str, *, failures: Mapping[str, LabError], left: Sequence[str], hint: str = "", detail: str = ""
    ) -> None:
        super().__init__(what, hint=hint, detail=detail)
        self.failures = dict(failures)
        self.left = tuple(left)


class Interrupted(Unfinished):
    """Somebody pressed Ctrl-C."""


async def apply(
    plan: Plan,
    blueprint: Blueprint,
    nest: Nest,
    emit: Emit,
    *,
    verb: str = "up",
    limit: int | None = None,
    outer: int | None = None,
    stopping: Stopping | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Make the steps of a plan real, and tell of it by events.

    At most `limit` machines boot at once on one host (None: as many as it has CPUs, two on the lab's host at least);
    `outer`: on the lab's own level, where that is not this machine.
    A step that fails keeps back only those that need it; when all others are done, Unfinished with every failure. Where
    a machine cannot be ended in a hypervisor that ends too, it ends with that.
    Interrupted after `stopping`. When cancelled, running steps are cancelled first; any error that is not a LabError
    ends the run in the same way.
    """
    run = _Run(plan, blueprint, nest, emit, limit, clock, outer)
    began = time.monotonic()
    emit(Began(clock(), verb=verb, lab=plan.lab, steps=tuple(step.id for step in plan.steps)))
    try:
        await run.go(stopping or Stopping())
    finally:
        left = run.left()
        emit(Ended(clock(), ok=not left, seconds=time.monotonic() - began, left=left))
    if stopping is not None and stopping.once.is_set() and left:
        raise _interrupted(plan, blueprint, verb, run.failures, left)
    if left:
        raise _unfinished(plan, blueprint, verb, run.failures, left)


class _Run:
    def __init__(
        self,
        plan: Plan,
        blueprint: Blueprint,
        nest: Nest,
        emit: Emit,
        limit: int | None,
        clock: Callable[[], float],
        outer: int | None,
    ) -> None:
        self.failures: dict[str, LabError] = {}
        self._steps = plan.steps
        self._blueprint = blueprint
        self._nest = nest
        self._emit = emit
        self._clock = clock
        self._slots = _Slots(nest, {spec.path: spec.machine.cpus for spec in blueprint.specs}, limit, outer)
        self._unmet = {step.id: len(step.needs) for step in plan.steps}
        self._waiting: defaultdict[str, list[Step]] = defaultdict(list)
        for step in plan.steps:
            for need in step.needs:
                self._waiting[need].append(step)
        self._ends = {step.path: type(step) for step in plan.steps if isinstance(step, Stop | Remove)}
        self._done: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._open = True
        self._bug: BaseException | None = None

    def left(self) -> tuple[str, ...]:
        return tuple(step.id for step in self._steps if step.id not in self._done)

    async def go(self, stopping: Stopping) -> None:
        for step in self._steps:
            if not step.needs:
                self._start(step)
        if not self._tasks:
            return
        try:
            await _first(self._idle, stopping.once)
        finally:
            self._open = False
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await _first(self._idle, stopping.twice)
        if self._bug is not None:
            raise self._bug

    def _start(self, step: Step) -> None:
        task = asyncio.create_task(self._work(step), name=step.id)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._bug = self._bug or error
            for other in self._tasks:
                other.cancel()
            self._open = False
        if not self._tasks:
            self._idle.set()

    async def _work(self, step: Step) -> None:
        began = time.monotonic()
        try:
            async with await self._slots.of(step):
                await self._perform(step)
        except LabError as error:
            if outer := self._ends_with(step):
                note = f"it ends with {outer}: {error.what}"
                self._emit(Finished(self._clock(), step.id, step.path, time.monotonic() - began, note))
            else:
                self.failures[step.id] = error
                self._emit(Failed(self._clock(), step.id, step.path, error.what, error.hint, error.detail))
                return
        self._done.add(step.id)
        for other in self._waiting[step.id]:
            self._unmet[other.id] -= 1
            if not self._unmet[other.id] and self._open:
                self._start(other)

    def _ends_with(self, step: Step) -> str:
        """The hypervisor with which that ends what a step is to end, "" if there is none: one that hangs, or whose root
        lets nothing be ended in it, does not keep itself from going."""
        outer = step.host if isinstance(step, Stop | Remove) else ""
        while outer and outer not in self._ends:
            outer = parent_of(outer)
        return outer

    async def _in_time(self, step: Step) -> str | None:
        """Make it real. What is deleted in a hypervisor that is deleted too need not be waited for."""
        outer = self._ends_with(step)
        brief = isinstance(step, Remove) and self._ends.get(outer) is Remove
        limit = patience.allowed(BRIEF, patience.EMULATED) if brief else None
        try:
            async with asyncio.timeout(limit):
                return await self._nest.perform(step, self._blueprint, lambda text: self._say(step, text))
        except TimeoutError:
            said = patience.said(limit or 0)
            raise Overdue(f"{step.host} did not remove {step.path} within {said}.", hint=patience.LONGER) from None

    async def _perform(self, step: Step) -> None:
        self._emit(Started(self._clock(), step.id, step.path, step.why))
        began = time.monotonic()
        try:
            note = await self._in_time(step)
        except LabError:
            raise
        except asyncio.CancelledError:
            self._emit(Failed(self._clock(), step.id, step.path, "interrupted"))
            raise
        except Exception as error:
            self._emit(Failed(self._clock(), step.id, step.path, f"{type(error).__name__}: {error}"))
            raise
        self._emit(Finished(self._clock(), step.id, step.path, time.monotonic() - began, note or ""))

    def _say(self, step: Step, text: str) -> None:
        self._emit(Said(self._clock(), step.id, step.path, text))


class _Slots:
    """How many steps of a kind may be at work at once on a host."""

    def __init__(self, nest: Nest, cpus: Mapping[str, int], limit: int | None, outer: int | None) -> None:
        self._nest = nest
        self._cpus = cpus
        self._limit = limit
        self._outer = outer
        self._semaphores: dict[tuple[type[Step], str], asyncio.Semaphore] = {}
        self._asking = asyncio.Lock()
        self._unlimited = asyncio.Semaphore(1 << 30)

    async def of(self, step: Step) -> asyncio.Semaphore:
        """The semaphore for a step."""
        key = slot_of(step)
        if key is None:
            return self._unlimited
        async with self._asking:
            if key not in self._semaphores:
                self._semaphores[key] = asyncio.Semaphore(await self._count(*key))
        return self._semaphores[key]

    async def _count(self, kind: type[Step], parent: str) -> int:
        if kind is Boot and self._limit is not None:
            return max(1, self._limit)
        here = 1 if parent else (await (await self._nest.host()).facts()).cpus
        return slots(kind, parent, self._cpus, self._outer, here)


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _unfinished(
    plan: Plan, blueprint: Blueprint, verb: str, failures: Mapping[str, LabError], left: Sequence[str]
) -> Unfinished:
    steps = {step.id: step for step in plan.steps}
    named = [(steps[each], error) for each, error in failures.items()]
    what = "\n".join(f"{_title(step, blueprint)} failed: {continued(error.what)}" for step, error in named)
    hints = dict.fromkeys(line for _, error in named for line in continued(error.hint).split("\n") if line)
    details = [error.detail for _, error in named if error.detail]
    kept = [steps[each] for each in left if each not in failures]
    if kept:
        what += f"\nNot done because of that: {_list(kept, blueprint)}."
    go_on = (
        f"`nestlab {verb}` again goes on from here: {len(plan.steps) - len(left)} of {len(plan.steps)} steps are done."
    )
    return Unfinished(what, failures=failures, left=left, hint="\n".join([*hints, go_on]), detail="\n".join(details))


def _interrupted(
    plan: Plan, blueprint: Blueprint, verb: str, failures: Mapping[str, LabError], left: Sequence[str]
) -> Interrupted:
    steps = {step.id: step for step in plan.steps}
    done = [step for step in plan.steps if step.id not in set(left)]
    what = f"Interrupted. Done: {_list(done, blueprint) or 'nothing'}. "
    what += f"Left: {_list([steps[each] for each in left], blueprint)}."
    what += "".join(f"\n{_title(steps[each], blueprint)} failed: {error.what}" for each, error in failures.items())
    hint = f"`nestlab {verb}` again goes on from here" + ("." if verb == "down" else "; `nestlab down` removes it all.")
    return Interrupted(what, failures=failures, left=left, hint=hint)


def _title(step: Step, blueprint: Blueprint) -> str:
    return f"{step.verb} {subject(step, blueprint.images)}"


def _list(steps: Sequence[Step], blueprint: Blueprint) -> str:
    more = f" and {len(steps) - SHOWN} more" if len(steps) > SHOWN else ""
    return ", ".join(_title(step, blueprint) for step in steps[:SHOWN]) + more
