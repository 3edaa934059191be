"""`up --pause-on-failure`: what failed stays, how to enter it is said, and the person says when to go on."""

from __future__ import annotations

import asyncio

import pytest

from blueprints import pair
from nestlab.base.errors import LabError
from nestlab.cli import pausing
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Observed, Plan
from nestlab.verbs.apply import Unfinished
from test_cli import Console, console  # noqa: F401 - the fixture


def test_only_boots_are_told_to_keep_what_fails() -> None:
    todo = plan(pair(), Observed(), "running")
    kept = pausing.keeping(todo)
    assert [step.id for step in kept.steps] == [step.id for step in todo.steps]
    assert all(step.keep for step in kept.steps if isinstance(step, Boot))
    assert not any(step.keep for step in todo.steps if isinstance(step, Boot))


def test_without_a_terminal_it_ends_and_says_how_to_enter_what_failed(console: Console) -> None:  # noqa: F811
    console.world.refuse("boot:hv2")
    said = console.run("up", "pair.yaml", "--no-verify", "--pause-on-failure", status=2).stderr
    assert "hv2 stays as it is. Enter it: nestlab console pair:hv2" in said
    assert "nestlab logs pair:hv2" in said
    assert console.state("pair", "hv1") == "running"
    console.run("up", "pair.yaml", "--no-verify", "--pause-on-failure")
    assert console.state("pair", "hv2/web") == "running"


@pytest.mark.parametrize("answers", [[True, True], [True, False], [False]])
def test_on_a_terminal_what_is_left_is_tried_again_as_often_as_wanted(
    monkeypatch: pytest.MonkeyPatch, answers: list[bool]
) -> None:
    todo = Plan("pair", (Boot("why", "hv1"),))
    asked = iter(answers)
    monkeypatch.setattr(pausing, "on_terminal", lambda: True)
    monkeypatch.setattr(pausing, "answered", lambda question: next(asked))
    tried: list[Plan] = []

    async def apply(plan: Plan) -> None:
        tried.append(plan)
        if len(tried) < 3:
            raise Unfinished("no", failures={"boot:hv1": LabError("no")}, left=["boot:hv1"])

    async def again() -> Plan:
        return todo

    work = pausing.until_done(todo, apply, again, pair())
    if all(answers):
        asyncio.run(work)
    else:
        with pytest.raises(LabError, match="left as it is"):
            asyncio.run(work)
    assert len(tried) == len(answers) + all(answers)
