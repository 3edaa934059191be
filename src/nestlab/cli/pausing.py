"""`up --pause-on-failure`: what failed stays, to be entered, and the person at the terminal says when to go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.cli.exit_status import answered, on_terminal, say_error
from nestlab.plan.steps import Boot, Plan
from nestlab.verbs.apply import Interrupted, Unfinished

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint


def keeping(todo: Plan) -> Plan:
    """The plan, in which a machine that does not come up is not ended."""
    return replace(todo, steps=tuple(replace(s, keep=True) if isinstance(s, Boot) else s for s in todo.steps))


def told(error: Unfinished, todo: Plan, blueprint: Blueprint) -> LabError:
    """The error, with how to enter what failed."""
    steps = {step.id: step for step in todo.steps}
    paths = dict.fromkeys(steps[each].path for each in error.failures if steps[each].path)
    lines = [f"{path} stays as it is. {_entering(f'{blueprint.lab}:{path}')}" for path in paths]
    return LabError(error.what, hint="\n".join([*lines, error.hint]), detail=error.detail)


def _entering(machine: str) -> str:
    shell = f"a shell, where it takes one: nestlab ssh {machine}"
    return f"Enter it: nestlab console {machine}; its console so far: nestlab logs {machine}; {shell}"


async def until_done(
    todo: Plan, apply: Callable[[Plan], Awaitable[None]], again: Callable[[], Awaitable[Plan]], blueprint: Blueprint
) -> None:
    """Make a plan real. When steps fail: on a terminal, ask whether to try again what is left (`again` plans it), as
    often as the answer is yes; else, and for no, the LabError that says how to enter what failed."""
    while True:
        todo = keeping(todo)
        try:
            await apply(todo)
            return
        except Interrupted:
            raise
        except Unfinished as error:
            problem = told(error, todo, blueprint)
        if not on_terminal():
            raise problem
        say_error(problem)
        if not answered("Paused. Try again what is left?"):
            raise LabError("It is left as it is.", hint=f"`nestlab up {blueprint.lab}` goes on from here.")
        todo = await again()
