"""Writes what is to be done about clusters into a plan: after what, and before what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nestlab.lab.model import level_of
from nestlab.plan.cluster_steps import Coming, Leaving, World, coming, leaving
from nestlab.plan.decisions import NOTHING
from nestlab.plan.steps import Form, Join, Leave, Step


class ClusterWriter:
    """The steps of one plan. `add` takes a step and returns its id. Of one cluster, steps follow one another."""

    def __init__(self, world: World, add: Callable[[Step], str], *, whole: bool) -> None:
        self._world = world
        self._add = add
        self._leaving = leaving(world, whole=whole)
        self._coming = list(coming(world))
        self._comes: dict[str, str] = {}
        """By machine: the step by which it is a member."""
        self._written: set[tuple[str, str]] = set()
        self._last: dict[str, str] = {}
        """By cluster: its last step so far."""

    def before_end(self, path: str) -> list[str]:
        """What must be done before a machine ends: it leaves while it runs, and its others do."""
        for each in self._leaving:
            if each.path == path and not each.off_first and not self._booting(self._others(each)):
                return [self._leave(each, ())]
        return []

    @property
    def any(self) -> bool:
        """Whether the lab has clusters, or had."""
        return bool(self._leaving or self._world.blueprint.clusters)

    def write(self, level: int, ends: Mapping[str, str], setups: Mapping[str, str]) -> None:
        """All that is left of clusters on a level, when the ends (by path) and starts of machines there are written,
        and their setups."""
        for each in self._leaving:
            path = each.path or next(iter(self._others(each)), "")
            if (each.cluster, each.node) not in self._written and level_of(path) <= level:
                after = [f"boot:{path}" for path in self._booting([*self._others(each), each.path])]
                self._leave(each, (*([ends[each.path]] if each.path in ends else []), *after))
        for group in self._coming:
            if level_of(group.paths[0]) == level:
                self._come(group, setups)

    def before_guests(self, path: str) -> list[str]:
        """What must be done before machines are made in a hypervisor."""
        clustering = self._world.clustering(path) if path in self._comes else None
        return [self._comes[path]] if clustering is not None and clustering.empty_first else []

    def _leave(self, each: Leaving, needs: Iterable[str]) -> str:
        self._written.add((each.cluster, each.node))
        needs = tuple(dict.fromkeys([*needs, *self._after(each.cluster)]))
        step = self._add(Leave(each.why, each.cluster, each.node, each.path, needs=needs))
        self._last[each.cluster] = step
        return step

    def _come(self, group: Coming, setups: Mapping[str, str]) -> None:
        needs: list[str] = []
        for path in group.paths:
            needs += self._ready(path)
            needs += [setups[path]] if path in setups else []
        for each in self._leaving:  # a machine that goes from one cluster to another
            if each.path in group.paths and each.cluster != group.cluster:
                needs += self._after(each.cluster)
        needs += self._after(group.cluster)
        known = tuple(dict.fromkeys(needs))
        if group.joins:
            step: Step = Join(group.why, group.paths[0], group.cluster, needs=known)
        else:
            step = Form(group.why, group.cluster, group.paths, needs=known)
        self._last[group.cluster] = done = self._add(step)
        self._comes |= dict.fromkeys(group.paths, done)

    def _ready(self, path: str) -> list[str]:
        """The steps after which a machine can be talked to, and knows the names of the others."""
        fate = self._world.fates.get(path, NOTHING)
        boots = [f"boot:{path}"] if fate.boots else []
        named = [f"introduce:{path}"] if fate.introduce or fate.may_run else []
        return [*boots, *named]

    def _after(self, cluster: str) -> list[str]:
        return [self._last[cluster]] if cluster in self._last else []

    def _booting(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path and self._world.fates.get(path, NOTHING).boots]

    def _others(self, each: Leaving) -> list[str]:
        wanted = next((one.members for one in self._world.blueprint.clusters if one.name == each.cluster), ())
        return [path for path in wanted if path != each.path]
