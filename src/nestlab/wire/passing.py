"""A port of 127.0.0.1 here that leads to a stream elsewhere, while a context is open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from nestlab.base.errors import LabError

LOOPBACK = "127.0.0.1"

AT_ONCE = 256
"""Connections at one time; another one is closed at once."""

PIECE = 1 << 16


class Reading(Protocol):
    async def read(self, n: int = -1) -> bytes: ...


class Writing(Protocol):
    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...


Far = Callable[[], Awaitable[tuple[Reading, Writing]]]
"""Connects to what a port leads to. LabError when that fails."""


class Passing:
    """What passes through one port. `port`: of 127.0.0.1. `say` is told once of each way in which the far end fails."""

    def __init__(self, far: Far, say: Callable[[str], None]) -> None:
        self.port = 0
        self._far = far
        self._say = say
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def joined(self, reader: Reading, writer: Writing) -> None:
        """Somebody connected."""
        if len(self._tasks) >= AT_ONCE:
            writer.close()
            return
        task = asyncio.create_task(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: Reading, writer: Writing) -> None:
        try:
            far_reader, far_writer = await self._far()
        except LabError as error:
            if error.what not in self._told and len(self._told) < AT_ONCE:
                self._told.add(error.what)
                self._say(error.what)
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                with contextlib.suppress(OSError, RuntimeError):
                    each.close()


async def _copy(reader: Reading, writer: Writing) -> None:
    """Until either end is closed; then the other one learns it."""
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError, EOFError):
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()
    except Exception as error:  # asyncssh's errors of a connection that is lost
        if not type(error).__module__.startswith("asyncssh"):
            raise
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


@asynccontextmanager
async def passing(port: int, far: Far, say: Callable[[str], None] = lambda _: None) -> AsyncIterator[Passing]:
    """A port of 127.0.0.1 (0: any) that leads to what `far` connects to, for each who connects. OSError if it cannot
    be had."""
    found = Passing(far, say)
    server = await asyncio.start_server(found.joined, LOOPBACK, port)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await found.close()
