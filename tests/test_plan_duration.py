"""How long a plan takes is known before, of what was done before: as the steps are done, side by side and in turn."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueprints import blueprints, draft, guest, pair
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.duration import in_all, slots
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Build, Observed, Plan, Step
from nestlab.show import render
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import apply as applying
from test_apply import nest_of


def seconds(todo: Plan, each: float = 1.0) -> dict[str, float]:
    return {step.id: each for step in todo.steps}


def test_steps_that_need_each_other_take_their_sum_and_others_the_longest() -> None:
    lab = draft("x", guest("a"), guest("b"))
    todo = plan(lab, Observed())
    usual = seconds(todo, 0.0) | {"boot:a": 10.0, "boot:b": 14.0}
    [build] = [step.id for step in todo.steps if isinstance(step, Build)]
    assert in_all(todo, usual, lab, here=2) == 14.0
    assert in_all(todo, usual | {build: 5.0}, lab, here=2) == 19.0


def test_boots_wait_for_their_turn() -> None:
    lab = draft("x", *(guest(f"m{at}") for at in range(6)))
    todo = plan(lab, Observed())
    usual = seconds(todo, 0.0) | {step.id: 10.0 for step in todo.steps if isinstance(step, Boot)}
    assert in_all(todo, usual, lab, here=2) == 20.0  # three at a time
    assert in_all(todo, usual, lab, here=2, outer=1) == 60.0
    assert in_all(todo, usual, lab, here=64) == 10.0


def test_nothing_is_said_where_a_step_is_not_known() -> None:
    lab = pair()
    todo = plan(lab, Observed())
    usual = seconds(todo)
    del usual["boot:hv1"]
    assert in_all(todo, usual, lab, here=2) is None
    assert render.plan(todo, lab, in_all=None).startswith("pair: ")
    assert "(usually 1m 05s)" in render.plan(todo, lab, in_all=65.0).splitlines()[0]


def test_what_takes_no_time_need_not_be_known() -> None:
    lab = pair()
    todo = plan(lab, Observed())
    usual = {name: each for name, each in seconds(todo).items() if not name.startswith("connect")}
    assert in_all(todo, usual, lab, here=2) is not None


class Clock:
    """Time that passes only where somebody waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[tuple[float, int, asyncio.Event]] = []

    async def sleep(self, much: float) -> None:
        event = asyncio.Event()
        self.waits.append((self.now + much, len(self.waits), event))
        await event.wait()

    async def run(self, work: asyncio.Task[None]) -> float:
        while not work.done():
            for _ in range(200):
                await asyncio.sleep(0)
            if work.done():
                break
            assert self.waits, "it waits for something that does not come by itself"
            self.waits.sort(key=lambda each: each[:2])
            self.now, _, event = self.waits.pop(0)
            event.set()
        await work
        return self.now


@settings(deadline=None, max_examples=25)
@given(blueprints(), st.data())
def test_it_is_what_doing_the_steps_takes(lab: Blueprint, data: st.DataObject) -> None:
    todo = plan(lab, Observed())
    usual = {step.id: float(data.draw(st.integers(1, 30))) for step in todo.steps}
    clock = Clock()

    async def go() -> tuple[float, int]:
        async with nest_of(FakeWorld(), lab) as nest:
            here = (await (await nest.host()).facts()).cpus

            async def perform(step: Step, blueprint: Blueprint, say: object) -> None:
                await clock.sleep(usual[step.id])

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(nest, "perform", perform)
                work = asyncio.ensure_future(applying.apply(todo, lab, nest, lambda _: None, outer=2))
                return await clock.run(work), here

    took, here = asyncio.run(go())
    assert in_all(todo, usual, lab, here=here, outer=2) == pytest.approx(took)


def test_a_host_of_one_cpu_boots_two_and_builds_one() -> None:
    assert [slots(kind, "", {}, None, 1) for kind in (Boot, Build)] == [2, 1]
    assert slots(Boot, "hv", {"hv": 3}, 7, 64) == 3
    assert slots(Boot, "none", {}, 7, 64) == 1
