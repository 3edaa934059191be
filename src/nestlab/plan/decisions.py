"""What happens to each machine of a lab, outer ones first, each with its reason. Pure; `planner` writes it as steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from nestlab.base.frozen import frozen
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import parent_of
from nestlab.plan import live_restart_anew as ways
from nestlab.plan.disk_changes import sizes_of
from nestlab.plan.live_restart_anew import RUNS, Decision
from nestlab.plan.steps import Change, Observed, Seen, Want, Way


@frozen
class Fate:
    """The way of one machine: how it ends, then how it starts, each with a reason.

    `start`: `make` what is not there, `renew` what is there and gets another definition or other names, `boot` it as it
    is. `vanishes`: the machine it is in is made anew. `late`: it ends once that machine runs. `may_run`: it cannot be
    seen, and may be running. `grows`: why a running machine gets a larger disk. `goes_on`: it runs, and is only set
    right. `discards`: disks that it loses, by name.
    """

    end: Literal["stop", "remove"] | None = None
    end_why: str = ""
    start: Literal["make", "renew", "boot"] | None = None
    why: str = ""
    introduce: bool = False
    vanishes: bool = False
    late: bool = False
    may_run: bool = False
    grows: str = ""
    goes_on: bool = False
    discards: tuple[str, ...] = ()

    @property
    def boots(self) -> bool:
        return self.start is not None

    @property
    def restarts(self) -> bool:
        """It is stopped and started again, with its disk."""
        return self.end == "stop" and self.boots and not self.vanishes

    @property
    def remade(self) -> bool:
        return self.vanishes or (self.end == "remove" and self.start == "make")


NOTHING = Fate()


class Fates:
    """Decides, outer machines first. `changes`: by path, what is to become of machines that are there."""

    def __init__(
        self,
        blueprint: Blueprint,
        observed: Observed,
        goals: Mapping[str, Want | None],
        previous: Blueprint | None,
        again: Mapping[str, Way],
    ) -> None:
        self.changes: dict[str, Change] = {}
        self._specs = blueprint.by_path()
        self._before = previous.by_path() if previous else {}
        self._seen = observed.machines
        self._goals = goals
        self._again = again
        self._taken_down = not blueprint.specs
        self._silent: dict[str, str] = {}
        for path, seen in observed.machines.items():
            if seen.state == "unknown" and goals.get(path) in ("running", "gone"):
                self._silent.setdefault(parent_of(path), seen.why or "it does not answer")

    def decide(self) -> dict[str, Fate]:
        fates: dict[str, Fate] = {}
        for path, goal in self._goals.items():
            parent = parent_of(path)
            outer = fates.get(parent, NOTHING)
            seen = self._seen.get(path)
            if outer.remade:
                fates[path] = self._vanish(path, parent, goal, seen)
            elif goal == "gone":
                fates[path] = self._gone(path, outer, seen)
            elif goal == "stopped":
                fates[path] = self._stopped(path, parent, seen)
            elif goal == "running":
                fates[path] = self._running(self._specs[path], outer, seen)
            elif outer.restarts and seen is not None and seen.state in RUNS:
                fates[path] = self._along(path, outer, seen)
        return fates

    def _vanish(self, path: str, parent: str, goal: Want | None, seen: Seen | None) -> Fate:
        what = f"{parent}, in which it runs, is made anew"
        why = self._deleted(path, "anew", what, seen) if seen is not None else what
        end: Literal["stop"] | None = "stop" if seen and seen.state == "running" else None
        start: Literal["make"] | None = "make" if goal == "running" else None
        return Fate(end, why, start, why, vanishes=True)

    def _gone(self, path: str, outer: Fate, seen: Seen | None) -> Fate:
        if seen is None:
            return NOTHING
        unmentioned = path not in self._specs and not self._taken_down
        what = "no longer in the lab file" if unmentioned else "it is to be removed"
        if seen.remembered or seen.state == "unknown":
            return Fate("remove", self._deleted(path, "remove", what, seen), late=True) if outer.boots else NOTHING
        return Fate("remove", self._deleted(path, "remove", what, seen))

    def _stopped(self, path: str, parent: str, seen: Seen | None) -> Fate:
        if seen is None or seen.state not in RUNS:
            return NOTHING
        inner = self._goals.get(parent) == "stopped"
        return Fate("stop", f"{parent}, in which it runs, is to stop" if inner else "it is to stop")

    def _along(self, path: str, outer: Fate, seen: Seen) -> Fate:
        """It runs, nobody asked for anything, and what it is in is restarted. What would lose a disk only stops.

        Once it is stopped, nothing says that it ran: after an interruption it is started only if it is named, or the
        whole lab is to run."""
        spec = self._specs.get(path)
        decision = ways.decide(spec, seen, self._before.get(path)) if spec else None
        if spec is None or (decision is not None and (decision.way == "anew" or decision.discards)):
            return Fate("stop", f"{parent_of(path)}, in which it runs, is restarted")
        return self._running(spec, outer, seen)

    def _running(self, spec: Spec, outer: Fate, seen: Seen | None) -> Fate:
        if seen is None:
            return Fate(start="make", why="not there yet")
        if seen.state == "broken":
            return self._finished(spec, seen)
        if seen.state == "unknown":
            return self._unseen(spec, outer, seen)
        decision = self._decision(spec, seen)
        if decision is not None and decision.way == "anew":
            why = self._deleted(spec.path, "anew", decision.what, seen)
            return Fate("remove", why, "make", why, late=seen.remembered)
        runs = seen.state in RUNS
        renamed = seen.names is not None and seen.names != spec.names
        why = self._why_boot(spec, outer, seen)
        grows = decision.what if decision is not None and decision.way == "live" else ""
        if decision is not None and decision.way == "restart":
            what = decision.what
        elif runs and outer.restarts:
            what = why
        elif runs and not all(each.live for each in seen.drift):
            what = ", ".join([_drifted(seen), *([grows] if grows else [])])
        else:
            return self._live(spec, seen, decision, why, renamed)
        why = ways.restart(what, spec)
        discards = self._changed(spec, "restart", why, seen, decision)
        same = seen.digest == spec.digest and not renamed and not grows and not (decision and decision.disks)
        start: Literal["boot", "renew"] = "boot" if same else "renew"
        end: Literal["stop"] | None = "stop" if runs else None
        return Fate(end, why, start, why, introduce=renamed and _own(spec), discards=discards)

    def _changed(self, spec: Spec, way: Way, why: str, seen: Seen, decision: Decision | None) -> tuple[str, ...]:
        """Notes a change that leaves the machine, and what it loses by it: the names of disks."""
        discards = decision.discards if decision is not None else ()
        written = sizes_of(seen.written, seen.disks, discards) if discards else None
        self.changes[spec.path] = Change(spec.path, way, why, bool(discards), written)
        return discards

    def _live(self, spec: Spec, seen: Seen, decision: Decision | None, why: str, renamed: bool) -> Fate:
        """No restart. Of what does not run, all is done before it boots; what runs is introduced to new names, and its
        Boot sets right what was changed by hand."""
        runs = seen.state in RUNS
        discards: tuple[str, ...] = ()
        grows = decision.what if decision is not None and decision.way == "live" else ""
        what = [*([grows] if grows else []), *([_drifted(seen)] if seen.drift else [])]
        what += ["its names changed"] if renamed else []
        if what:
            discards = self._changed(spec, "live", f"live: {', '.join(what)}", seen, decision)
        if not runs:
            start: Literal["renew", "boot"] = "renew" if renamed or grows or self._torn(seen) else "boot"
            made = Fate(start=start, why=why, introduce=renamed and _own(spec), discards=discards)
            return made if why else NOTHING
        boots: Literal["boot"] | None = "boot" if why or seen.drift else None
        reason = why or (f"live: {_drifted(seen)}" if seen.drift else "its names changed")
        growth = f"live: {grows}" if grows else ""
        return Fate(start=boots, why=reason, introduce=renamed, grows=growth, goes_on=not why, discards=discards)

    def _torn(self, seen: Seen) -> bool:
        """Whether it is on the disk of a machine that died, which may lack what was written there last."""
        path = seen.path
        while seen.remembered and (path := parent_of(path)) in self._seen:
            if self._seen[path].state in ("died", "killed"):
                return True
        return False

    def _finished(self, spec: Spec, seen: Seen) -> Fate:
        """The way of a machine that was half made. One whose disk was written to is not thrown away unasked."""
        why = "it was half made" + (f": {seen.why}" if seen.why else "")
        if seen.written is not None and seen.written.size > ways.EMPTY:
            why = self._deleted(spec.path, "anew", why, seen)
        return Fate("remove", why, "make", why)

    def _unseen(self, spec: Spec, outer: Fate, seen: Seen) -> Fate:
        """The way of a machine of which nobody can say whether it runs. What was known of it before counts."""
        above = self._seen.get(spec.parent)
        up = above is not None and above.state in RUNS
        may_run = not outer.restarts and (outer.may_run or up)
        before = self._before.get(spec.path)
        known = seen
        if seen.digest is None and before is not None:
            known = replace(seen, digest=before.digest, root=before.root, disk=before.machine.disk or 0)
        decision = self._decision(spec, known)
        if decision is not None and decision.way == "anew":
            why = self._deleted(spec.path, "anew", decision.what, known)
            return Fate("remove", why, "make", why, late=outer.boots)
        start: Literal["make", "renew"] = "make" if seen.digest is None else "renew"
        if decision is not None:
            why = ways.restart(decision.what, spec)
            discards = self._changed(spec, "restart", why, known, decision)
            return Fate("stop" if may_run else None, why, start, why, late=may_run, discards=discards)
        if outer.boots:
            why = self._why_started(spec, outer)
        else:
            why = "it is not known whether it runs" + (f": {seen.why}" if seen.why else "")
        return Fate(start=start, why=why, may_run=may_run)

    def _decision(self, spec: Spec, seen: Seen) -> Decision | None:
        forced = self._again.get(spec.path)
        decision = ways.decide(spec, seen, self._before.get(spec.path))
        if forced is None or (decision is not None and decision.way == "anew"):
            return decision
        if forced == "restart" and seen.state not in RUNS:
            return decision
        if forced == "restart" and decision is not None and decision.way == "restart":
            return decision
        return Decision(forced, "as asked", decision.disks if decision is not None else None)

    def _deleted(self, path: str, way: Way, what: str, seen: Seen) -> str:
        """Notes what is lost; the reason."""
        made = self._before.get(path) or self._specs.get(path)
        why = ways.anew(what, seen, made) if way == "anew" else f"{what}; {ways.lost(seen, made)}"
        self.changes[path] = Change(path, way, why, True, seen.written)
        return why

    def _why_boot(self, spec: Spec, outer: Fate, seen: Seen) -> str:
        if outer.boots and not outer.goes_on:
            return self._why_started(spec, outer)
        if seen.state == "paused":
            return "it is paused"
        if not seen.ready and seen.state == "running":
            return "it is still booting"
        if seen.state == "died":
            return "it died" + (f": {seen.why}" if seen.why else "")
        if seen.state in ("stopped", "killed"):
            return f"it was {seen.state}"
        return self._silent.get(spec.path, "")

    def _why_started(self, spec: Spec, outer: Fate) -> str:
        return f"{spec.parent}, in which it runs, is {'restarted' if outer.restarts else 'started'}"


def _own(spec: Spec) -> bool:
    """Whether its image is the user's: what cloud-init wrote at its first boot it does not write again."""
    return not spec.machine.image.own


def _drifted(seen: Seen) -> str:
    return f"{', '.join(each.what for each in seen.drift)} (changed by hand)"
