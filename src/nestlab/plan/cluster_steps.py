"""What is to be done about clusters: which machines form one, join one, leave one. Pure; `planner` writes it as steps.

What members say is what counts. Of those that start, or were not asked, a step finds out itself: it asks, and does what
is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nestlab import kinds
from nestlab.base.frozen import frozen
from nestlab.kinds.clustering import Clustering, View
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.clusters import Cluster
from nestlab.lab.hosts_file import hostname_of
from nestlab.plan.decisions import NOTHING, Fate
from nestlab.plan.steps import Observed, Want

_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
"""Members may be hostile: nothing else that they list is a node."""


@frozen
class Leaving:
    """A node that is to leave a cluster, and why. `path`: "" where it is not known. `off_first`: after its machine
    ended."""

    cluster: str
    node: str
    path: str
    why: str
    off_first: bool


@frozen
class Coming:
    """Machines that are to be members: `paths` at once. `first`: the cluster is not there yet."""

    cluster: str
    paths: tuple[str, ...]
    why: str
    joins: bool


@frozen
class World:
    """What decisions about clusters go by."""

    blueprint: Blueprint
    observed: Observed
    goals: Mapping[str, Want | None]
    fates: Mapping[str, Fate]
    previous: Blueprint | None

    def view(self, path: str) -> View | None:
        return self.observed.clusters.get(path)

    def runs(self, path: str) -> bool:
        """Whether a machine runs when the plan is done."""
        seen, goal = self.observed.machines.get(path), self.goals.get(path)
        if goal is None:
            return seen is not None and seen.state == "running"
        return goal == "running"

    def anew(self, path: str) -> bool:
        """Whether it has a disk that was in no cluster."""
        fate = self.fates.get(path, NOTHING)
        return fate.remade or (fate.start == "make" and path not in self.observed.machines)

    def clustering(self, path: str) -> Clustering | None:
        """How the kind of a machine makes clusters, as it is or was."""
        before = self.previous.by_path() if self.previous else {}
        spec = self.blueprint.by_path().get(path) or before.get(path)
        kind = kinds.kinds().get(spec.machine.hypervisor or "") if spec is not None else None
        return kind.clustering if kind is not None else None


def leaving(world: World, *, whole: bool) -> list[Leaving]:
    """The nodes that are to leave, of a plan for the `whole` lab, whose clusters are to be as the blueprint says."""
    if not whole:
        return []
    before = world.previous.clusters if world.previous is not None else ()
    wanted = {cluster.name: cluster for cluster in world.blueprint.clusters}
    ours = {each.name: each for each in (*before, *world.blueprint.clusters)}
    found: dict[tuple[str, str], Leaving] = {}
    for name, cluster in ours.items():
        members = wanted[name].members if name in wanted else ()
        old = {hostname_of(path): path for each in before if each.name == name for path in each.members}
        stay = {hostname_of(path) for path in members}
        for node in _listed(world, name, cluster, old):
            if node not in stay:
                path = old.get(node, "")
                clustering = world.clustering(path or next(iter(cluster.members), ""))
                why = f"no longer a member of cluster {name}" if name in wanted else f"there is to be no cluster {name}"
                off = clustering is not None and clustering.off_first
                found[name, node] = Leaving(name, node, path, why, off)
    return list(found.values())


def _listed(world: World, name: str, cluster: Cluster, old: Mapping[str, str]) -> list[str]:
    """The names of the nodes that are in a cluster: as its members say, and where none can be asked as it was."""
    asked = {*cluster.members, *old.values()}
    views = {path: view for path in asked if (view := world.view(path)) is not None and not world.anew(path)}
    if not views:
        return list(old) if world.previous is not None else []
    listed = [member.name for view in views.values() if view.cluster == name for member in view.members]
    selves = [hostname_of(path) for path, view in views.items() if view.cluster == name]
    sound = (name for name in [*sorted(listed), *sorted(selves)] if _HOST_NAME.fullmatch(name))
    return list(dict.fromkeys(sound))


def coming(world: World) -> Iterator[Coming]:
    """The machines that are to form clusters and to join them, in the order in which that is to be done."""
    for cluster in world.blueprint.clusters:
        if any(world.goals.get(path) == "running" for path in cluster.members):
            yield from _of_cluster(world, cluster)


def _of_cluster(world: World, cluster: Cluster) -> Iterator[Coming]:
    name = cluster.name
    up = [path for path in cluster.members if world.runs(path)]
    inside, unsure, outside = [], [], []
    links = set(cluster.links)
    parted = any(world.observed.cut.get(path, frozenset()) >= links for path in up)  # on purpose
    for path in up:
        view, fate = world.view(path), world.fates.get(path, NOTHING)
        starts = fate.boots and not fate.goes_on
        if world.anew(path) or (view is not None and view.cluster != name and not starts):
            outside.append(path)
        elif starts or view is None or not (view.usable or parted):
            unsure.append(path)
        else:
            inside.append(path)
    if not (unsure or outside):
        return
    clustering = world.clustering(cluster.members[0])
    at_once = clustering is not None and clustering.at_once
    if not (inside or unsure):
        first, later = (up, []) if at_once else (up[:1], up[1:])
        yield Coming(name, tuple(first), f"{_named(first, world)} to be cluster {name}", joins=False)
    else:
        first, later = [*inside, *unsure], outside
        if unsure:
            yield Coming(name, tuple(first), _why(world, name, unsure), joins=False)
    for path in later:
        yield Coming(name, (path,), f"it is not in cluster {name}", joins=True)


def _named(paths: list[str], world: World) -> str:
    return f"{paths[0]} is" if len(paths) == 1 else f"{len(paths)} machines are"


def _why(world: World, name: str, paths: list[str]) -> str:
    """Why members are looked after that may be in their cluster already."""
    views = [view for path in paths if (view := world.view(path)) is not None and view.cluster == name]
    known = next((view.why for view in views if view.why), "")
    starts = [path for path in paths if world.fates.get(path, NOTHING).boots]
    if starts:
        more = " and more" if len(starts) > 3 else ""
        return f"{', '.join(starts[:3])}{more} {'start' if len(starts) > 1 else 'starts'}"
    return f"{paths[0]}: {known}" if known else f"it is not known whether {paths[0]} is in it"
