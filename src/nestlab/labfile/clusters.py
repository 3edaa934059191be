"""Clusters of a lab file as values, and what is wrong with them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nestlab import kinds
from nestlab.base.did_you_mean import meant
from nestlab.base.errors import Mistake
from nestlab.kinds.clustering import Clustering
from nestlab.lab.clusters import LINKS, ROLES, Cluster, even
from nestlab.lab.hosts_file import hostname_of
from nestlab.lab.model import Lab, Link, Machine, Placed, format_size, level_of
from nestlab.lab.vlans import network_of
from nestlab.labfile import high_availability
from nestlab.labfile.network import Complaint
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

QNETD = "corosync-qnetd"
"""The package of a qdevice's machine."""


def notes(lab: Lab, root: Section) -> Iterator[Mistake]:
    """What is no mistake, and rarely meant."""
    said = root.values.get("clusters")
    for cluster in lab.clusters:
        if isinstance(said, Section) and (note := even(cluster)):
            yield said.keys[cluster.name].mistake(note.rstrip("."), key=f"clusters.{cluster.name}")


@dataclass(eq=False)
class Clusters:
    """Reads them. `machines`: those of the lab, by path."""

    machines: Mapping[str, Placed]
    segments: Section | None
    found: list[Cluster] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    _owners: dict[str, str] = field(default_factory=dict)
    """By machine: the cluster that it is in."""

    def read(self, said: Any) -> None:
        """All of them, in `found`; what is wrong with them, in `complaints`."""
        if not isinstance(said, Section):
            return
        for name, value in said.values.items():
            self._cluster(name, value, said.at[name], said.keys[name], f"clusters.{name}")

    def _wrong(self, node: Node, key: str, what: str, hint: str = "") -> None:
        self.complaints.append((node, key, what, hint))

    def _cluster(self, name: str, value: Any, at: Node, named: Node, key: str) -> None:
        about = value if isinstance(value, Section) else None
        entries = value if about is None else about.values.get("members", [])
        key_of_members = key if about is None else f"{key}.members"
        if not entries and (about is None or "members" in about.values):
            self._wrong(at, key_of_members, f"cluster {name} has no members", "Name some, as in `[hv1, hv2, hv3]`.")
        members = self._members(name, entries or [], key_of_members)
        networks = about.values.get("networks") if about is not None else None
        roles = self._roles(name, members, networks if isinstance(networks, Section) else None, named, key)
        qdevice = self._qdevice(name, members, about, roles) if about is not None else None
        links = tuple(roles[role] for role in LINKS if role in roles)
        management = roles.get("management", "")
        rest = (roles.get("storage"), roles.get("migration"), qdevice)
        self.found.append(Cluster(name, tuple(each.path for each in members), links, management, *rest))

    def _members(self, name: str, entries: list[tuple[Node, str]], key: str) -> list[Placed]:
        members: list[Placed] = []
        for at, (node, path) in enumerate(entries):
            place = f"{key}[{at}]"
            placed = self._machine(node, place, path)
            if placed is None:
                continue
            if path in (each.path for each in members):
                self._wrong(node, place, f"{path} is here twice", "Name each member once.")
            elif self._may_be(node, place, name, placed, members):
                self._owners[path] = name
                members.append(placed)
        return members

    def _machine(self, node: Node, key: str, path: str) -> Placed | None:
        if path not in self.machines:
            inside = [each for each in self.machines if hostname_of(each) == path]
            hint = f"Say it with what it is in: `{inside[0]}`." if len(inside) == 1 else ""
            self._wrong(node, key, f"there is no machine `{path}`", hint or meant(path, self.machines, listed=True))
        return self.machines.get(path)

    def _may_be(self, node: Node, key: str, name: str, placed: Placed, members: list[Placed]) -> bool:
        """Whether a machine may be a member beside those before it."""
        path, kind = placed.path, placed.machine.hypervisor
        clustering = clustering_of(placed.machine)
        if kind is None:
            able = ", ".join(f"`hypervisor: {each}`" for each in _able()) or "a hypervisor that can"
            self._wrong(node, key, f"{path} is a plain guest, and members are hypervisors", f"Make it {able}.")
            return False
        if clustering is None:
            able = ", ".join(_able()) or "none yet"
            what = f"nestlab makes no clusters of {kind} hypervisors, as {path} is one"
            self._wrong(node, key, what, f"Kinds of which it makes them: {able}.")
            return False
        if (owner := self._owners.get(path)) is not None:
            self._wrong(node, key, f"{path} is in cluster {owner} already", "A machine is in one cluster.")
            return False
        if members and (first := members[0]).machine.hypervisor != kind:
            what = f"{path} is a {kind}, and {first.path} a {first.machine.hypervisor}: members are of one kind"
            self._wrong(node, key, what, "Make two clusters of them, or all of one kind.")
            return False
        if members and (first := members[0]).level != placed.level:
            what = f"{path} is on level {level_of(path)}, and {first.path} on level {first.level}"
            self._wrong(node, key, what, "Members are on one level.")
            return False
        same = [each.path for each in members if hostname_of(each.path) == hostname_of(path)]
        if same:
            what = f"{path} and {same[0]} have the same host name, by which a cluster knows its members"
            self._wrong(node, key, what, "Rename one of them.")
            return False
        need = _memory(placed.machine, clustering)
        if placed.machine.memory < need:
            has = format_size(placed.machine.memory)
            what = f"{path} has {has}, and a member of a cluster needs more: corosync locks its own"
            self._wrong(node, key, what, f"Give it `memory: {format_size(need)}` or more.")
        return True

    def _roles(self, name: str, members: list[Placed], said: Section | None, named: Node, key: str) -> dict[str, str]:
        """The segment of each role. A mistake for one that not all members are on."""
        given: dict[str, str] = dict(said.values) if said is not None else {}
        roles: dict[str, str] = {}
        if said is not None:
            roles = {role: given[role] for role in ROLES if role in given and self._is_segment(said, role, given[role])}
        if not members:
            return roles
        first = members[0].machine.links
        if not first and not roles:
            what = f"{members[0].path} is on no segment, and cluster {name} needs one"
            self._wrong(named, key, what, "Give all members a card on one: `segments: [lan]`.")
            return roles
        if "management" not in given and first:
            roles["management"] = first[0].segment
        if "link0" not in given and "management" in roles:
            roles["link0"] = roles["management"]
        if roles.get("link1") == roles.get("link0") and said is not None and "link1" in roles:
            what = f"`link1` is {roles['link1']}, as `link0`: where that fails both do"
            self._wrong(said.at["link1"], f"{said.key}.link1", what, "Say another segment, or leave it out.")
        for role, segment in roles.items():
            where = (said.at[role], f"{said.key}.{role}") if said is not None and role in said.at else (named, key)
            if said is None and role != "management":
                continue  # the same segment, and the same mistake
            self._all_on(role, segment, members, *where)
        return roles

    def _is_segment(self, said: Section, role: str, segment: str) -> bool:
        known = list(self.segments.keys) if self.segments is not None else []
        if segment not in known:
            hint = meant(segment, known, listed=True)
            self._wrong(said.at[role], f"{said.key}.{role}", f"there is no segment `{segment}`", hint)
        return segment in known

    def _all_on(self, role: str, segment: str, members: list[Placed], node: Node, key: str) -> None:
        """Mistakes for members that are not on a segment, or not on the same VLAN of it."""
        cards: dict[str, Link] = {}
        for placed in members:
            card = next((link for link in placed.machine.links if link.segment == segment), None)
            if card is None:
                what = f"{placed.path} has no card on {segment}, the {role} network of its cluster"
                self._wrong(node, key, what, f"Give {placed.path} one: `segments: [{segment}]`.")
                continue
            cards[placed.path] = card
        networks = {network_of(card): path for path, card in reversed(cards.items())}
        if len(networks) > 1:
            other, one = list(networks.values())[-2:]
            what = f"{one} and {other} are on different VLANs of {segment}, and cannot reach each other there"
            self._wrong(node, key, what, "Put all members on the same VLAN, or on none.")

    def _qdevice(self, name: str, members: list[Placed], about: Section, roles: Mapping[str, str]) -> str | None:
        path = about.values.get("qdevice")
        if not isinstance(path, str):
            return None
        node, key = about.at["qdevice"], f"{about.key}.qdevice"
        placed = self._machine(node, key, path)
        if placed is None:
            return None
        machine, management = placed.machine, roles.get("management")
        kind = members[0].machine.hypervisor if members else ""
        makes = clustering_of(members[0].machine) if members else None
        if makes is not None and makes.qdevice_packages is None:
            what = f"nestlab sets up no qdevice for clusters of {kind} yet"
            self._wrong(node, key, what, "Leave it out: an odd number of members stands the loss of one without it.")
        elif path in (each.path for each in members):
            self._wrong(node, key, f"{path} is a member, and its vote would be lost with it", "Choose another machine.")
        elif machine.hypervisor is not None or machine.image.base != "debian" or not machine.by_ssh:
            what = f"{path} cannot be the qdevice: it is a plain machine of the image `debian`"
            self._wrong(node, key, what, f"Add one: `{path}: {{image: debian, segments: [{management or 'lan'}]}}`.")
        elif management and management not in (link.segment for link in machine.links):
            what = f"{path} has no card on {management}, by which members would reach it"
            self._wrong(node, key, what, f"Give it one: `segments: [{management}]`.")
        elif len(members) % 2:
            what = f"cluster {name} has {len(members)} members: with an odd number a qdevice makes it weaker"
            self._wrong(node, key, what, "Leave it out. (It would have as many votes as all but one member.)")
        return path


