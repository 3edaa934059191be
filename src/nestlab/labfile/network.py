"""Checks of segments: networks apart, addresses inside and each given once, room for all."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from nestlab.lab.model import Link
from nestlab.lab.vlans import network_name, network_of
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

Complaint: TypeAlias = tuple[Node, str, str, str]
"""Where, at which key, what, and what to do."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, eq=False)
class Use:
    """A machine's card on a segment: where it is said, and the places of the addresses said with it."""

    path: str
    link: Link
    key: str
    node: Node
    places: Mapping[str, Node]

    def place(self, name: str) -> tuple[Node, str]:
        if name in self.places:
            return self.places[name], f"{self.key}.{name}"
        return self.node, self.key


def check(segments: Section | None, uses: Sequence[Use]) -> Iterator[Complaint]:
    """Everything that does not fit."""
    if segments is not None:
        stated = dict(_stated(segments))
        for version, name in ((4, "cidr"), (6, "cidr6")):
            yield from _overlaps(stated, version, name)
        by_network: dict[str, list[Use]] = {}
        for use in uses:
            by_network.setdefault(network_of(use.link), []).append(use)
        for network, users in by_network.items():
            about = stated.get(network)
            said: Mapping[str, Any] = about.values if about is not None else {}
            at: Mapping[str, Node] = about.at if about is not None else {}
            for name, address in (("cidr", "address"), ("cidr6", "address6")):
                yield from _addresses(network, said.get(name), name in at, name, address, users)
            if about is not None and "cidr" in said:
                yield from _room(at["cidr"], f"{about.key}.cidr", said["cidr"], users)
    yield from _macs(uses)


def _stated(segments: Section) -> Iterator[tuple[str, Section]]:
    """What the lab file says of each network, a segment or a VLAN of one."""
    for segment, about in segments.sections():
        yield segment, about
        for _, vlan in about.values.get("vlans", ()):
            if isinstance(vlan, Section) and "vlan" in vlan.values:
                yield network_name(segment, vlan.values["vlan"]), vlan


def _overlaps(sections: Mapping[str, Section], version: int, name: str) -> Iterator[Complaint]:
    stated = [
        (ipaddress.ip_network(about.values[name]), network, about.at[name])
        for network, about in sections.items()
        if name in about.values
    ]
    order = {segment: at for at, (_, segment, _) in enumerate(stated)}
    widest: tuple[Network, str, Node] | None = None
    # In order of their first address, a network overlaps an earlier one exactly if it begins before the furthest end.
    for entry in sorted(stated, key=lambda each: (int(each[0].network_address), -int(each[0].broadcast_address))):
        if widest is not None and int(entry[0].network_address) <= int(widest[0].broadcast_address):
            first, second = sorted((entry, widest), key=lambda each: order[each[1]])
            what = f"{second[0]} overlaps {first[0]} of the segment {first[1]} (line {first[2].line})"
            hint = f"Choose another IPv{version} network, or leave `{name}` out to have one chosen."
            yield second[2], f"{sections[second[1]].key}.{name}", what, hint
        if widest is None or int(entry[0].broadcast_address) > int(widest[0].broadcast_address):
            widest = entry


def _addresses(
    segment: str, cidr: str | None, tried: bool, name: str, address: str, uses: Sequence[Use]
) -> Iterator[Complaint]:
    """`tried`: a network is said, rightly or not."""
    network = ipaddress.ip_network(cidr) if cidr else None
    owners: dict[str, Use] = {}
    for use in uses:
        said = getattr(use.link, address)
        if said is None:
            continue
        node, key = use.place(address)
        owner = owners.setdefault(said, use)
        if network is None and not tried:
            yield node, key, f"{said} is in no network: the segment {segment} has no `{name}`", _say(use.link, name)
        elif network is not None and (wrong := _misplaced(ipaddress.ip_address(said), network)) is not None:
            yield node, key, f"{said} {wrong} of the segment {segment}", f"Choose one from {_usable(network)}."
        elif owner is not use:
            hint = "Give each its own; what an alias (*) repeats has the same address twice."
            yield (
                node,
                key,
                f"{said} is the address of {owner.path} already (line {owner.place(address)[0].line})",
                hint,
            )


def _say(link: Link, name: str) -> str:
    """How the network of a card is said."""
    if link.vlan is None:
        return f"Say the network too: `segments: {{{link.segment}: {{{name}: …}}}}`, or leave the address out."
    said = f"{{vlans: [{{vlan: {link.vlan}, {name}: …}}]}}"
    return f"Say its network too: `segments: {{{link.segment}: {said}}}`, or leave the address out."


def _misplaced(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: Network) -> str | None:
    if address not in network:
        return f"is outside {network}, the network"
    if address == network.network_address:
        return f"is the address of the network {network} itself, that"
    if address.version == 4 and address == network.broadcast_address:
        return f"is the broadcast address of {network}, the network"
    return None


def _usable(network: Network) -> str:
    last = network.broadcast_address - 1 if network.version == 4 else network.broadcast_address
    return f"{network.network_address + 1} to {last}"


def _room(node: Node, key: str, cidr: str, uses: Sequence[Use]) -> Iterator[Complaint]:
    """The first address is kept free, unless a machine says that it has it."""
    network = ipaddress.ip_network(cidr)
    first = str(network.network_address + 1)
    stated = {use.link.address for use in uses if use.link.address}
    room = network.num_addresses - 2 - (first not in stated)
    if len(uses) > room:
        what = f"{cidr} has room for {room} machine{'s' * (room != 1)}, and {len(uses)} are on this segment"
        yield node, key, what, "Take a larger network (a shorter prefix), or leave `cidr` out."


def _macs(uses: Sequence[Use]) -> Iterator[Complaint]:
    owners: dict[str, Use] = {}
    for use in uses:
        mac = use.link.mac
        if mac is None:
            continue
        owner = owners.setdefault(mac, use)
        if owner is not use:
            node, key = use.place("mac")
            hint = "Give each its own, or leave `mac` out."
            yield node, key, f"{mac} is a card of {owner.path} already (line {owner.place('mac')[0].line})", hint
