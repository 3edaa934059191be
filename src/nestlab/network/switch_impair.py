"""Impairs the frames of one segment of the switch on purpose: delay, jitter, loss and a limited rate.

A rule is for the whole segment, or for the link of one machine: then for what comes from it and for what goes to it.
A frame from one port to another passes the rule of the sender's link, the segment's, and that of the receiver's link,
each once. Frames to one port leave in the order in which they came from another; no frame leaves early. For each port
at most `WAITING` bytes wait; what comes beyond is dropped and counted as `dropped`, and so is what is lost.
"""

from __future__ import annotations

import heapq
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nestlab.network.switch_ports import LIMIT, SHORTEST, hand_on

if TYPE_CHECKING:
    from nestlab.network.switch_ports import Port
    from nestlab.network.switch_segment import Segment

WAITING = 4 << 20
"""Bytes that may wait for one port: a second of 32 Mbit/s."""
MOST = 4096
"""Rules of a segment."""
SLOWEST, LONGEST = 1000, 60.0
"""Bits per second, and seconds, that a rule may say."""

_head = struct.Struct(">I12s").unpack_from
_size = struct.Struct(">I").unpack_from


class Rule:
    """`delay` and `jitter` (at most so much more or less) in seconds, `loss` a share of 1, `rate` in bits per second
    (0: no limit) of what comes from a link, of what goes to it, and on a segment of each way from one port to another.
    ValueError for values that are none."""

    def __init__(self, delay: float, jitter: float, loss: float, rate: int) -> None:
        if not (0 <= jitter <= delay <= LONGEST and 0 <= loss <= 1 and (rate == 0 or rate >= SLOWEST)):
            raise ValueError("that is no way to impair a link")
        self.delay, self.jitter, self.loss, self.rate = delay, jitter, loss, rate
        self.free: dict[tuple[int, int], float] = {}
        """By direction: when the last frame will have been sent, at this rate."""

    def leaves(self, now: float, size: int, direction: tuple[int, int], chance: Callable[[], float]) -> float | None:
        """When a frame of `size` bytes that comes `now` leaves; None: it is lost."""
        if self.loss and chance() < self.loss:
            return None
        if self.rate:
            now = self.free[direction] = max(now, self.free.get(direction, 0.0)) + 8 * size / self.rate
        return now + self.delay + self.jitter * (2 * chance() - 1 if self.jitter else 0)


class Impaired:
    """The segment's rules, by MAC address of a machine's card ("": the whole segment), and the frames that wait."""

    def __init__(
        self, segment: Segment, rules: dict[bytes, Rule], chance: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.segment = segment
        self.rules = rules
        self.chance = chance
        self.clock = clock
        self.waiting: list[tuple[float, int, Port, bytes]] = []
        self.count = 0
        self.bytes: dict[int, int] = {}
        self.last: dict[tuple[int, int], float] = {}

    def rule_of(self, port: Port) -> Rule | None:
        """The rule of the link that a port is: that of the machine whose address was learned there."""
        for mac, rule in self.rules.items():
            place = self.segment.table.get(mac) or self.segment.table.get(mac + port.vlan.to_bytes(2, "big"))
            if mac and place is not None and place[0] is port:
                return rule
        return None

    def hand_on(
        self, source: Port, targets: tuple[Port, ...], piece: memoryview, frames: int, touched: list[Port]
    ) -> None:
        """As `switch_ports.hand_on`, of one frame. A port that captures gets it at once, as it came."""
        own = self.rule_of(source)
        for port in targets:
            if port in self.segment.mirrors:
                hand_on((port,), piece, frames, touched)
            else:
                self.send(source, own, port, piece)

    def send(self, source: Port, own: Rule | None, port: Port, piece: memoryview) -> None:
        now = when = self.clock()
        size = len(piece) - 4
        between = source.number, port.number
        whole, other = self.rules.get(b""), self.rule_of(port)
        for rule, direction in ((own, (source.number, 0)), (whole, between), (other, (0, port.number))):
            left = rule.leaves(when, size, direction, self.chance) if rule is not None else when
            if left is None:
                port.dropped += 1
                return
            when = left
        if self.bytes.get(port.number, 0) + len(piece) > WAITING:
            port.dropped += 1
            return
        when = self.last[between] = max(when, self.last.get(between, now))
        self.count += 1
        self.bytes[port.number] = self.bytes.get(port.number, 0) + len(piece)
        heapq.heappush(self.waiting, (when, self.count, port, bytes(piece)))

    def due(self) -> float:
        """Seconds until the next frame leaves."""
        return max(0.0, self.waiting[0][0] - self.clock()) if self.waiting else LONGEST

    def status(self) -> dict[str, list[float]]:
        """As in a request."""
        return {
            mac.hex(":") if mac else "": [rule.delay, rule.jitter, rule.loss, rule.rate]
            for mac, rule in self.rules.items()
        }

    def release(self, *, everything: bool = False) -> None:
        """Send what is due, or all that waits."""
        now = float("inf") if everything else self.clock()
        touched: list[Port] = []
        while self.waiting and self.waiting[0][0] <= now:
            _, _, port, piece = heapq.heappop(self.waiting)
            self.bytes[port.number] = self.bytes.get(port.number, 0) - len(piece)
            if port.open:
                hand_on((port,), memoryview(piece), 1, touched)
        for port in touched:
            port.transmit()

    def left(self, port: Port) -> None:
        """What is known of a port that has closed is forgotten; what waits for it is not sent."""
        self.bytes.pop(port.number, None)
        self.last = {between: when for between, when in self.last.items() if port.number not in between}

    def sort(self, port: Port, end: int) -> tuple[int, int, list[Port]]:
        """As `Vlans.sort`, on a segment without VLANs."""
        buffer, view = port.loop.buffer, port.loop.view
        at = frames = 0
        touched: list[Port] = []
        while end - at >= 16:
            size, key = _head(buffer, at)
            after = at + 4 + size
            if size > LIMIT or after > end:
                break
            if size >= SHORTEST:
                targets = port.flows.get(key)
                targets = targets if targets is not None else self.segment.route(port, key)
                self.hand_on(port, targets, view[at:after], 1, touched)
            else:
                port.runt()
            frames += 1
            at = after
        return at, frames, touched


def impaired(segment: Segment, rules: object) -> Impaired | None:
    """From a request: by MAC address or "", the four values of a rule. None where there are no rules."""
    if not isinstance(rules, dict) or len(rules) > MOST:
        raise ValueError("rules of a segment are an object")
    found = {_mac(mac): _rule(values) for mac, values in rules.items()}
    return Impaired(segment, found, _chance, time.monotonic) if found else None


def _mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) not in (0, 6):
        raise ValueError(f"{text!r} is no MAC address")
    return mac


def _rule(values: object) -> Rule:
    if not isinstance(values, list) or [type(each) in (int, float) for each in values] != [True] * 4:
        raise ValueError("a rule has four numbers")
    return Rule(*values)


def _chance() -> float:
    """From 0 to just below 1."""
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)
