"""Who is asked to reach whom when segments are proven. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from nestlab.base.frozen import frozen
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import level_of
from nestlab.lab.vlans import network_name

ALL_PAIRS = 6
"""Segments with more machines than this are proven in a ring: each machine reaches the next."""


@frozen
class Pair:
    """That a machine and `other` reach each other: `pinger` is one of the two, `addresses` are those of its peer. An
    echo takes both ways, so one of them asks."""

    other: str
    pinger: str
    addresses: tuple[str, ...]


Pairs = Mapping[str, tuple[Pair, ...]]
"""By network, a segment or a VLAN of one: whom a machine should reach there."""

Reached = Mapping[str, Mapping[str, bool]]
"""By machine that asked: whether each address answered."""


def pairs_of(blueprint: Blueprint) -> dict[str, dict[str, tuple[Pair, ...]]]:
    """By machine and network: whom it should reach. The outer of two asks, for whom it is cheaper; among machines of
    one level the asking is shared out evenly, between the outermost that they are in. Containers on a Proxmox VE itself
    are only asked for: nothing runs commands in them. A machine that nestlab does not log in to is not asked for
    either: whether it has taken the address that is kept for it is its own affair."""
    on: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for spec in blueprint.specs:
        for nic in spec.nics if spec.machine.by_ssh else ():
            if nic.addresses:
                network = network_name(nic.segment, nic.vlan)
                on.setdefault(network, []).append((spec.path, tuple(a.split("/")[0] for a in nic.addresses)))
    pairs: dict[str, dict[str, tuple[Pair, ...]]] = {spec.path: {} for spec in blueprint.specs}
    mute = {spec.path for spec in blueprint.specs if spec.sealed}
    for network, members in on.items():
        addresses = dict(members)
        for asking, asked in _asking([path for path, _ in members], mute):
            for mine, other in ((asking, asked), (asked, asking)):
                known = pairs[mine]
                known[network] = (*known.get(network, ()), Pair(other, asking, addresses[asked]))
    return pairs


def _asking(paths: list[str], mute: set[str]) -> list[tuple[str, str]]:
    """Of all who meet: who asks, and whom. Unequal pairs first, for there is no choice; then the deepest, who are
    slowest."""
    pairs = [(paths[one], paths[two]) for one, two in _meetings(len(paths))]
    pairs = [(one, two) for one, two in pairs if not {one, two} <= mute]
    pairs.sort(key=lambda pair: (level_of(pair[0]) == level_of(pair[1]), -level_of(pair[0])))
    busy: dict[str, int] = {}
    found = []
    for pair in pairs:
        asking, asked = sorted(pair, key=lambda path: (path in mute, level_of(path), busy.get(_outermost(path), 0)))
        busy[_outermost(asking)] = busy.get(_outermost(asking), 0) + level_of(asking)
        found.append((asking, asked))
    return found


def _outermost(path: str) -> str:
    return path.partition("/")[0]


def _meetings(count: int) -> list[tuple[int, int]]:
    """Which of `count` machines meet: all, or in a ring."""
    if count <= ALL_PAIRS:
        return list(combinations(range(count), 2))
    return [(number, (number + 1) % count) for number in range(count)]
