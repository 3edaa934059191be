"""Assigns a lab's machines to nodes and CPU types of a cluster, as a whole, and checks that they fit."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.engines.pve import cpu_types, placement
from nestlab.engines.pve.cpu_types import Cpu, Processor
from nestlab.engines.pve.placement import At, Room, Spot
from nestlab.engines.pve.resources import Found
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import Segment
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Denied, NodeUnreachable

NO_CPU = "-"
"""In place of a CPU: a container has its node's."""


@frozen
class Outlook:
    """One machine in `nestlab plan`. `vmid`: None before it is made. `cost`: what it means to have no KVM."""

    path: str
    node: str
    storage: str
    vmid: int | None
    cpu: str
    kvm: bool
    why: str
    cost: str = ""


@frozen
class Layout:
    """A spot for every machine of the lab's own level. `rooms`: the nodes, as they were."""

    pve: Pve
    spots: Mapping[str, Spot]
    rooms: tuple[Room, ...]
    parent: str = ""
    """What the machines are right inside of."""

    def cpu(self, spec: Spec) -> Cpu:
        """LabError when its lab file insists on KVM and its node has none."""
        here = self._processor(self.spots[spec.path].node)
        others = [] if spec.machine.node else [each.processor for each in self._others(here.node)]
        return cpu_types.choose(spec.machine, spec.path, here, others, self.pve.cpu)

    def outlook(self, spec: Spec, found: Found | None) -> Outlook:
        spot, cpu = self.spots[spec.path], self.cpu(spec)
        storage = spot.storage or (found.mark.storage if found else "")
        why = f"{spot.why}; {cpu.line}: {cpu.why}" if not spec.machine.container else f"{spot.why}; a container"
        if spec.machine.container:
            return Outlook(spec.path, spot.node, storage, found.guest.vmid if found else None, NO_CPU, True, why)
        vmid = found.guest.vmid if found else None
        return Outlook(spec.path, spot.node, storage, vmid, cpu.line, cpu.kvm, why, cpu.cost)

    def notes(self, blueprint: Blueprint, wanted: Collection[str]) -> list[str]:
        """Notes for the user before the lab is made: emulation, and CPUs that are shared."""
        specs = [spec for spec in blueprint.children(self.parent) if spec.path in wanted]
        found = placement.notes(specs, self.spots, self.rooms)
        costs: dict[tuple[str, str], list[str]] = {}
        for spec in specs:
            cpu = self.cpu(spec)
            if cpu.cost and not spec.machine.container:
                costs.setdefault((cpu.why, cpu.cost), []).append(f"{spec.path} ({_options(cpu)})")
        return [*(f"{', '.join(paths)}: {cost} ({why})." for (why, cost), paths in costs.items()), *found]

    def _processor(self, node: str) -> Processor:
        return next((room.processor for room in self.rooms if room.node == node), Processor(node))

    def _others(self, node: str) -> list[Room]:
        allowed = self.pve.nodes
        return [
            room for room in self.rooms if room.node != node and room.online and (not allowed or room.node in allowed)
        ]


def _options(cpu: Cpu) -> str:
    return f"cpu: {cpu.line}" if cpu.kvm else f"kvm: 0, cpu: {cpu.line}"


def decide(
    blueprint: Blueprint,
    pve: Pve,
    rooms: Sequence[Room],
    there: Mapping[str, At],
    wanted: Collection[str] | None,
    reaching: Collection[str],
    parent: str = "",
) -> Layout:
    """Of the machines right inside `parent`. LabError when it does not fit, or insists on what is not there."""
    spots = placement.place(blueprint, pve, rooms, there, wanted=wanted, reaching=reaching, parent=parent)
    found = Layout(pve, spots, tuple(rooms), parent)
    for spec in blueprint.children(parent):
        if wanted is None or spec.path in wanted:
            found.cpu(spec)
    return found


def parted(
    blueprint: Blueprint, path: str, target: str, there: Mapping[str, str], reaching: Collection[str]
) -> tuple[str, ...]:
    """The segments that a machine would lose on the node `target`, a line each. `there`: the nodes of machines."""
    lines = []
    for nic in blueprint[path].nics:
        others = [spec.path for spec in blueprint.children("") if nic.segment in {each.segment for each in spec.nics}]
        left = [each for each in others if each != path and there.get(each, target) != target]
        if nic.segment not in reaching and left:
            lines.append(f"Segment {nic.segment} ends at each node: on {target} it does not reach {', '.join(left)}.")
    return tuple(lines)


def outer_segments(blueprint: Blueprint) -> list[Segment]:
    """Those that machines of the lab's own level are on."""
    used = {nic.segment for spec in blueprint.children("") for nic in spec.nics}
    return [segment for segment in blueprint.segments if segment.name in used]


def cpus(rooms: Sequence[Room], pve: Pve) -> int:
    """Of all nodes that may be used and answer; at least 2."""
    return max(2, sum(room.cpus for room in rooms if room.online and (not pve.nodes or room.node in pve.nodes)))


def check_pool(rows: Iterable[Mapping[str, Any]], pve: Pve, where: str) -> None:
    """The pool is there and may be seen."""
    pools = sorted(str(row["pool"]) for row in rows if row.get("type") == "pool")
    if pve.pool not in pools:
        what = f"{where} has no pool {pve.pool} that can be seen; it has: {', '.join(pools) or 'none'}."
        raise LabError(what, hint="`nestlab pve setup` tells the commands that make it, and grant what is needed.")


