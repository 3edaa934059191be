"""The capture file format that tcpdump and Wireshark read: libpcap 2.4 (pcap-savefile(5)), of Ethernet frames. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SNAPLEN = 262144
"""Bytes of the longest record: tcpdump's own."""

ETHERNET = 1
_FILE = struct.Struct("IHHiIII")
_MAGIC, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D

_LAST = (1 << 32) * 1_000_000 - 1
"""Microseconds since the epoch that the format can hold."""

HEADER = struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, SNAPLEN, ETHERNET)


def record(at: float, frame: bytes) -> bytes:
    """One frame. `at`: seconds since the epoch."""
    seconds, part = divmod(min(int(at * 1_000_000), _LAST), 1_000_000)
    return struct.pack("<IIII", seconds, part, len(frame), len(frame)) + frame


class Records:
    """Takes a capture apart that comes piece by piece. ValueError for what is no capture of Ethernet frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._order = ""
        self._parts = 1_000_000

    def feed(self, data: bytes) -> Iterator[tuple[float, bytes]]:
        """The frames that are whole by now, with the time of each in seconds since the epoch."""
        self._rest += data
        if not self._order and not self._begin():
            return
        at = 0
        head = struct.Struct(f"{self._order}IIII")
        while len(self._rest) - at >= head.size:
            seconds, part, size, _ = head.unpack_from(self._rest, at)
            if size > SNAPLEN:
                raise ValueError(f"a frame of {size} bytes")
            if part >= self._parts:
                raise ValueError(f"a time with {part} parts of a second")
            end = at + head.size + size
            if end > len(self._rest):
                break
            yield seconds + part / self._parts, self._rest[at + head.size : end]
            at = end
        self._rest = self._rest[at:]

    def _begin(self) -> bool:
        """Reads the head of the file, once it is there."""
        if len(self._rest) < _FILE.size:
            return False
        for order in "<>":
            magic, _, _, _, _, _, link = struct.unpack_from(f"{order}IHHiIII", self._rest)
            if magic in (_MAGIC, _NANOSECONDS):
                if link != ETHERNET:
                    raise ValueError(f"frames of link type {link}")
                self._order, self._parts = order, 1_000_000 if magic == _MAGIC else 1_000_000_000
                self._rest = self._rest[_FILE.size :]
                return True
        raise ValueError(f"it begins with {self._rest[:4].hex(' ')}")
