"""TFTP (RFC 1350) that only reads, with block sizes (RFC 2348), sizes and time-outs (RFC 2349) and windows (RFC 7440).
Pure.

A transfer is a value of its own that is told what came and how late it is; what it says is what to send.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from nestlab.base.frozen import frozen

PORT = 69

_READ, _WRITE, _DATA, _ACK, _ERROR, _OPTIONS = range(1, 7)

NOT_FOUND, DENIED, ILLEGAL, UNKNOWN, REFUSED = 1, 2, 4, 5, 8
"""Errors (RFC 1350, appendix; RFC 2347)."""

_NAME_LIMIT = 512
_PLAIN = 512
"""Bytes of a block where no option says otherwise."""
_WINDOW = 16
"""Blocks of the largest window."""

AGAIN = 1.0
"""Seconds until a block that nobody acknowledged is sent again; twice as long each further time."""
TRIES = 20
SLOWEST = 8.0

Reader = Callable[[int, int], bytes]
"""Bytes at an offset: as many as asked for, unless the file ends."""


@frozen
class Asked:
    """A request to read a file."""

    name: str
    options: tuple[tuple[str, str], ...] = ()


def request_of(data: bytes) -> Asked | int | None:
    """A request to read; the number of an error where it is another; None where it is no request at all."""
    if len(data) < 4 or len(data) > _NAME_LIMIT + 512:
        return None
    does = int.from_bytes(data[:2])
    if does == _WRITE:
        return DENIED
    if does != _READ:
        return None
    words = data[2:].split(b"\0")
    if len(words) < 3 or words[-1] or len(words[0]) > _NAME_LIMIT:
        return ILLEGAL
    try:
        name, mode, *rest = [word.decode("ascii") for word in words[:-1]]
    except UnicodeDecodeError:
        return ILLEGAL
    if mode.lower() not in ("octet", "netascii"):  # what is served is not text, whatever it is called
        return ILLEGAL
    return Asked(name, tuple(zip((word.lower() for word in rest[::2]), rest[1::2], strict=False)))


def error(number: int, text: str) -> bytes:
    """The bytes of an error."""
    return struct.pack(">HH", _ERROR, number) + text.encode("ascii", "replace") + b"\0"


@dataclass
class Transfer:
    """A file on its way. `largest`: bytes of a block that a packet has room for."""

    read: Reader
    size: int
    asked: Asked
    largest: int
    block: int = _PLAIN
    window: int = 1
    done: bool = False
    acked: int = 0
    """Blocks that have arrived."""
    due: float = 0.0
    tries: int = 0
    agreed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """The last one is shorter than the others, perhaps empty."""
        return self.size // self.block + 1

    def begin(self, now: float) -> list[bytes]:
        """The first answer: what was agreed on, or the first block."""
        for name, value in self.asked.options:
            self._agree(name, value)
        return self._send(now)

    def _agree(self, name: str, value: str) -> None:
        if not value.isascii() or not value.isdigit() or len(value) > 9:
            return
        number = int(value)
        if name == "blksize" and number >= 8:
            self.block = min(number, self.largest)
            self.agreed.append((name, str(self.block)))
        elif name == "tsize":
            self.agreed.append((name, str(self.size)))
        elif name == "timeout" and 1 <= number <= 255:
            self.agreed.append((name, value))
        elif name == "windowsize" and number >= 1:
            self.window = min(number, _WINDOW)
            self.agreed.append((name, str(self.window)))

    def take(self, data: bytes, now: float) -> list[bytes]:
        """What came from the client: an acknowledgement, or an error, which ends it."""
        if len(data) < 4:
            return []
        does, number = struct.unpack_from(">HH", data)
        if does == _ERROR:
            self.done = True
        if does != _ACK or self.done:
            return []
        if self.agreed:
            if number == 0:
                self.agreed.clear()
                return self._send(now)
            return []
        # Numbers have 16 bits: it is the block nearest behind the last that arrived.
        ahead = (number - self.acked) & 0xFFFF
        if not 0 < ahead <= self.window:
            return []  # of old: RFC 1123, 4.2.3.1
        self.acked += ahead
        if self.acked >= self.blocks:
            self.done = True
            return []
        return self._send(now)

    def late(self, now: float) -> list[bytes]:
        """What is to be sent again, when nothing came until `due`."""
        if self.done or now < self.due:
            return []
        self.tries += 1
        if self.tries > TRIES:
            self.done = True
            return []
        return self._send(now, again=True)

    def _send(self, now: float, *, again: bool = False) -> list[bytes]:
        self.tries = self.tries if again else 0
        self.due = now + min(SLOWEST, AGAIN * 2**self.tries)
        if self.agreed:
            words = "".join(f"{name}\0{value}\0" for name, value in self.agreed)
            return [struct.pack(">H", _OPTIONS) + words.encode()]
        last = min(self.blocks, self.acked + self.window)
        return [self._block(number) for number in range(self.acked + 1, last + 1)]

    def _block(self, number: int) -> bytes:
        at = (number - 1) * self.block
        data = self.read(at, min(self.block, self.size - at))
        return struct.pack(">HH", _DATA, number & 0xFFFF) + data
