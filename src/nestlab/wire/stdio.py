"""Carries bytes between nestlab's own stdin and stdout and a socket, as the ProxyCommand of an ssh does."""

from __future__ import annotations

import asyncio
import os
import socket

from nestlab.base.errors import unwritten
from nestlab.wire import descriptor

CHUNK = 1 << 16


async def join(far: socket.socket) -> None:
    """Carry both ways until either side ends. `far` is connected, and stays the caller's to close. LabError when
    stdout cannot be written."""
    far.setblocking(False)
    ways = [asyncio.create_task(_there(far)), asyncio.create_task(_back(far))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _there(far: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await descriptor.read(0, CHUNK):
            await loop.sock_sendall(far, data)
    except ConnectionError:
        return


async def _back(far: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await _received(loop, far):
        try:
            await asyncio.to_thread(_write, data)
        except BrokenPipeError:  # whoever started this does not want more
            return
        except OSError as error:
            raise unwritten(error) from error


async def _received(loop: asyncio.AbstractEventLoop, far: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(far, CHUNK)
    except ConnectionError:
        return b""


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
