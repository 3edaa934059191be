"""Host names of a lab's machines, as /etc/hosts of each has them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from nestlab.lab.model import Lab, Machine

_LOCAL = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""


_Cards: TypeAlias = tuple[str, str, tuple[str, ...], dict[str, str]]
"""A machine's path, its names, its segments, and by segment what only that card is called."""


class HostsTables:
    """The texts of /etc/hosts of a lab's machines. `addresses` as in `Leases`.

    The machine `hv1/web` is `web.hv1.LAB.internal` and `web.hv1`, and `web` if no other machine is called so. These
    names stand for its address on the first of its segments that the reader is on too; where they share none, on its
    first. One with several cards is `web.hv1-SEGMENT` on each. A machine on no segment has no line. A machine's own
    name always wins over a name made from a segment's.
    """

    def __init__(self, lab: Lab, addresses: Mapping[str, tuple[str, str]]) -> None:
        self._addresses = addresses
        placed = list(lab.walk())
        count = Counter(hostname_of(each.path) for each in placed)
        taken = {dotted(each.path) for each in placed} | set(count)
        self._cards: list[_Cards] = []
        for each in placed:
            name, short = dotted(each.path), hostname_of(each.path)
            names = f"{name}.{lab.name}.internal {name}"
            if short != name and count[short] == 1:
                names += f" {short}"
            segments = tuple(link.segment for link in each.machine.links)
            own = {}
            for segment in segments if len(segments) > 1 else ():
                if (alias := f"{name}-{segment}") not in taken:
                    taken.add(alias)
                    own[segment] = alias
            if segments:
                self._cards.append((each.path, names, segments, own))
        # Only where a machine has several cards does it depend on the reader which of them is meant.
        self._deciding = frozenset(s for _, _, segments, _ in self._cards if len(segments) > 1 for s in segments)
        self._texts: dict[frozenset[str], str] = {}

    def of(self, reader: Machine) -> str:
        """What a machine is told: the same string for all that reach the others in the same way."""
        reached = self._deciding & {link.segment for link in reader.links}
        if reached not in self._texts:
            self._texts[reached] = _LOCAL + "".join(self._lines(cards, reached) for cards in self._cards)
        return self._texts[reached]

    def _lines(self, cards: _Cards, reached: frozenset[str]) -> str:
        path, names, segments, own = cards
        meant = next((segment for segment in segments if segment in reached), segments[0])
        lines = self._of_card(path, meant, f"{names} {own[meant]}" if meant in own else names)
        for segment in segments:
            if segment != meant and segment in own:
                lines += self._of_card(path, segment, own[segment])
        return lines

    def _of_card(self, path: str, segment: str, names: str) -> str:
        return "".join(f"{address} {names}\n" for address in self._addresses[f"{path}@{segment}"])


def dotted(path: str) -> str:
    """`web.hv1` for `hv1/web`: the name that is unique in the lab."""
    return ".".join(reversed(path.split("/")))


def hostname_of(path: str) -> str:
    """`web` for `hv1/web`: what the machine calls itself."""
    return path.rpartition("/")[2]
