"""Captures the frames that pass one port of the lab's switch."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.network import switch_control
from nestlab.network.switch_control import Port, Status

_SIZE = struct.Struct(">I")
_MOST = 65536 + 4096


class Capture:
    """A capture at work. `dropped`: frames that came quicker than they were taken, once it is over."""

    def __init__(self, directory: Path, segment: str, reader: asyncio.StreamReader, number: int) -> None:
        self.dropped = 0
        self._directory = directory
        self._segment = segment
        self._reader = reader
        self._number = number

    async def frames(self) -> AsyncIterator[bytes]:
        """Every frame to or from the port, until that is gone (its machine went down)."""
        while True:
            try:
                (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
                if size > _MOST:
                    return
                yield await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    async def count_dropped(self) -> None:
        """Learn `dropped`, as long as the capture's own port is there."""
        status = await switch_control.status(self._directory)
        for port in status.segments.get(self._segment, ()) if status else ():
            if port.port == self._number:
                self.dropped = port.dropped


@asynccontextmanager
async def capture(directory: Path, segment: str, pid: int | None, mac: str) -> AsyncIterator[Capture]:
    """A capture of the port that process `pid` connected, or behind which a card has the address `mac`. LabError where
    the switch has no such port."""
    watched = _port(await _status(directory), segment, pid, mac)
    if watched is None:
        what = f"No card of that machine is on segment {segment} of the lab's switch now."
        raise LabError(what, hint="Does it run? `nestlab status` tells.")
    path = switch_control.socket_path(directory, segment)
    known = {port.port for port in (await _status(directory)).segments[segment]}
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        own = await _own(directory, segment, known)
        await switch_control.mirror(directory, segment, own, watched.port)
        yield Capture(directory, segment, reader, own)
    finally:
        writer.close()


async def _status(directory: Path) -> Status:
    status = await switch_control.status(directory)
    if status is None:
        raise LabError("The lab's switch does not run.", hint="`nestlab up` starts it.")
    return status


def _port(status: Status, segment: str, pid: int | None, mac: str) -> Port | None:
    ports = status.segments.get(segment, ())
    by_mac = (port for port in ports if mac in port.macs)
    by_pid = (port for port in ports if port.pid == pid)
    return next(by_mac, None) or next(by_pid, None)


async def _own(directory: Path, segment: str, known: set[int]) -> int:
    """The port that this process has just connected: the switch may not have accepted it yet."""
    for _ in range(100):
        ports = (await _status(directory)).segments[segment]
        new = [port.port for port in ports if port.pid == os.getpid() and port.port not in known]
        if new:
            return max(new)
        await asyncio.sleep(0.02)
    raise LabError("The lab's switch takes no further connection.", hint=f"Its log is in {directory}.")
