"""Proves clusters from every member's own view: each says itself that it is one of all, and that there is a quorum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nestlab.base.printable import brief
from nestlab.base.proofs import Proof
from nestlab.kinds.clustering import View
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.clusters import Cluster
from nestlab.lab.hosts_file import hostname_of
from nestlab.verbs import cluster_work, verify_high_availability

if TYPE_CHECKING:
    from nestlab.verbs.nest import Nest

SHOWN = 8
"""Names of nodes in one claim."""


async def prove(nest: Nest, blueprint: Blueprint, down: frozenset[str]) -> list[Proof]:
    """The claim `cluster NAME` of every member that runs, and `high availability` of what a cluster watches over."""
    specs = [spec for spec in cluster_work.members(blueprint) if spec.path not in down]
    found = proofs(blueprint, await cluster_work.views(nest.host, specs), down)
    return [*found, *await verify_high_availability.prove(nest, blueprint.specs, down)]


def proofs(blueprint: Blueprint, views: Mapping[str, View], down: frozenset[str]) -> list[Proof]:
    """What follows from what members say, by path. `down`: those that do not run."""
    found = []
    for cluster in blueprint.clusters:
        for path in cluster.members:
            if path not in down:
                found.append(_of(blueprint[path], cluster, views.get(path)))
    return found


def _of(spec: Spec, cluster: Cluster, view: View | None) -> Proof:
    claim = f"cluster {cluster.name}"

    def proof(ok: bool, seen: str, why: str = "") -> Proof:
        return Proof(spec.path, spec.level, claim, ok, seen, why)

    if view is None:
        return proof(False, "it does not say what it is in", "nobody knows whether it takes part")
    if view.cluster != cluster.name:
        other = f"cluster {brief(view.cluster)}" if view.cluster else "no cluster"
        return proof(False, f"it is in {other}", "`nestlab up` makes it a member")
    paths = {hostname_of(path): path for path in cluster.members}
    wrong = []
    if missing := [paths[name] for name in paths if name not in {member.name for member in view.members}]:
        wrong.append(f"it does not know {_listed(missing)}")
    if strange := [member.name for member in view.members if member.name not in paths]:
        wrong.append(f"it knows {_listed(strange)}, which the lab file does not")
    if lost := [path for name, path in paths.items() if name not in view.online and path not in missing]:
        wrong.append(f"it does not see {_listed(lost)} ({_links(cluster)})")
    wrong += [f"{brief(link)} does not carry ({_links(cluster)})" for link in view.down if not lost]
    if view.why:
        wrong.append(view.why)
    votes = f"{view.total} of {view.expected} votes"
    if wrong:
        left = f"; quorate with {votes}" if view.quorate else ""
        why = "it goes on without what it lacks" if view.quorate else "without a quorum nothing of the cluster changes"
        return proof(False, "; ".join(map(brief, wrong)) + left, why)
    device = f", qdevice {brief(view.qdevice)}" if view.qdevice else ""
    return proof(True, f"quorate: {votes}, with {_listed(list(paths.values()))} ({_links(cluster)}){device}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(brief, names[:SHOWN])) + more


def _links(cluster: Cluster) -> str:
    return ", ".join(f"link{number} {segment}" for number, segment in enumerate(cluster.links))
