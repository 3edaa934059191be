"""Host names of a lab's machines, as /etc/hosts of each has them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from nestlab.lab.model import Lab, Machine
from nestlab.lab.vlans import network_of

_LOCAL = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""


_LOCAL_OF_NODES = _LOCAL.replace("::1 localhost ", "::1 ")
"""As Proxmox's installer writes it."""


_Cards: TypeAlias = tuple[str, str, dict[str, str], dict[str, str]]
"""A machine's path, its names, the network of its card on each segment, and what only that card is called."""


class HostsTables:
    """The texts of /etc/hosts of a lab's machines. `addresses` as in `Leases`.

    The machine `hv1/web` is `web.hv1.LAB.internal` and `web.hv1`, and `web` if no other machine is called so. These
    names stand for its address on the first of its networks that the reader is on too (each VLAN is one); where they
    share none, on its first. One with several cards is `web.hv1-SEGMENT` on each. A machine on no segment has no line.
    A machine's own name always wins over a name made from a segment's. A node of Proxmox VE reads IPv4 alone.
    `born`: the paths that addresses are kept under, where they are others.
    """

    def __init__(
        self, lab: Lab, addresses: Mapping[str, tuple[str, str]], born: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._addresses, self._born = addresses, born
        placed = list(lab.walk())
        count = Counter(hostname_of(each.path) for each in placed)
        taken = {dotted(each.path) for each in placed} | set(count)
        self._cards: list[_Cards] = []
        for each in placed:
            name, short = dotted(each.path), hostname_of(each.path)
            names = f"{name}.{lab.name}.internal {name}"
            if short != name and count[short] == 1:
                names += f" {short}"
            segments = {link.segment: network_of(link) for link in each.machine.links}
            own = {}
            for segment in segments if len(segments) > 1 else ():
                if (alias := f"{name}-{segment}") not in taken:
                    taken.add(alias)
                    own[segment] = alias
            if segments:
                self._cards.append((each.path, names, segments, own))
        # Only where a machine has several cards does it depend on the reader which of them is meant.
        self._deciding = frozenset(
            network for _, _, segments, _ in self._cards if len(segments) > 1 for network in segments.values()
        )
        self._texts: dict[tuple[frozenset[str], bool], str] = {}

    def of(self, reader: Machine) -> str:
        """The text for one machine: the same string for all that reach the others in the same way."""
        reached = self._deciding & set(map(network_of, reader.links))
        four = reader.hypervisor == "pve"
        if (reached, four) not in self._texts:
            lines = "".join(self._lines(cards, reached) for cards in self._cards)
            self._texts[reached, four] = (_LOCAL_OF_NODES if four else _LOCAL) + (_by_ipv4(lines) if four else lines)
        return self._texts[reached, four]

    def _lines(self, cards: _Cards, reached: frozenset[str]) -> str:
        path, names, segments, own = cards
        meant = next((segment for segment, network in segments.items() if network in reached), next(iter(segments)))
        lines = self._of_card(path, meant, f"{names} {own[meant]}" if meant in own else names)
        for segment in segments:
            if segment != meant and segment in own:
                lines += self._of_card(path, segment, own[segment])
        return lines

    def _of_card(self, path: str, segment: str, names: str) -> str:
        return "".join(f"{address} {names}\n" for address in self._addresses[f"{self._born.get(path, path)}@{segment}"])


def _by_ipv4(lines: str) -> str:
    """Lines without those of IPv6: a node of Proxmox VE, and its cluster, are at the one address that its name stands
    for, and what is first of several depends on who asks (pve-cluster, lookup_node_ip)."""
    return "".join(f"{line}\n" for line in lines.splitlines() if ":" not in line.partition(" ")[0])


def dotted(path: str) -> str:
    """`web.hv1` for `hv1/web`: the name that is unique in the lab."""
    return ".".join(reversed(path.split("/")))


def hostname_of(path: str) -> str:
    """`web` for `hv1/web`: what the machine calls itself."""
    return path.rpartition("/")[2]