async def check_bridges(api: Api, pve: Pve, blueprint: Blueprint, decided: Layout) -> None:
    """The bridges that the lab file names are on the nodes that need them."""
    needed: dict[str, set[str]] = {}
    own = {segment.name: segment.bridge for segment in blueprint.segments if segment.bridge}
    for spec in blueprint.children(""):
        node = decided.spots[spec.path].node
        named = {own[nic.segment] or "" for nic in spec.nics if nic.segment in own}
        named |= {pve.bridge} if spec.machine.internet and pve.bridge else set()
        if named:
            needed.setdefault(node, set()).update(named)
    tagged = {own.get(nic.segment) for spec in blueprint.children("") for nic in spec.nics if nic.port}
    lacking, blind = [], []
    for node, (bridges, listed) in zip(needed, await _bridges(api, needed), strict=True):
        if listed is not None:
            lacking += [
                f"Node {node} has no bridge {each} that can be used." for each in sorted(bridges - listed.keys())
            ]
            unaware = [each for each in sorted(bridges & tagged & listed.keys()) if not listed[each]]
            blind += [f"The bridge {each} of node {node} does not tell VLANs apart." for each in unaware]
    if lacking:
        raise LabError("\n".join(lacking), hint="Correct `bridge`, or grant SDN.Use: `nestlab pve check` tells where.")
    if blind:
        raise LabError(
            "\n".join(blind), hint="Say `VLAN aware` of it (Node > System > Network), or leave out `bridge`."
        )


async def _bridges(api: Api, needed: Mapping[str, set[str]]) -> list[tuple[set[str], dict[str, bool] | None]]:
    """For each node: the bridges that it needs, and those that it has, with whether they tell VLANs apart."""

    async def ask(node: str, bridges: set[str]) -> tuple[set[str], dict[str, bool] | None]:
        try:
            rows = await api.get(f"/nodes/{node}/network", {"type": "any_bridge"})
        except (Denied, NodeUnreachable):
            return bridges, None
        return bridges, {str(row["iface"]): _tells_apart(row) for row in rows}

    return list(await asyncio.gather(*(ask(node, bridges) for node, bridges in needed.items())))


def _tells_apart(row: Mapping[str, Any]) -> bool:
    """Whether a bridge or vnet tells VLANs apart; an Open vSwitch always does."""
    return row.get("type") == "OVSBridge" or bool(row.get("bridge_vlan_aware", row.get("vlanaware")))


async def routes(api: Api, pve: Pve, only: Collection[str] | None = None) -> tuple[str, ...]:
    """The IP networks that the nodes have addresses in, `only` of some of them."""
    rows = await api.get("/nodes")
    names = [str(row["node"]) for row in rows if row.get("status") == "online"]
    names = [name for name in names if not pve.nodes or name in pve.nodes]
    wanted = [name for name in names if only is None or name in only]

    async def ask(node: str) -> list[Mapping[str, Any]]:
        try:
            return list(await api.get(f"/nodes/{node}/network"))
        except (Denied, NodeUnreachable):
            return []

    found = await asyncio.gather(*(ask(node) for node in wanted))
    texts = {str(row[key]) for rows in found for row in rows for key in ("cidr", "cidr6") if row.get(key)}
    return tuple(sorted(set(filter(None, map(_network, texts)))))


def _network(text: str) -> str:
    """The network of an interface; "" for what is none: a node's file says what its owner wrote."""
    try:
        return str(ip_interface(text).network)
    except ValueError:
        return ""


async def overlaps(api: Api, blueprint: Blueprint, decided: Layout) -> list[str]:
    """Notes about segments of the lab that have addresses of networks of the nodes, without being bridges there."""
    own = {segment.name for segment in blueprint.segments if not segment.bridge}
    addresses = {
        (nic.segment, str(ip_interface(text).network))
        for spec in blueprint.specs
        for nic in spec.nics
        for text in nic.addresses
        if nic.segment in own
    }
    used = {spot.node for spot in decided.spots.values()}
    networks = [ip_network(text) for text in (await routes(api, decided.pve, used) if addresses else ())]
    found = []
    for segment, text in sorted(addresses):
        network = ip_network(text)
        hit = [each for each in networks if each.version == network.version and each.overlaps(network)]
        if hit:
            found.append(f"Segment {segment} ({text}) has addresses of {hit[0]}, which the nodes are in as well.")
    return found


@frozen
class Basis:
    """The nodes that a lab runs on. `nests`: whether its nodes can nest (None: they do not tell); `emulates`: one of
    them has no KVM; `line` says what they are."""

    nests: bool | None
    emulates: bool
    line: str


def platform(rooms: Sequence[Room], used: Collection[str], allowed: Collection[str], version: str, where: str) -> Basis:
    """The nodes that machines are on, else all that may be used (`allowed`; none named: all)."""
    usable = [room for room in rooms if room.online and (not allowed or room.node in allowed)]
    nodes = [room for room in rooms if room.node in used] or usable
    answers = [_nests(room.processor) for room in nodes]
    told = ", ".join(f"{room.node} ({_described(room.processor)})" for room in nodes) or "no node that answers"
    able = None if not answers or None in answers else all(answers)
    if any(answer is False for answer in answers):
        able = False
    emulates = any(room.processor.kvm is False for room in nodes)
    return Basis(able, emulates, one_line(f"Proxmox VE {version} at {where}: {told}"))


def _nests(processor: Processor) -> bool | None:
    if processor.kvm is False or processor.nests is False:
        return False
    return processor.nests if processor.kvm else None


def _described(processor: Processor) -> str:
    if processor.kvm is None:
        return f"its CPU is not told: {processor.why}"
    model = processor.model or processor.vendor or "a CPU that is not told"
    if not processor.kvm:
        return f"{model}, no KVM"
    flag = "svm" if "svm" in processor.flags else "vmx"
    unknown = "nesting not known yet" if processor.early else "nesting not told by this version"
    nesting = {True: "nesting on", False: "nesting off", None: unknown}[processor.nests]
    return f"{model}, {flag}, {nesting}"
