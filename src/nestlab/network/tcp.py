"""The side of TCP (RFC 9293) that is connected to, for answers of known length. Pure.

A `Connection` is told what came and how late it is, and says what to send. What arrives out of order is not kept: who
sent it sends it again. What it sends is read from its answer when it is sent, so that nothing is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nestlab.network.packets import ACK, FIN, PSH, RST, SYN, TcpSegment

ROOM = 16384
"""Bytes that may come before they are answered."""

FLIGHT = 1 << 18
"""Bytes on their way at most, however much the other side says it takes."""

AGAIN, SLOWEST, TRIES = 1.0, 8.0, 30
"""Seconds until what was not acknowledged is sent again, twice as long each further time, and how often."""

IDLE = 300.0
"""Seconds after which a connection that says nothing is given up."""

_MASK = 0xFFFFFFFF
_PLAIN_MSS = 536
_SCALE = 0


@dataclass
class Reply:
    """What is sent: so many bytes, read as they are needed. `last`: the connection is closed behind it."""

    size: int
    read: Callable[[int, int], bytes]
    last: bool = False


Ask = Callable[[bytes], "tuple[Reply, int] | None"]
"""Given what has come: the answer, and how many bytes it answers; None while more must come."""


@dataclass
class Connection:
    """One connection. `first`: the SYN that began it; `largest`: bytes of data that a packet has room for."""

    first: TcpSegment
    number: int
    largest: int
    ask: Ask
    now: float
    due: float = 0.0
    heard: float = 0.0
    tries: int = 0
    closed: bool = False
    open: bool = False
    came: bytes = b""
    replies: list[tuple[int, Reply]] = field(default_factory=list)
    """With the number of their first byte in what is sent."""

    def __post_init__(self) -> None:
        self.mss = max(64, min(self.largest, self.first.mss or _PLAIN_MSS))
        self.scale = self.first.scale or 0
        self.next = (self.first.seq + 1) & _MASK
        self.sent = self.acked = self.end = 0  # bytes of what is sent; the SYN is not counted
        self.peer_window = self.first.window
        self.highest = 0
        self.duplicates = 0
        self.ends = self.told_end = self.their_end = False
        self.heard = self.now

    # What is said

    def begin(self, now: float) -> list[TcpSegment]:
        """The answer to its SYN, now and when that comes again."""
        self.due = now + min(SLOWEST, AGAIN * 2**self.tries)
        scale = _SCALE if self.first.scale is not None else None
        return [replace(self._segment(-1, SYN | ACK), mss=self.largest, scale=scale)]

    def _segment(self, at: int, flags: int, data: bytes = b"") -> TcpSegment:
        first = self.first
        where = (first.target, first.source, first.target_port, first.source_port)
        room = max(0, ROOM - len(self.came))
        return TcpSegment(*where, (self.number + 1 + at) & _MASK, self.next, flags, room, data)

    def take(self, segment: TcpSegment, now: float) -> list[TcpSegment]:
        """What a segment of the other side's leads to."""
        if self.closed:
            return []
        if segment.flags & RST:
            self.closed = segment.seq == self.next or not self.open
            return []
        if segment.flags & SYN:
            return [] if self.open else self.begin(now)
        if not segment.flags & ACK:
            return []
        self.heard = now
        if not self._acknowledged(segment, now):
            return []
        said = self._came(segment)
        self._answer()
        sent = self._send(now)
        if self.told_end and self.their_end and self.acked > self.end:
            self.closed = True
        return sent or ([self._segment(self.sent, ACK)] if said else [])

    def late(self, now: float) -> list[TcpSegment]:
        """What is to be sent again, when nothing came until `due`."""
        if self.closed:
            return []
        if now - self.heard > IDLE or self.tries > TRIES:
            self.closed = True
            return [self._segment(self.sent, RST | ACK)]
        waits = not self.open or self.acked < self.sent or (self.acked < self._whole() and not self._window())
        if not waits or now < self.due:
            return []
        self.tries += 1
        if not self.open:
            return self.begin(now)
        self.sent = self.acked
        return self._send(now, probe=True)

    # What comes

    def _acknowledged(self, segment: TcpSegment, now: float) -> bool:
        """What of ours has arrived. False where the other side speaks of what was never sent."""
        ahead = (segment.ack - (self.number + 1) - self.acked) & _MASK
        if ahead >= 1 << 31:
            return True  # of old
        if ahead > self.highest - self.acked:
            return False
        self.open = True
        same = not ahead and not segment.data and segment.window << self.scale == self.peer_window
        self.peer_window = segment.window << self.scale
        self.duplicates = self.duplicates + 1 if same and self.acked < self.sent else 0
        if ahead:
            self.acked += ahead
            self.sent = max(self.sent, self.acked)
            self.tries, self.due = 0, now + AGAIN
            while self.replies and self.replies[0][0] + self.replies[0][1].size <= self.acked:
                self.replies.pop(0)
        if self.duplicates == 3:  # RFC 5681, 3.2
            self.sent = self.acked
        return True

    def _came(self, segment: TcpSegment) -> bool:
        """Keep what comes next. True where that is to be acknowledged, or said again."""
        data, end = segment.data, bool(segment.flags & FIN)
        if not data and not end:
            return False
        skip = (self.next - segment.seq) & _MASK
        if skip >= 1 << 31 or skip > len(data):
            return True
        fresh = data[skip:][: ROOM - len(self.came)] if not self.their_end else b""
        self.came += fresh
        self.next = (self.next + len(fresh)) & _MASK
        if end and not self.their_end and skip + len(fresh) == len(data):
            self.their_end = True
            self.next = (self.next + 1) & _MASK
        return True

    def _answer(self) -> None:
        while not self.ends and len(self.replies) < 2:
            asked = self.ask(self.came) if self.came else None
            if asked is None:
                break
            reply, used = asked
            self.came = self.came[used:]
            self.replies.append((self.end, reply))
            self.end += reply.size
            self.ends = reply.last
        if self.their_end and not self.ends:
            self.ends = True

    # What is sent

    def _whole(self) -> int:
        return self.end + self.ends

    def _window(self) -> int:
        return max(0, min(self.peer_window, FLIGHT) - (self.sent - self.acked))

    def _send(self, now: float, *, probe: bool = False) -> list[TcpSegment]:
        """As much as the other side takes. `probe`: one byte even if it takes none."""
        room = self._window() or int(probe)
        found: list[TcpSegment] = []
        began = self.sent == self.acked
        while room and self.sent < self.end:
            data = self._read(self.sent, min(room, self.mss))
            if not data:  # the file ends before it said
                self.closed = True
                return [self._segment(self.sent, RST | ACK)]
            found.append(self._segment(self.sent, ACK | PSH, data))
            self.sent += len(data)
            room -= len(data)
        if self.ends and self.sent == self.end:
            found.append(self._segment(self.sent, FIN | ACK))
            self.sent += 1
            self.told_end = True
        self.highest = max(self.highest, self.sent)
        if found and (began or probe):
            self.due = now + min(SLOWEST, AGAIN * 2**self.tries)
        return found

    def _read(self, at: int, count: int) -> bytes:
        for start, reply in self.replies:
            if start <= at < start + reply.size:
                return reply.read(at - start, min(count, start + reply.size - at))
        return b""