def with_clusters(lab: Lab, root: Section) -> tuple[Lab, list[Complaint]]:
    """The lab with the clusters that its file says, and with what they ask of its machines' images."""
    said = root.values.get("clusters")
    if not isinstance(said, Section):
        return lab, list(high_availability.mistakes(lab, root))
    reading = Clusters({placed.path: placed for placed in lab.walk()}, root.values.get("segments"))
    reading.read(said)
    packages: dict[str, tuple[str, ...]] = {}
    for cluster in reading.found:
        for path in cluster.members if cluster.qdevice is not None else ():
            clustering = clustering_of(reading.machines[path].machine)
            packages[path] = clustering.qdevice_packages or () if clustering is not None else ()
        if cluster.qdevice is not None:
            packages[cluster.qdevice] = (QNETD,)
    machines = tuple(_with_packages(machine, machine.name, packages) for machine in lab.machines)
    lab = replace(lab, machines=machines, clusters=tuple(reading.found))
    return lab, [*reading.complaints, *high_availability.mistakes(lab, root)]


def _with_packages(machine: Machine, path: str, packages: Mapping[str, tuple[str, ...]]) -> Machine:
    inside = tuple(_with_packages(each, f"{path}/{each.name}", packages) for each in machine.machines)
    image = machine.image
    if more := packages.get(path):
        image = replace(image, packages=tuple(dict.fromkeys((*image.packages, *more))))
    return replace(machine, image=image, machines=inside)


def _memory(machine: Machine, clustering: Clustering) -> int:
    """Bytes that a member needs at least."""
    inside = sum(each.memory for each in machine.machines)
    overhead = kinds.kinds()[machine.hypervisor or ""].overhead
    return max(clustering.memory, inside + overhead + clustering.extra if inside else 0)


def clustering_of(machine: Machine) -> Clustering | None:
    """How clusters are made of machines such as this; None where nestlab makes none."""
    kind = kinds.kinds().get(machine.hypervisor or "")
    return kind.clustering if kind is not None else None


def _able() -> list[str]:
    return [kind.name for kind in kinds.kinds().values() if kind.clustering is not None]
