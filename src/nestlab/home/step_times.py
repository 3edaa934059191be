"""How long steps usually take, remembered per host, image and level: one small file in the state directory."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from nestlab.base.errors import LabError
from nestlab.base.files import replace
from nestlab.base.typed import parsed
from nestlab.home.directories import Home
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.plan.steps import Build, Plan, Step

NAME = "step-times.json"

KEYS, KEPT = 300, 7
"""Kinds of steps that are remembered, those done last, and durations kept of each."""

LIMIT = 1 << 20
"""Bytes of the largest file that is read."""

Times = Mapping[str, tuple[float, ...]]
"""Durations in seconds by `key_of`, the last one last; kinds in the order in which they were last done."""


def key_of(step: Step, blueprint: Blueprint) -> str:
    """What makes two steps alike: the host, the verb, the image, and for a machine its level and how it runs."""
    return _key_of(step, blueprint, blueprint.by_path())


def _key_of(step: Step, blueprint: Blueprint, specs: Mapping[str, Spec]) -> str:
    host = blueprint.on.address if blueprint.on else platform.node()
    if isinstance(step, Build):
        return f"{host} {step.verb} {step.image[:12]}"
    if not step.path:
        return f"{host} {step.verb}"
    spec = specs.get(step.path)
    if spec is None:
        return ""
    machine = spec.machine
    runs = "container" if machine.container else machine.accel
    return f"{host} {step.verb} {spec.image[:12]} level {spec.level} {runs} {machine.cpus}"


def load(home: Home) -> Times:
    """What is remembered; nothing where that cannot be read: it is a convenience."""
    path = _file(home)
    try:
        if path.stat().st_size > LIMIT:
            return {}
        data = parsed(path.read_text(encoding="utf-8"))
        return {str(key): tuple(float(each) for each in values)[-KEPT:] for key, values in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def usual(times: Times, todo: Plan, blueprint: Blueprint) -> dict[str, float]:
    """By step id: the median of what such a step took, in seconds; only of steps that were done before."""
    found = {}
    specs = blueprint.by_path()
    for step in todo.steps:
        known = times.get(_key_of(step, blueprint, specs))
        if known:
            found[step.id] = median(known)
    return found


def usual_of(home: Home, todo: Plan, blueprint: Blueprint) -> dict[str, float]:
    """The same, of what is remembered in a home."""
    return usual(load(home), todo, blueprint)


def learned(times: Times, done: Iterable[tuple[str, float]]) -> Times:
    """The same with more durations, by key: bounded in kinds and in durations of each."""
    found = dict(times)
    for key, seconds in done:
        if key:
            found[key] = (*found.pop(key, ()), round(seconds, 2))[-KEPT:]
    return dict(list(found.items())[-KEYS:])


def remember(home: Home, todo: Plan, blueprint: Blueprint, done: Mapping[str, float]) -> None:
    """Keep how long the steps took (`done`, by id). A file that cannot be written keeps nobody from working."""
    steps = [step for step in todo.steps if step.id in done]
    if not steps:
        return
    specs = blueprint.by_path()
    times = learned(load(home), ((_key_of(step, blueprint, specs), done[step.id]) for step in steps))
    try:
        replace(_file(home), json.dumps(times, indent=0).encode(), 0o600, synced=False)
    except LabError:
        return


def _file(home: Home) -> Path:
    return home.state / NAME


def longest(todo: Plan, known: Mapping[str, float]) -> float | None:
    """Seconds that a plan takes if every step starts as soon as what it needs is done; None where one of its steps was
    never done here."""
    ends: dict[str, float] = {}
    for step in todo.steps:  # in an order that respects their needs
        if step.id not in known:
            return None
        ends[step.id] = known[step.id] + max((ends.get(need, 0.0) for need in step.needs), default=0.0)
    return max(ends.values(), default=0.0)
