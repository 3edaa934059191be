"""The life that every engine must be able to lead, on whatever it makes machines of:

empty -> lab -> same lab (no steps) -> a machine killed -> one stopped -> changed -> refused -> resumed -> empty.

Few machines are booted, so that it is bearable with real ones: those of the lab, and its inner one four times more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest

from nestlab.base.events import Ended, Event, Failed, Finished, Started
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import parent_of
from nestlab.plan.planner import plan, targets
from nestlab.plan.steps import Observed, Plan, Want
from nestlab.verbs.apply import Unfinished, apply
from nestlab.verbs.nest import Nest


@dataclass(frozen=True)
class Stage:
    """What an engine's test brings along.

    `lab` has a hypervisor with the machine `inner` directly in it. `changed` is the same lab with another definition
    of `inner` and other names for all. `nest` makes a Nest for a blueprint and the one before. While `refusal()` is
    open the world refuses to boot `inner`. `kill` ends `inner` behind nestlab's back. `enlarged` is `changed` with more
    memory, by a restart, for the hypervisor that `inner` is in; a file written there is still there after it.
    """

    lab: Blueprint
    changed: Blueprint
    enlarged: Blueprint
    inner: str
    nest: Callable[[Blueprint, Blueprint | None], Nest]
    refusal: Callable[[], AbstractContextManager[object]]
    kill: Callable[[Nest], Awaitable[None]]


KEPT = "/root/kept"
"""A file on the disk of the hypervisor."""


async def live_through(stage: Stage) -> None:
    """The whole life. Every chapter begins with a new Nest: nothing may depend on what the last one remembers."""
    empty = Blueprint(stage.lab.lab)
    await _is_empty(stage)
    await _goes_up(stage)
    await _needs_nothing_more(stage, stage.lab)
    await _recovers_a_killed_machine(stage)
    await _stops_and_starts_one(stage)
    await _refuses_and_resumes_a_change(stage)
    await _needs_nothing_more(stage, stage.changed)
    await _keeps_disks(stage)
    await _needs_nothing_more(stage, stage.enlarged)
    await _make_it_so(stage, empty, stage.enlarged)
    await _is_empty(stage)


@asynccontextmanager
async def _looked_at(
    stage: Stage, blueprint: Blueprint, previous: Blueprint | None
) -> AsyncIterator[tuple[Nest, Observed]]:
    async with stage.nest(blueprint, previous) as nest:
        yield nest, await nest.observe()


async def _make_it_so(
    stage: Stage, blueprint: Blueprint, previous: Blueprint | None, want: Want = "running", only: str = ""
) -> Plan:
    """Plan and apply; every step tells that it started and finished, and then nothing is left to do."""
    events: list[Event] = []
    async with _looked_at(stage, blueprint, previous) as (nest, seen):
        wanted = targets(want, [only], blueprint, seen) if only else want
        steps = plan(blueprint, seen, wanted, previous=previous)
        await apply(steps, blueprint, nest, events.append)
        rest = plan(blueprint, await nest.observe(), wanted, previous=previous)
        assert rest.steps == ()
    ids = [step.id for step in steps.steps]
    assert sorted(each.step for each in events if isinstance(each, Started)) == sorted(ids)
    assert sorted(each.step for each in events if isinstance(each, Finished)) == sorted(ids)
    assert isinstance(events[-1], Ended)
    assert events[-1].ok
    return steps


async def _is_empty(stage: Stage) -> None:
    async with _looked_at(stage, stage.lab, None) as (_, seen):
        assert dict(seen.machines) == {}
        assert seen.links == frozenset()


async def _goes_up(stage: Stage) -> None:
    steps = await _make_it_so(stage, stage.lab, None)
    assert {f"boot:{spec.path}" for spec in stage.lab.specs} <= {step.id for step in steps.steps}
    async with _looked_at(stage, stage.lab, None) as (nest, seen):
        for spec in stage.lab.specs:
            assert seen.machines[spec.path].state == "running"
            assert seen.machines[spec.path].digest == spec.digest
            assert seen.machines[spec.path].names == spec.names
            host = await nest.host(spec.path)
            assert (host.path, host.level) == (spec.path, spec.level)
            assert (await host.run(("true",))).status == 0
            assert await nest.accel(spec.path) in ("kvm", "tcg")


async def _needs_nothing_more(stage: Stage, blueprint: Blueprint) -> None:
    async with _looked_at(stage, blueprint, None) as (_, seen):
        assert plan(blueprint, seen).steps == ()


async def _recovers_a_killed_machine(stage: Stage) -> None:
    async with _looked_at(stage, stage.lab, stage.lab) as (nest, _):
        await stage.kill(nest)
        seen = await nest.observe()
        assert seen.machines[stage.inner].state == "died"
    steps = await _make_it_so(stage, stage.lab, stage.lab)
    assert [step.id for step in steps.steps] == [f"boot:{stage.inner}"]
    assert steps.steps[0].why.startswith("it died")


async def _stops_and_starts_one(stage: Stage) -> None:
    steps = await _make_it_so(stage, stage.lab, stage.lab, "stopped", stage.inner)
    assert [step.id for step in steps.steps] == [f"stop:{stage.inner}"]
    async with _looked_at(stage, stage.lab, stage.lab) as (_, seen):
        assert seen.machines[stage.inner].state == "stopped"
    steps = await _make_it_so(stage, stage.lab, stage.lab, "running", stage.inner)
    assert [step.id for step in steps.steps] == [f"boot:{stage.inner}"]


async def _keeps_disks(stage: Stage) -> None:
    outer = parent_of(stage.inner)
    async with _looked_at(stage, stage.changed, stage.changed) as (nest, _):
        await (await nest.host(outer)).write(KEPT, b"precious")
    steps = await _make_it_so(stage, stage.enlarged, stage.changed)
    assert {change.path: change.way for change in steps.changes} == {outer: "restart", stage.inner: "restart"}
    about = [step.id for step in steps.steps if step.path]
    assert about == [f"stop:{stage.inner}", f"stop:{outer}", f"update:{outer}", f"boot:{outer}", f"boot:{stage.inner}"]
    async with _looked_at(stage, stage.enlarged, None) as (nest, seen):
        assert await (await nest.host(outer)).read(KEPT) == b"precious"
        assert seen.machines[outer].digest == stage.enlarged[outer].digest
        assert seen.machines[outer].root == stage.enlarged[outer].root


async def _refuses_and_resumes_a_change(stage: Stage) -> None:
    events: list[Event] = []
    async with _looked_at(stage, stage.changed, stage.lab) as (nest, seen):
        steps = plan(stage.changed, seen, previous=stage.lab)
        with stage.refusal(), pytest.raises(Unfinished) as caught:
            await apply(steps, stage.changed, nest, events.append)
    assert f"boot:{stage.inner}" in caught.value.failures
    assert f"boot:{stage.inner}" in caught.value.left
    assert [each.step for each in events if isinstance(each, Failed)] == list(caught.value.failures)
    steps = await _make_it_so(stage, stage.changed, stage.lab)
    assert f"boot:{stage.inner}" in {step.id for step in steps.steps}
    assert {step.path for step in steps.steps} <= {stage.inner}, "what was done is not done again"
    async with _looked_at(stage, stage.changed, None) as (_, seen):
        assert seen.machines[stage.inner].digest == stage.changed[stage.inner].digest
