"""The websocket behind termproxy and vncproxy: a terminal that greets and echoes what is typed.

The protocol inside is termproxy's (pve-xtermjs): the client first says `user:ticket` and a newline, is told `OK`, and
then sends `0:LENGTH:DATA` for input, `1:COLUMNS:ROWS:` for a new size and `2` to stay connected; output comes raw.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import dataclass, field
from io import BufferedIOBase

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
GREETING = b"starting serial terminal on interface serial0\r\n"
LONGEST = 128 << 10
"""Bytes of a frame ($max_payload_size in AnyEvent.pm)."""


def accept(key: str) -> str:
    """The answer to a websocket's key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode(), usedforsecurity=False).digest()).decode()


def received(stream: BufferedIOBase) -> bytes | None:
    """The payload of the next data frame of a client; None when it closes, or sends what pveproxy does not take: frames
    in parts, compressed, unmasked, or too long."""
    while True:
        head = stream.read(2)
        if len(head) < 2 or head[0] & 0xF0 != 0x80 or not head[1] & 0x80:
            return None
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
        if size > LONGEST:
            return None
        mask = stream.read(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(stream.read(size)))
        if head[0] & 0x0F == 8:
            return None
        if head[0] & 0x0F in (1, 2):
            return data


def frame(data: bytes) -> bytes:
    """One binary frame of a server."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x82" + length + data


@dataclass
class Console:
    """One that termproxy waits with: for whom, and what is typed and shown on it."""

    vmid: int
    user: str
    ticket: str
    greeting: bytes = GREETING
    over: bool = False
    """Whether it ends after its greeting: the program on it has said why."""
    typed: bytearray = field(default_factory=bytearray)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    pings: int = 0
    opened: float = field(default_factory=time.monotonic)

    @property
    def valid(self) -> bool:
        """termproxy waits 10 s for its client."""
        return time.monotonic() - self.opened < 10

    def show(self, reading: BufferedIOBase, writing: BufferedIOBase) -> None:
        """Play a terminal until the client goes: it echoes what is typed, and ends at Ctrl-D."""
        said = received(reading)
        if said is None or said != f"{self.user}:{self.ticket}\n".encode():
            return
        self._write(writing, b"OK")
        self._write(writing, self.greeting)
        waiting = b""
        while not self.over and (data := received(reading)) is not None:
            waiting = self.read(waiting + data, writing)

    def read(self, waiting: bytes, writing: BufferedIOBase) -> bytes:
        """Do what is asked; what is not whole yet."""
        while found := re.match(rb"0:(\d+):|1:(\d+):(\d+):|2", waiting):
            size = int(found[1] or 0)
            if len(waiting) < found.end() + size:
                break
            typed, waiting = waiting[found.end() : found.end() + size], waiting[found.end() + size :]
            if found[2]:
                self.sizes.append((int(found[2]), int(found[3])))
            self.pings += found[0] == b"2"
            self.typed += typed
            self.over = self.over or b"\x04" in typed
            if typed:
                self._write(writing, typed)
        return waiting

    def _write(self, writing: BufferedIOBase, data: bytes) -> None:
        writing.write(frame(data))
        writing.flush()
