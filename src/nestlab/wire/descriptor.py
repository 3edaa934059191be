"""Reads a descriptor that others use too: stdin, a terminal."""

from __future__ import annotations

import asyncio
import os


async def read(descriptor: int, most: int) -> bytes:
    """The next bytes of a descriptor, `most` at most; b"" at its end, and once it is an error.

    It stays blocking, since its other users share that, and is read only when something is there: whoever stops
    waiting leaves what comes next to the next reader.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # epoll takes neither files nor /dev/null, and reading those never waits
        pass
    else:
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)
    try:
        return os.read(descriptor, most)
    except OSError:
        return b""
