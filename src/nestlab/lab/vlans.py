"""VLANs of segments: which networks a segment has, and which a card is on. Pure.

Each VLAN is a layer-3 network of its own, called `SEGMENT.VLAN`; the frames without a tag are the segment's own, called
like the segment. Machines reach each other on the same network only.
"""

from __future__ import annotations

from collections.abc import Iterable

from nestlab.lab.model import Lab, Link, Segment, Vlan

LOWEST, HIGHEST = 2, 4094
"""VLANs that a card can be on. 0 and 4095 are reserved (IEEE 802.1Q, 9.6), and 1 is what Linux bridges, as most
switches, call the frames without a tag."""


def network_name(segment: str, vlan: int | None) -> str:
    """What a network is called: `lan`, or `lan.20` for its VLAN 20. Names of segments have no dots."""
    return segment if vlan is None else f"{segment}.{vlan}"


def network_of(link: Link) -> str:
    """The network that a card has its addresses in."""
    return network_name(link.segment, link.vlan)


def segment_of(network: str) -> str:
    """The segment that a network is one of."""
    return network.partition(".")[0]


def networks(lab: Lab) -> tuple[Segment, ...]:
    """Every network of the lab, as if it were a segment: each segment, and behind it its VLANs, those that are named
    and those that cards are on, by number."""
    found: dict[str, dict[int, Vlan]] = {each.name: {vlan.vlan: vlan for vlan in each.vlans} for each in lab.segments}
    for placed in lab.walk():
        for link in placed.machine.links:
            if link.vlan is not None:
                found[link.segment].setdefault(link.vlan, Vlan(link.vlan))
    return tuple(
        each
        for segment in lab.segments
        for each in (
            segment,
            *(_as_segment(segment, found[segment.name][number]) for number in sorted(found[segment.name])),
        )
    )


def _as_segment(segment: Segment, vlan: Vlan) -> Segment:
    return Segment(network_name(segment.name, vlan.vlan), vlan.cidr, vlan.cidr6)


def tags(links: Iterable[Link]) -> bool:
    """Whether one of these cards needs frames with tags on the way to it."""
    return any(link.vlan is not None or link.trunk for link in links)
