"""Clusters as their members see them: what `status` shows of each, as `pvecm nodes` does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.paint import PLAIN, Paint, Style, columns
from nestlab.base.printable import brief
from nestlab.kinds.clustering import View
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.clusters import Cluster
from nestlab.lab.hosts_file import hostname_of
from nestlab.plan.steps import Observed


@frozen
class NodeRow:
    """One node. `path`: "" for one that is listed by members and that the lab file does not have. `id`: 0 where nobody
    says it. `online`: it takes part in a membership; `quorate`: that has a quorum; None: it was not asked."""

    name: str
    path: str
    id: int
    votes: int
    online: bool | None
    quorate: bool | None
    sees: tuple[str, ...] = ()
    why: str = ""


@frozen
class ClusterRow:
    """One cluster. `quorate`: of a part of it at least; `total` and `expected` are that part's votes. `parts`: the
    memberships that there are, the largest first."""

    name: str
    quorate: bool
    total: int
    expected: int
    parts: tuple[tuple[str, ...], ...]
    nodes: tuple[NodeRow, ...]


def rows(blueprint: Blueprint | None, observed: Observed) -> list[ClusterRow]:
    """The clusters of a lab, as far as their members were asked."""
    return [_cluster(cluster, observed) for cluster in blueprint.clusters] if blueprint is not None else []


def _cluster(cluster: Cluster, observed: Observed) -> ClusterRow:
    paths = {hostname_of(path): path for path in cluster.members}
    said = {name: view for name, path in paths.items() if (view := observed.clusters.get(path)) is not None}
    views = {name: view for name, view in said.items() if view.cluster == cluster.name}
    best = max(views.values(), key=lambda view: (view.quorate, view.total), default=View())
    parts = {tuple(sorted(view.online)) for view in views.values() if view.online}
    strangers = {member.name for view in views.values() for member in view.members} - paths.keys()
    nodes = tuple(_node(name, paths.get(name, ""), observed, views, said) for name in [*paths, *sorted(strangers)])
    ordered = tuple(sorted(parts, key=lambda part: (-len(part), part)))
    return ClusterRow(cluster.name, best.quorate, best.total, best.expected, ordered, nodes)


def _node(name: str, path: str, observed: Observed, views: Mapping[str, View], said: Mapping[str, View]) -> NodeRow:
    view = views.get(name)
    told = [member for each in views.values() for member in each.members if member.name == name]
    nodeid, votes = (told[0].nodeid, told[0].votes) if told else (0, 0)
    if view is not None:
        sees = tuple(sorted(view.online))
        why = "; ".join(filter(None, (view.why, *(f"{link} does not carry" for link in view.down))))
        return NodeRow(name, path, view.nodeid or nodeid, votes, name in view.online, view.quorate, sees, why)
    seen = observed.machines.get(path)
    online = any(name in each.online for each in views.values())
    if not path:
        return NodeRow(name, path, nodeid, votes, online, None, why="no longer in the lab file")
    if seen is None or seen.state != "running":
        return NodeRow(name, path, nodeid, votes, online, None, why=f"it is {seen.state if seen else 'not made'}")
    if name in said:
        other = said[name].cluster
        return NodeRow(
            name, path, nodeid, votes, online, None, why=f"it is in {'cluster ' + other if other else 'none'}"
        )
    return NodeRow(name, path, nodeid, votes, online if online else None, None, why="it does not say")


def text(clusters: Sequence[ClusterRow], paint: Paint = PLAIN) -> str:
    """A table for each, "" for none."""
    return "\n\n".join("\n".join(_table(cluster, paint)) for cluster in clusters)


def _table(cluster: ClusterRow, paint: Paint) -> list[str]:
    state = paint("green", "quorate") if cluster.quorate else paint("red", "no quorum")
    votes = f", {cluster.total} of {cluster.expected} votes" if cluster.expected else ""
    parts = " | ".join(", ".join(part) for part in cluster.parts)
    parted = f"; {paint('yellow', 'parted')}: {brief(parts)}" if len(cluster.parts) > 1 else ""
    cells = [["NODE", "ID", "VOTES", "ONLINE", "QUORATE", "SEES"]]
    styles: list[list[Style | None]] = [["dim"] * 6]
    for node in cluster.nodes:
        sees = brief(", ".join(node.sees)) or "-"
        row = [
            brief(node.name),
            str(node.id or "-"),
            str(node.votes or "-"),
            _yes(node.online),
            _yes(node.quorate),
            sees,
        ]
        cells.append(row)
        styles.append(["bold", None, None, _tint(node.online), _tint(node.quorate), None])
    notes = [f"{brief(node.path or node.name)}: {brief(node.why)}" for node in cluster.nodes if node.why]
    return [f"cluster {paint('bold', cluster.name)}: {state}{votes}{parted}", *columns(cells, styles, paint), *notes]


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _tint(value: bool | None) -> Style | None:
    return None if value is None else "green" if value else "red"


def data(clusters: Sequence[ClusterRow]) -> list[dict[str, Any]]:
    """The same as JSON data."""
    return [asdict(cluster) for cluster in clusters]
