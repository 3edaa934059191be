"""How long a plan takes, of steps of which it is known: they are done as `verbs.apply` does them. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping

from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import parent_of
from nestlab.plan.steps import Boot, Build, Connect, Disconnect, Introduce, Plan, Step

QUICK = (Connect, Disconnect, Introduce)
"""Steps that take no time worth a word, be it known or not."""


def slot_of(step: Step) -> tuple[type[Step], str] | None:
    """What a step competes for: CPUs of the host that it keeps busy. None: it waits for somebody else, as most do."""
    return (type(step), parent_of(step.path)) if isinstance(step, Boot | Build) else None


def slots(kind: type[Step], parent: str, cpus: Mapping[str, int], outer: int | None, here: int) -> int:
    """How many steps of a kind may be at work at once in `parent`. `cpus`: of machines, by path; `outer`: boots on the
    lab's own level, where that is not this computer, which has `here` CPUs."""
    if parent:
        return max(1, cpus.get(parent, 1))
    if kind is Boot and outer is not None:
        return max(1, outer)
    # A boot waits now and then, for ssh as for its cluster: three on two CPUs take a third less than two and one.
    return max(2, here + here // 2) if kind is Boot else max(1, here // 2)


def in_all(
    todo: Plan, usual: Mapping[str, float], blueprint: Blueprint, here: int, outer: int | None = None
) -> float | None:
    """Seconds from the first step's start to the last one's end, where all take as long as they usually do. None where
    that is not known of one of them. `here`, `outer`: see `slots`."""
    if any(step.id not in usual and not isinstance(step, QUICK) for step in todo.steps):
        return None
    cpus = {spec.path: spec.machine.cpus for spec in blueprint.specs}
    free: dict[tuple[type[Step], str], int] = {}
    queued: defaultdict[tuple[type[Step], str], list[Step]] = defaultdict(list)
    unmet = {step.id: len(step.needs) for step in todo.steps}
    waiting: defaultdict[str, list[Step]] = defaultdict(list)
    for step in todo.steps:
        for need in step.needs:
            waiting[need].append(step)
    order = {step.id: at for at, step in enumerate(todo.steps)}
    now, running = 0.0, list[tuple[float, int, Step]]()

    def begin(step: Step) -> None:
        slot = slot_of(step)
        if slot is not None:
            if free.setdefault(slot, slots(*slot, cpus, outer, here)) == 0:
                queued[slot].append(step)
                return
            free[slot] -= 1
        heapq.heappush(running, (now + usual.get(step.id, 0.0), order[step.id], step))

    for step in todo.steps:
        if not step.needs:
            begin(step)
    while running:
        now, _, done = heapq.heappop(running)
        slot = slot_of(done)
        if slot is not None:
            free[slot] += 1
            if queued[slot]:
                begin(queued[slot].pop(0))
        for step in waiting[done.id]:
            unmet[step.id] -= 1
            if not unmet[step.id]:
                begin(step)
    return now
