"""What a step about a cluster is to reach, from the lab: a `Goal`. Pure but for the secrets it is given."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, ip_interface
from types import MappingProxyType

from nestlab.kinds.clustering import Do, Goal, Node
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.clusters import Cluster
from nestlab.lab.hosts_file import hostname_of
from nestlab.plan.steps import Form, Join, Leave


def cluster_of(step: Form | Join | Leave, blueprint: Blueprint, previous: Blueprint | None) -> Cluster:
    """The cluster that a step is about, as it is to be, or as it was where there is to be none."""
    known = [*blueprint.clusters, *(previous.clusters if previous is not None else ())]
    found = [cluster for cluster in known if cluster.name == step.cluster]
    return found[0] if found else Cluster(step.cluster, (), (), "")


def specs_of(step: Form | Join | Leave, blueprint: Blueprint, previous: Blueprint | None) -> list[Spec]:
    """The machines that a step is about: members of the lab file's cluster, or of the one that there was, and who
    leaves."""
    paths = dict.fromkeys(cluster_of(step, blueprint, previous).members)
    if isinstance(step, Leave) and step.machine:
        paths[step.machine] = None
    return [spec for path in paths if (spec := _spec(path, blueprint, previous)) is not None]


def goal(
    step: Form | Join | Leave,
    blueprint: Blueprint,
    previous: Blueprint | None,
    running: frozenset[str],
    secrets: Mapping[str, bytes],
    slowness: float = 1.0,
    cut: Mapping[str, frozenset[str]] = MappingProxyType({}),
) -> Goal:
    """`running`: the paths of machines that run when the step is done. `cut`: the segments that machines are cut off,
    by path."""
    cluster = cluster_of(step, blueprint, previous)
    wanted = any(each.name == cluster.name for each in blueprint.clusters)
    do, who = _whom(step)
    specs = specs_of(step, blueprint, previous)
    nodes = tuple(node_of(spec, cluster) for spec in specs)
    qdevice = _spec(cluster.qdevice, blueprint, previous) if cluster.qdevice and wanted else None
    asked = [*specs, *([qdevice] if qdevice is not None else [])]
    return Goal(
        cluster.name,
        do,
        who,
        nodes,
        frozenset(hostname_of(spec.path) for spec in asked if spec.path in running),
        frozenset(hostname_of(spec.path) for spec in specs if apart(spec.path, cluster, cut)),
        networks_of(cluster, specs),
        node_of(qdevice, cluster) if qdevice is not None else None,
        slowness,
        secrets,
    )


def apart(path: str, cluster: Cluster, cut: Mapping[str, frozenset[str]]) -> bool:
    """Whether a machine is cut off all links of its cluster."""
    return bool(cluster.links) and cut.get(path, frozenset()) >= set(cluster.links)


def _whom(step: Form | Join | Leave) -> tuple[Do, tuple[str, ...]]:
    if isinstance(step, Form):
        return "form", tuple(map(hostname_of, step.members))
    if isinstance(step, Join):
        return "join", (hostname_of(step.machine),)
    return "leave", (step.node,)


def node_of(spec: Spec, cluster: Cluster) -> Node:
    """A machine as a node of a cluster."""
    links = tuple(_address(spec, segment) for segment in cluster.links)
    return Node(spec.path, hostname_of(spec.path), links, _address(spec, cluster.management))


def networks_of(cluster: Cluster, specs: list[Spec]) -> Mapping[str, str]:
    """The IPv4 network of each role, as its members' cards have it."""
    found = {}
    for role, segment in cluster.roles.items():
        networks = (_interface(spec, segment) for spec in specs)
        if (network := next((each for each in networks if each is not None), None)) is not None:
            found[role] = str(network.network)
    return MappingProxyType(found)


def _spec(path: str | None, blueprint: Blueprint, previous: Blueprint | None) -> Spec | None:
    found = blueprint.by_path().get(path or "")
    return found if found is not None or previous is None else previous.by_path().get(path or "")


def _address(spec: Spec, segment: str) -> str:
    found = _interface(spec, segment)
    return str(found.ip) if found is not None else ""


def _interface(spec: Spec, segment: str) -> IPv4Interface | None:
    addresses = (ip_interface(each) for nic in spec.nics if nic.segment == segment for each in nic.addresses)
    return next((each for each in addresses if isinstance(each, IPv4Interface)), None)
