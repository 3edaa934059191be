"""Plans the way from the observed world to a blueprint, each step with its reason. Pure, and linear.

Ends come first (inside-out), then what the lab's host must have (segments, images), then starts (outside-in).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import parent_of, within
from nestlab.plan.changes import changes
from nestlab.plan.setup_due import why_set_up
from nestlab.plan.steps import (
    Boot,
    Build,
    Connect,
    Create,
    Disconnect,
    Introduce,
    Observed,
    Plan,
    Remove,
    Seen,
    SetUp,
    Step,
    Stop,
    Want,
)


def plan(
    blueprint: Blueprint,
    observed: Observed,
    want: Mapping[str, Want] | Want = "running",
    *,
    previous: Blueprint | None = None,
) -> Plan:
    """The steps that make the world what the blueprint says; none if it is so already.

    One `want` is for the whole lab: then what the blueprint does not mention is removed too (`running`, `gone`) or
    stopped. A mapping (see `targets`) leaves alone what it does not name, except what is inside a machine that ends.
    `previous`, the blueprint applied last, is only needed to say what changed and which address is in use until when.
    """
    goals = _goals(blueprint, observed, want)
    fates = _Fates(blueprint, observed, goals, previous).decide()
    return _Writer(blueprint, observed, want, goals, fates, previous).write()


def targets(want: Want, paths: Iterable[str], blueprint: Blueprint, observed: Observed) -> dict[str, Want]:
    """What to want for a verb given machines: each with all inside it and, to run, the hypervisors it is in.

    LabError for a path that is neither in the blueprint nor seen.
    """
    known = [*blueprint.by_path(), *_strays(blueprint, observed)]
    wanted: dict[str, Want] = {}
    for path in paths:
        inside = [each for each in known if path and within(each, path)]
        if not inside:
            raise _no_such_machine(path, blueprint.lab, known)
        wanted.update(dict.fromkeys(inside, want))
        while want == "running" and (path := parent_of(path)):
            wanted[path] = want
    return wanted


def _no_such_machine(path: str, lab: str, known: list[str]) -> LabError:
    from difflib import get_close_matches

    close = get_close_matches(path, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Its machines: {', '.join(known[:20]) or 'none'}."
    return LabError(f"Lab {lab} has no machine {path}.", hint=hint)


def _strays(blueprint: Blueprint, observed: Observed) -> list[str]:
    """What is seen and not in the blueprint, outer ones first."""
    return sorted(observed.machines.keys() - blueprint.by_path().keys(), key=lambda path: path.split("/"))


_RANK: dict[Want | None, int] = {"gone": 0, "stopped": 1, None: 2, "running": 2}


def _goals(blueprint: Blueprint, observed: Observed, want: Mapping[str, Want] | Want) -> dict[str, Want | None]:
    """What each machine should become, outer ones first. None: left alone. Nothing outlives what it is in."""
    goals: dict[str, Want | None] = {}
    for spec in blueprint.specs:
        goals[spec.path] = want if isinstance(want, str) else want.get(spec.path)
    for path in _strays(blueprint, observed):
        whole: Want = "stopped" if want == "stopped" else "gone"
        stated = whole if isinstance(want, str) else want.get(path)
        goals[path] = None if stated == "running" else stated
    for path in goals:
        outer = goals.get(parent_of(path))
        if _RANK[outer] < _RANK[goals[path]]:
            goals[path] = outer
    for spec in reversed(blueprint.specs):
        if goals[spec.path] == "running" and spec.parent and goals[spec.parent] is None:
            goals[spec.parent] = "running"
    return goals


@dataclass(frozen=True)
class _Fate:
    """What happens to one machine: how it ends, then how it starts, each with a reason.

    `vanishes`: the machine it is in is made anew. `late`: it is removed once that machine runs. `may_run`: it cannot
    be seen, and may be running. `goes_on`: it runs, and is only set right.
    """

    end: Literal["stop", "remove"] | None = None
    end_why: str = ""
    start: Literal["make", "boot"] | None = None
    why: str = ""
    introduce: bool = False
    vanishes: bool = False
    late: bool = False
    may_run: bool = False
    goes_on: bool = False

    @property
    def boots(self) -> bool:
        return self.start is not None

    @property
    def remade(self) -> bool:
        return self.vanishes or (self.end == "remove" and self.start == "make")

    @property
    def restarts(self) -> bool:
        """It is stopped and started again, with its disk."""
        return self.end == "stop" and self.start is not None and not self.vanishes


_NOTHING = _Fate()


class _Fates:
    """Decides, outer machines first."""

    def __init__(
        self,
        blueprint: Blueprint,
        observed: Observed,
        goals: Mapping[str, Want | None],
        previous: Blueprint | None,
    ) -> None:
        self._specs = blueprint.by_path()
        self._before = previous.by_path() if previous else {}
        self._seen = observed.machines
        self._goals = goals
        self._taken_down = not blueprint.specs
        self._silent: dict[str, str] = {}
        for path, seen in observed.machines.items():
            if seen.state == "unknown" and goals.get(path) in ("running", "gone"):
                self._silent.setdefault(parent_of(path), seen.why or "it does not answer")

    def decide(self) -> dict[str, _Fate]:
        fates: dict[str, _Fate] = {}
        for path, goal in self._goals.items():
            parent = parent_of(path)
            outer = fates.get(parent, _NOTHING)
            seen = self._seen.get(path)
            if outer.remade:
                fates[path] = self._vanish(parent, goal, seen)
            elif outer.restarts and goal in ("running", None) and seen and seen.state in ("running", "paused"):
                fates[path] = self._restarted(self._specs.get(path), seen, f"{parent}, in which it runs, is restarted")
            elif goal == "gone":
                fates[path] = self._gone(path, outer, seen)
            elif goal == "stopped":
                fates[path] = self._stopped(path, parent, seen)
            elif goal == "running":
                fates[path] = self._running(self._specs[path], outer, seen)
        return fates

    def _vanish(self, parent: str, goal: Want | None, seen: Seen | None) -> _Fate:
        why = f"{parent}, in which it runs, is made anew"
        end: Literal["stop"] | None = "stop" if seen and seen.state == "running" else None
        start: Literal["make"] | None = "make" if goal == "running" else None
        return _Fate(end, why, start, why, vanishes=True)

    def _gone(self, path: str, outer: _Fate, seen: Seen | None) -> _Fate:
        if seen is None:
            return _NOTHING
        unmentioned = path not in self._specs and not self._taken_down
        why = "no longer in the lab file" if unmentioned else "it is to be removed"
        if seen.state != "unknown":
            return _Fate("remove", why)
        return _Fate(end_why=why, late=True) if outer.boots else _NOTHING

    def _stopped(self, path: str, parent: str, seen: Seen | None) -> _Fate:
        if seen is None or seen.state not in ("running", "paused"):
            return _NOTHING
        inner = self._goals.get(parent) == "stopped"
        return _Fate("stop", f"{parent}, in which it runs, is to stop" if inner else "it is to stop")

    def _running(self, spec: Spec, outer: _Fate, seen: Seen | None) -> _Fate:
        if seen is None:
            return _Fate(start="make", why="not there yet")
        if seen.state == "unknown":
            above = self._seen.get(spec.parent)
            may_run = outer.may_run or (above is not None and above.state in ("running", "paused"))
            return _Fate(start="make", why=self._why_unknown(spec, outer, seen), may_run=may_run)
        if seen.state == "broken":
            why = "it was half made" + (f": {seen.why}" if seen.why else "")
            return _Fate("remove", why, "make", why)
        if seen.digest is not None and seen.digest != spec.digest:
            why = self._why_changed(spec, seen.digest)
            return _Fate("remove", why, "make", why)
        return self._as_defined(spec, outer, seen)

    def _restarted(self, spec: Spec | None, seen: Seen, why: str) -> _Fate:
        """Stopped and started again; its disk stays."""
        if spec is None:
            return _Fate("stop", why)
        if seen.digest is not None and seen.digest != spec.digest:
            why = self._why_changed(spec, seen.digest)
            return _Fate("remove", why, "make", why)
        renamed = seen.names is not None and seen.names != spec.names
        introduce = renamed and spec.machine.image.file is not None
        return _Fate("stop", why, "make" if renamed else "boot", why, introduce=introduce)

    def _as_defined(self, spec: Spec, outer: _Fate, seen: Seen) -> _Fate:
        """New names are made known by Introduce to what runs, by Create to what does not."""
        renamed = seen.names is not None and seen.names != spec.names
        runs = seen.state in ("running", "paused")
        if runs and not all(each.live for each in seen.drift):
            return self._restarted(spec, seen, _drifted(seen))
        why = self._why_boot(spec, outer, seen)
        if why or seen.drift:
            start: Literal["make", "boot"] = "make" if renamed and not runs else "boot"
            # What cloud-init wrote at its first boot it does not write again.
            introduce = renamed and (runs or spec.machine.image.file is not None)
            return _Fate(start=start, why=why or _drifted(seen), introduce=introduce, goes_on=not why)
        return _Fate(why="its names changed", introduce=True) if renamed else _NOTHING

    def _why_boot(self, spec: Spec, outer: _Fate, seen: Seen) -> str:
        if outer.boots and not outer.goes_on:
            return f"{spec.parent}, in which it runs, is started"
        if seen.state == "paused":
            return "it is paused"
        if not seen.ready and seen.state == "running":
            return "it is still booting"
        if seen.state == "died":
            return "it died" + (f": {seen.why}" if seen.why else "")
        if seen.state == "stopped":
            return "it was stopped"
        return self._silent.get(spec.path, "")

    def _why_changed(self, spec: Spec, made_with: str) -> str:
        before = self._before.get(spec.path)
        known = before is not None and before.digest == made_with
        what = changes(before, spec) if known and before else ""
        return "its definition changed" + (f": {what}" if what else "")

    def _why_unknown(self, spec: Spec, outer: _Fate, seen: Seen) -> str:
        before = self._before.get(spec.path)
        if before is not None and before.digest != spec.digest:
            return self._why_changed(spec, before.digest)
        if outer.boots:
            return f"{spec.parent}, in which it runs, is started"
        return "it is not known whether it runs" + (f": {seen.why}" if seen.why else "")


class _Writer:
    """Writes fates down as steps with needs."""

    def __init__(
        self,
        blueprint: Blueprint,
        observed: Observed,
        want: Mapping[str, Want] | Want,
        goals: Mapping[str, Want | None],
        fates: dict[str, _Fate],
        previous: Blueprint | None,
    ) -> None:
        self._blueprint = blueprint
        self._observed = observed
        self._want = want
        self._goals = goals
        self._fates = fates
        self._before = previous.by_path() if previous else {}
        self._steps: list[Step] = []
        self._ends: dict[str, str] = {}
        """By path: the step after which the machine does not run any more."""
        self._outer_ends: list[str] = []
        self._builds: dict[str, str] = {}
        self._connects: dict[str, str] = {}
        self._setups: dict[str, str] = {}
        self._in_use: dict[tuple[str, str], str] = {}
        """By segment and MAC or address: the machine that has it until it ends."""

    def write(self) -> Plan:
        self._write_ends()
        self._write_segments()
        self._write_builds()
        for spec in self._blueprint.specs:
            self._write_start(spec)
        for path, fate in self._fates.items():
            if fate.late:
                self._add(Remove(fate.end_why, path, needs=(f"boot:{parent_of(path)}",)))
        return Plan(self._blueprint.lab, tuple(self._steps))

    def _add(self, step: Step) -> str:
        self._steps.append(step)
        return step.id

    def _write_ends(self) -> None:
        inside: dict[str, list[str]] = {}
        for path, fate in reversed(self._fates.items()):
            before = inside.pop(path, [])
            if fate.end:
                cls = Stop if fate.end == "stop" else Remove
                self._ends[path] = self._add(cls(fate.end_why, path, needs=tuple(before)))
                self._note_in_use(path)
                before = [self._ends[path]]
            inside.setdefault(parent_of(path), []).extend(before)
        self._outer_ends = inside.get("", [])

    def _note_in_use(self, path: str) -> None:
        before, seen = self._before.get(path), self._observed.machines[path]
        if before is not None and seen.digest == before.digest and seen.state in ("running", "paused"):
            for key in _cards(before):
                self._in_use[key] = path

    def _write_segments(self) -> None:
        outer = [spec for spec in self._blueprint.specs if not spec.parent and self._goals[spec.path] == "running"]
        used: dict[str, bool] = {}
        for spec in outer:
            for nic in spec.nics:
                seen = self._observed.machines.get(spec.path)
                runs = seen is not None and seen.state == "running" and not self._fates.get(spec.path, _NOTHING).end
                used[nic.segment] = used.get(nic.segment, False) or runs
        for segment, runs in used.items():
            if segment not in self._observed.links:
                why = "machines that run need it, and it is not there" if runs else "not there yet"
                self._connects[segment] = self._add(Connect(why, segment))
        if not isinstance(self._want, str):
            return
        if outer:
            used.update((segment.name, False) for segment in self._blueprint.segments)
        needs = tuple(self._outer_ends)
        why = "no machine uses it any more" if outer else "no machine is to run"
        for segment in sorted(self._observed.links - used.keys()):
            needs = (self._add(Disconnect(why, segment, needs=needs)),)

    def _write_builds(self) -> None:
        """Images for what is created anywhere, and for what boots on the lab's host, where they are its drives."""
        missing: dict[str, str] = {}
        for spec in self._blueprint.specs:
            fate = self._fates.get(spec.path, _NOTHING)
            if fate.start == "make" or (fate.start == "boot" and not spec.parent):
                for key in (spec.image, *spec.cargo):
                    if key not in self._observed.images:
                        missing.setdefault(key, spec.path)
        for key, path in missing.items():
            self._builds[key] = self._add(Build(f"{path} needs it", key))

    def _write_start(self, spec: Spec) -> None:
        fate = self._fates.get(spec.path, _NOTHING)
        if fate.boots:
            self._write_boot(spec, fate)
        if fate.introduce or fate.may_run:
            needs = (f"boot:{spec.path}",) if fate.boots else ()
            self._add(
                Introduce("its names changed" if fate.introduce else "it may know old names", spec.path, needs=needs)
            )
        seen, starts = self._observed.machines.get(spec.path), fate.boots and not fate.goes_on
        why = why_set_up(spec, seen, anew=fate.remade, starts=starts)
        if why and self._goals[spec.path] == "running":
            needs = (f"boot:{spec.path}",) if fate.boots else ()
            self._setups[spec.path] = self._add(SetUp(why, spec.path, needs=needs))

    def _write_boot(self, spec: Spec, fate: _Fate) -> None:
        outer = self._fates.get(spec.parent, _NOTHING)
        needs = [f"boot:{spec.parent}"] if outer.boots else []
        needs += [self._setups[spec.parent]] if spec.parent in self._setups else []
        if fate.start == "make" or not spec.parent:
            needs += [self._builds[key] for key in dict.fromkeys((spec.image, *spec.cargo)) if key in self._builds]
        if spec.path in self._ends and not fate.vanishes:
            needs.insert(0, self._ends[spec.path])
        if fate.start == "make":
            needs = [self._add(Create(fate.why, spec.path, needs=tuple(needs)))]
        if not spec.parent:
            needs += [self._connects[nic.segment] for nic in spec.nics if nic.segment in self._connects]
        displaced = {self._in_use[key]: None for key in _cards(spec) if key in self._in_use}
        needs += [self._ends[path] for path in displaced if path != spec.path]
        self._add(Boot(fate.why, spec.path, needs=tuple(needs)))


def _drifted(seen: Seen) -> str:
    return f"{', '.join(each.what for each in seen.drift)} (changed by hand)"


def _cards(spec: Spec) -> Iterable[tuple[str, str]]:
    for nic in spec.nics:
        yield nic.segment, nic.mac
        for address in nic.addresses:
            yield nic.segment, address.partition("/")[0]
