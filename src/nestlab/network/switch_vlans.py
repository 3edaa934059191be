"""Frames on a segment of the switch that has VLANs (IEEE 802.1Q): which port gets them, with a tag or without.

A port is a trunk (frames of all VLANs, with their tags, and those without) or in one VLAN (its machine sees no tags);
`vlan` 0 is the network of frames without a tag. Addresses are learned in each VLAN by itself.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from nestlab.network.switch_ports import LIMIT, SHORTEST, hand_on

if TYPE_CHECKING:
    from nestlab.network.switch_ports import Port
    from nestlab.network.switch_segment import Segment

TAGGED = 0x8100
_head = struct.Struct(">I12sHH").unpack_from  # length, destination and source, type, and the tag if it is one
_size = struct.Struct(">I")
_tag = struct.Struct(">HH")
FLOWS = 4096

Ways = tuple[tuple["Port", ...], tuple["Port", ...], tuple["Port", ...]]
"""The ports that get a frame with its tag, without one, and as it came (those that capture)."""


class Vlans:
    """Sorts the frames of one segment. `flows`: what was decided, until the segment changes."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.flows: dict[tuple[int, bytes, int], Ways] = {}

    def sort(self, port: Port, end: int) -> tuple[int, int, list[Port]]:
        """Hand on the whole frames in the loop's buffer up to `end`: where the rest begins, how many frames they were,
        and the ports that have got some."""
        buffer, view = port.loop.buffer, port.loop.view
        at = frames = 0
        touched: list[Port] = []
        while end - at >= 4:
            size = _size.unpack_from(buffer, at)[0]
            after = at + 4 + size
            if size > LIMIT or after > end:
                break
            self.frame(port, view[at:after], touched)
            frames += 1
            at = after
        return at, frames, touched

    def frame(self, port: Port, piece: memoryview, touched: list[Port]) -> None:
        """`piece`: a frame behind its length. One that is none, or has a tag where none may be, is an error."""
        if len(piece) < 4 + SHORTEST + 4:
            port.rx_errors += 1
            return
        _, key, kind, control = _head(piece)
        vlan, bare = port.vlan, piece
        if kind == TAGGED:
            said = control & 0xFFF
            vlan = said if said > 1 else vlan  # 0 is a priority alone, 1 means none
            if vlan != port.vlan and not port.trunk:
                port.rx_errors += 1
                return
            bare = _without(piece)
            tagged = piece if vlan == said else _with(bare, vlan)
        else:
            tagged = _with(piece, vlan) if vlan else piece
        if len(tagged) > 4 + LIMIT:
            port.rx_errors += 1
            return
        with_tag, without, watching = self.ways(port, key, vlan)
        bad = self.segment.impaired
        if bad is None:
            hand_on(with_tag, tagged, 1, touched)
            hand_on(without, bare, 1, touched)
        else:
            bad.hand_on(port, with_tag, tagged, 1, touched)
            bad.hand_on(port, without, bare, 1, touched)
        hand_on(watching, piece, 1, touched)

    def ways(self, port: Port, key: bytes, vlan: int) -> Ways:
        known = self.flows.get((port.number, key, vlan))
        if known is not None:
            return known
        segment, number = self.segment, vlan.to_bytes(2, "big")
        if not key[6] & 1:
            segment.learn(port, key[6:] + number, time.monotonic())
        place = segment.table.get(key[:6] + number)
        if place is None:
            members = (each for each in segment.ports.values() if each is not port and each not in segment.mirrors)
            targets = tuple(each for each in members if each.trunk or each.vlan == vlan)
        else:
            targets = () if place[0] is port else place[0].alone
        ways = self.split(port, targets, vlan)
        if len(self.flows) >= FLOWS:
            self.flows.clear()
        self.flows[port.number, key, vlan] = ways
        return ways

    def split(self, port: Port, targets: tuple[Port, ...], vlan: int) -> Ways:
        """A capture sees what its port sees: of what that gets the frame as it gets it, else as it came."""
        mirrors = self.segment.mirrors.items()
        with_tag = tuple(each for each in targets if vlan and each.trunk)
        without = tuple(each for each in targets if not (vlan and each.trunk))
        return (
            (*with_tag, *(mirror for mirror, watched in mirrors if watched in with_tag)),
            (*without, *(mirror for mirror, watched in mirrors if watched in without)),
            tuple(mirror for mirror, watched in mirrors if watched is port),
        )


def _with(piece: memoryview, vlan: int) -> memoryview:
    """The frame with a tag."""
    size = _size.pack(len(piece))  # a length of 4 bytes goes, a tag of 4 comes
    return memoryview(b"".join((size, piece[4:16], _tag.pack(TAGGED, vlan), piece[16:])))


def _without(piece: memoryview) -> memoryview:
    """The frame without its tag."""
    return memoryview(b"".join((_size.pack(len(piece) - 8), piece[4:16], piece[20:])))
