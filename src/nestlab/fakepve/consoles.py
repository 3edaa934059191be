"""The websocket behind termproxy and vncproxy: a terminal that greets and echoes what is typed.

The protocol inside is termproxy's (pve-xtermjs): the client first says `user:ticket` and a newline, is told `OK`, and
then sends `0:LENGTH:DATA` for input, `1:COLUMNS:ROWS:` for a new size and `2` to stay connected; output comes raw.
"""

from __future__ import annotations

import base64
import hashlib
import re
from io import BufferedIOBase

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
GREETING = b"starting serial terminal on interface serial0 (press Ctrl+O to exit)\r\n"


def accept(key: str) -> str:
    """The answer to a websocket's key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + MAGIC).encode(), usedforsecurity=False).digest()).decode()


def received(stream: BufferedIOBase) -> bytes | None:
    """The payload of the next data frame of a client; None when it closes."""
    while True:
        head = stream.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
        mask = stream.read(4) if head[1] & 0x80 else bytes(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(stream.read(size)))
        if head[0] & 0x0F == 8:
            return None
        if head[0] & 0x0F in (0, 1, 2):
            return data


def frame(data: bytes) -> bytes:
    """One binary frame of a server."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return b"\x82" + length + data


def terminal(reading: BufferedIOBase, writing: BufferedIOBase, login: str) -> None:
    """Play a terminal until the client goes; `login` is what it has to say first."""
    said = received(reading)
    if said is None or said.decode("utf-8", "replace") != f"{login}\n":
        return
    writing.write(frame(b"OK") + frame(GREETING))
    writing.flush()
    waiting = b""
    while (data := received(reading)) is not None:
        waiting += data
        while found := re.match(rb"0:(\d+):|1:\d+:\d+:|2", waiting):
            size = int(found[1] or 0)
            if len(waiting) < found.end() + size:
                break
            typed, waiting = waiting[found.end() : found.end() + size], waiting[found.end() + size :]
            if typed:
                writing.write(frame(typed))
                writing.flush()
