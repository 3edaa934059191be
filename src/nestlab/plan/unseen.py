"""Machines that cannot be seen: what they are in does not run or does not answer. What is known of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from nestlab.lab.blueprint import Spec
from nestlab.lab.model import level_of, parent_of, within
from nestlab.plan.steps import Observed, Seen

_NOT_RUNNING = {"paused": "is paused", "stopped": "is stopped", "died": "died", "killed": "was killed"}


def complete(
    found: Mapping[str, Seen],
    silent: Mapping[str, str],
    paths: Iterable[str],
    known: Mapping[str, Seen] | None = None,
) -> Mapping[str, Seen]:
    """The machines that were found, by path and outer ones first, and those of `paths` that cannot be seen because
    their hypervisor does not run, or is `silent` (by path: why). Those that were `known` when it last ran are still on
    its disk: they are `stopped` while it does not run, else `unknown`."""
    machines, known = dict(found), known or {}
    for path in sorted(paths, key=level_of):
        outer = machines.get(parent_of(path))
        if path in machines or outer is None or outer.state == "broken":
            continue
        last = known.get(path)
        seen = replace(last or Seen(path, "unknown"), state="unknown", remembered=True)
        if outer.path in silent:
            machines[path] = replace(seen, why=silent[outer.path])
        elif outer.state == "unknown":
            machines[path] = replace(seen, why=outer.why)
        elif outer.state != "running":
            down = last is not None and outer.state in ("stopped", "died", "killed")
            why = f"{outer.path} {_NOT_RUNNING[outer.state]}"
            machines[path] = replace(seen, state="stopped" if down else "unknown", why=why)
    return MappingProxyType(dict(sorted(machines.items(), key=lambda item: item[0].split("/"))))


def learn(known: Mapping[str, Seen], observed: Observed) -> dict[str, Seen]:
    """The known machines after a look at the world. Those inside a machine are forgotten with it."""
    seen = observed.machines
    kept = {path: each for path, each in known.items() if path in seen and seen[path].remembered}
    told = {path: each for path, each in seen.items() if not each.remembered and each.digest is not None}
    return kept | {path: _lasting(each) for path, each in told.items() if each.state != "broken"}


def made(known: Mapping[str, Seen], spec: Spec) -> dict[str, Seen]:
    """The known machines with one that was made, or given the definition of now."""
    seen = Seen(spec.path, "stopped", spec.digest, spec.names, root=spec.root, disk=spec.machine.disk or 0)
    seen = replace(seen, disks=spec.disks)
    return {**known, spec.path: seen}


def removed(known: Mapping[str, Seen], path: str) -> dict[str, Seen]:
    """The known machines without one that was removed, and without all that was inside it."""
    return {each: seen for each, seen in known.items() if not within(each, path)}


def _lasting(seen: Seen) -> Seen:
    return Seen(seen.path, "stopped", seen.digest, seen.names, root=seen.root, disk=seen.disk, disks=seen.disks)
