"""Networks and addresses of a lab: those stated, those leased before, and new leases for the rest. Pure.

The same lab on the same computer gets the same addresses, and what has been leased stays as long as it can.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from nestlab.base.errors import LabError
from nestlab.base.typed import parsed
from nestlab.lab.blueprint import Leases, Subnet
from nestlab.lab.model import Lab, Link
from nestlab.lab.vlans import network_of, networks, segment_of

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Span: TypeAlias = tuple[int, int]

POOLS = ("10.64.0.0/10", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15")
"""Where leased IPv4 networks come from, the first that has room: RFC 1918, and when all of that is routed elsewhere
the shared address space of RFC 6598 and the benchmark networks of RFC 2544."""

MANAGEMENT_POOLS = ("10.128.0.0/9", *POOLS)

FIRST_HOST = 11
"""Leased addresses begin with .11; .1 is never leased, and those between only when nothing else is left."""


def lease(lab: Lab, previous: Leases, taken: Collection[str], born: Mapping[str, str] = MappingProxyType({})) -> Leases:
    """Everything the lab leaves open, settled. Doing it again with the result changes nothing.

    `taken`: networks (CIDR) that the lab's host has routes to. `born`: see `away.made_under`. LabError when a stated
    network overlaps one of them, when no network is free, or when a segment has more machines than addresses.

    Kept from `previous`: a segment's network unless a stated one overlaps it or it has become too small for its
    machines; a level's management network unless a segment overlaps it; an address unless it left its network or
    another machine states it.
    """
    lab = replace(lab, segments=networks(lab))
    used: dict[str, list[Link]] = {segment.name: [] for segment in lab.segments}
    cards: dict[str, list[str]] = {segment.name: [] for segment in lab.segments}
    depth = 0
    for placed in lab.walk():
        depth = max(depth, placed.level)
        for link in placed.machine.links:
            used[network_of(link)].append(link)
            cards[network_of(link)].append(born.get(placed.path, placed.path))
    subnets, management = _Networks(lab, taken).settle(
        previous, {name: len(links) for name, links in used.items()}, depth
    )
    addresses: dict[str, tuple[str, str]] = {}
    for segment in lab.segments:
        name = segment.name
        keys = [f"{path}@{segment_of(name)}" for path in cards[name]]
        addresses.update(_addresses(name, keys, used[name], subnets[name], previous))
    return Leases(subnets=subnets, addresses=addresses, management=management)


@dataclass
class _Networks:
    """The networks of a lab while they are chosen. `held`: those that are settled, by IP version, first and last."""

    lab: Lab
    taken: Collection[str]
    held: dict[int, list[Span]] = field(default_factory=lambda: {4: [], 6: []})

    def settle(
        self, previous: Leases, machines: dict[str, int], depth: int
    ) -> tuple[dict[str, Subnet], dict[int, str]]:
        """By segment and by level. What is stated comes first, then what was leased, then what is new."""
        routes = [route for text in self.taken if (route := _network(text)) is not None and route.prefixlen]
        four: dict[str, str] = {}
        six: dict[str, str] = {}
        for segment in self.lab.segments:
            for chosen, stated in ((four, segment.cidr), (six, segment.cidr6)):
                if stated is not None:
                    chosen[segment.name] = self.stated(segment.name, stated, routes)
        for segment in self.lab.segments:
            before = previous.subnets.get(segment.name)
            if before is None:
                continue
            enough = segment.name not in four and _room(before.cidr) >= machines[segment.name]
            if enough and self.keep(before.cidr):
                four[segment.name] = before.cidr
            if segment.name not in six and self.keep(before.cidr6):
                six[segment.name] = before.cidr6
        levels = {
            level: previous.management[level]
            for level in range(1, depth + 1)
            if level in previous.management and self.keep(previous.management[level])
        }
        for route in routes:
            self.hold(route)
        for segment in self.lab.segments:
            if segment.name not in four:
                prefix = next(bits for bits in range(24, 7, -1) if 2 ** (32 - bits) - 3 >= machines[segment.name])
                four[segment.name] = self.new(POOLS, prefix, segment.name)
            if segment.name not in six:
                six[segment.name] = self.new_ula(segment.name)
        for level in range(1, depth + 1):
            if level not in levels:
                levels[level] = self.new(MANAGEMENT_POOLS, 24, f"level {level}")
        subnets = {segment.name: Subnet(four[segment.name], six[segment.name]) for segment in self.lab.segments}
        return subnets, dict(sorted(levels.items()))

    def stated(self, segment: str, text: str, routes: list[Network]) -> str:
        network = ipaddress.ip_network(text)
        clash = next((route for route in routes if route.version == network.version and route.overlaps(network)), None)
        if clash is not None:
            raise LabError(
                f"The network {network} of the segment {segment} collides with this computer's route to {clash}.",
                hint=f"Choose another network for {segment}, or leave it out to have one chosen.",
            )
        self.hold(network)
        return text

    def hold(self, network: Network) -> None:
        self.held[network.version].append(_span(network))

    def is_free(self, network: Network) -> bool:
        first, last = _span(network)
        return not any(first <= end and begin <= last for begin, end in self.held[network.version])

    def keep(self, text: str) -> bool:
        """Hold a network that was leased before, if nothing that counts more overlaps it."""
        network = ipaddress.ip_network(text)
        if not self.is_free(network):
            return False
        self.hold(network)
        return True

    def new(self, pools: tuple[str, ...], prefix: int, holder: str) -> str:
        """A free network: the search begins where a digest of the names points, so that labs seldom meet."""
        blocked = sorted(self.held[4])
        size = 1 << (32 - prefix)
        for pool in map(ipaddress.ip_network, pools):
            first, last = _span(pool)
            count = (last + 1 - first) // size
            start = first + _number(self.lab.name, holder) % max(count, 1) * size
            for low, high in ((start, last), (first, start - 1)):
                free = _first_free(blocked, low, high, size)
                if free is not None:
                    network = ipaddress.IPv4Network((free, prefix))
                    self.hold(network)
                    return str(network)
        raise LabError(
            f"No IPv4 network with a /{prefix} is free for {holder} of the lab {self.lab.name}:"
            f" this computer has routes to all of {', '.join(pools)}.",
            hint="State a `cidr` for the segments, or take away routes that are wider than needed (ip route).",
        )

    def new_ula(self, segment: str) -> str:
        """A /64 with a random-looking global ID (RFC 4193), derived from the names."""
        for attempt in range(1 << 16):
            tail = _number(self.lab.name, segment, str(attempt)) % (1 << 56)
            network = ipaddress.IPv6Network(((0xFD << 120) | (tail << 64), 64))
            if self.is_free(network):
                self.hold(network)
                return str(network)
        raise LabError(
            f"No IPv6 network of fd00::/8 is free for the segment {segment}: this computer has routes to all of it.",
            hint="State a `cidr6` for the segment, or take away routes that are wider than needed (ip -6 route).",
        )


def _first_free(blocked: list[Span], low: int, high: int, size: int) -> int | None:
    """The first aligned block of `size` in low..high (`low` is aligned) that overlaps none of `blocked` (sorted)."""
    at = low
    for first, last in blocked:
        if at + size - 1 < first:
            break
        if last >= at:
            at = (last // size + 1) * size
    return at if at + size - 1 <= high else None


def _addresses(
    segment: str, keys: list[str], links: list[Link], subnet: Subnet, previous: Leases
) -> Iterator[tuple[str, tuple[str, str]]]:
    """(key, addresses) of every card on a segment."""
    net4, net6 = ipaddress.IPv4Network(subnet.cidr), ipaddress.IPv6Network(subnet.cidr6)
    base4, base6 = int(net4.network_address), int(net6.network_address)
    before = [previous.addresses.get(key, ("", "")) for key in keys]
    size4 = net4.num_addresses
    hosts4 = [_host(link.address, base4, size4) for link in links]
    hosts6 = [_host(link.address6, base6, net6.num_addresses) for link in links]
    used4, used6 = set(hosts4), set(hosts6)
    for at, (old4, old6) in enumerate(before):
        if hosts4[at] is None:
            host = _host(old4, base4, size4)
            if host is not None and 1 < host < size4 - 1 and host not in used4:
                hosts4[at] = host
                used4.add(host)
        if hosts6[at] is None:
            host = _host(old6, base6, net6.num_addresses)
            if host is not None and host > 1 and host not in used6:
                hosts6[at] = host
                used6.add(host)
    free4 = _free(used4, [range(FIRST_HOST, size4 - 1), range(2, min(FIRST_HOST, size4 - 1))])
    for at, key in enumerate(keys):
        four, six = hosts4[at], hosts6[at]
        if four is None:
            four = next(free4, None)
            if four is None:
                raise _full(segment, subnet.cidr, len(keys))
        if six is None:
            # 10.77.0.11 goes with fd77::11: the same digits, read as hexadecimal.
            same = int(str(four), 16)
            six = same if same not in used6 else next(_free(used6, [range(0x10000, 1 << 64)]))
            used6.add(six)
        yield key, (str(ipaddress.IPv4Address(base4 + four)), str(ipaddress.IPv6Address(base6 + six)))


def _full(segment: str, cidr: str, machines: int) -> LabError:
    return LabError(
        f"The segment {segment} ({cidr}) has room for {_room(cidr)} machines, and {machines} are on it.",
        hint=f"State a larger `cidr` for {segment} in the lab file, with a shorter prefix.",
    )


def _free(used: set[int | None], ranges: list[range]) -> Iterator[int]:
    return (host for hosts in ranges for host in hosts if host not in used)


def _host(address: str | None, base: int, size: int) -> int | None:
    """The number of an address within its network; None for none, or one outside."""
    if not address:
        return None
    host = int(ipaddress.ip_address(address)) - base
    return host if 0 < host < size else None


def _room(cidr: str) -> int:
    return int(ipaddress.ip_network(cidr).num_addresses) - 3


def _number(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:16])


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _span(network: Network) -> Span:
    return int(network.network_address), int(network.broadcast_address)


def leases_to_json(leases: Leases) -> str:
    data = {
        "subnets": {name: [subnet.cidr, subnet.cidr6] for name, subnet in leases.subnets.items()},
        "addresses": {key: list(pair) for key, pair in leases.addresses.items()},
        "management": {str(level): cidr for level, cidr in leases.management.items()},
    }
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


def leases_from_json(text: str) -> Leases:
    """Reads the text that `leases_to_json` wrote. LabError if it is anything else."""
    try:
        data: Any = parsed(text)
        subnets = {str(name): Subnet(_cidr(four), _cidr(six)) for name, (four, six) in data["subnets"].items()}
        pairs = data["addresses"].items()
        addresses = {str(key): (_address(four), _address(six)) for key, (four, six) in pairs}
        management = {int(level): _cidr(cidr) for level, cidr in data["management"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise LabError(
            f"The leases of the lab are damaged: {error}.",
            hint="Remove the file; addresses are then chosen anew, and machines made anew where they change.",
        ) from error
    return Leases(subnets=subnets, addresses=addresses, management=management)


def _cidr(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))
