"""Streams of a running command, between the callbacks of a transport and one reader, one writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from nestlab.wire.result import too_much

HIGH = 1 << 20
"""Bytes of unread stdout at which the command is made to wait."""

MOST = 64 << 20
"""Bytes of stdout that are kept of a command whose result is waited for."""

STDERR = 1 << 20
"""Bytes of stderr that are kept: the last ones."""

SLICE = 1 << 18
"""Bytes of input that are handed to a transport at once."""


class Flow:
    """The half of a running command (`result.Running`) that is the same wherever it runs.

    A transport calls `said`, `complained`, `silent`, `ended`, and `pause_writing`/`resume_writing`; it gives `send`,
    `close_input`, `hold` and `let_go`.
    """

    def __init__(self, argv: Sequence[str], where: str = "") -> None:
        self.argv = tuple(argv)
        self._at = where
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._limit: int | None = HIGH
        self._held = False
        self._blocked = False
        self._silent = False
        self._over = False
        self._changed = asyncio.Event()

    # -- given by the transport

    def send(self, data: bytes) -> None:
        raise NotImplementedError

    def close_input(self) -> None:
        raise NotImplementedError

    def hold(self) -> None:
        """Take no more of its output for now."""
        raise NotImplementedError

    def let_go(self) -> None:
        raise NotImplementedError

    # -- called by the transport

    def said(self, data: bytes) -> None:
        self._stdout += data
        if self._limit is not None and len(self._stdout) > self._limit and not self._held:
            self._held = True
            self.hold()
        self._changed.set()

    def complained(self, data: bytes) -> None:
        self._stderr += data
        if len(self._stderr) > 2 * STDERR:
            del self._stderr[:-STDERR]

    def silent(self) -> None:
        """Nothing more will be said."""
        self._silent = True
        self._changed.set()

    def ended(self) -> None:
        self._over = True
        self._changed.set()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._changed.set()

    # -- for the one who started it

    @property
    def over(self) -> bool:
        return self._over

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), SLICE):
            if self._over:
                return
            self.send(data[at : at + SLICE])
            await self.until(lambda: self._over or not self._blocked)

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            await self.until(lambda: bool(self._stdout) or self._silent)
            if not self._stdout:
                return
            data = bytes(self._stdout)
            self._stdout.clear()
            self._resume()
            yield data

    async def finish(self, input: bytes | None, grace: float) -> tuple[bytes, bytes]:
        """Hand it `input`, close its stdin, and wait for its end and what it says until then; and `grace` seconds
        longer, where somebody else still holds its output. LabError when it says more than is kept."""
        self._limit = MOST
        self._resume()
        if input:
            await self.write(input)
        if not self._over:
            self.close_input()
        await self._until_or_flooded(lambda: self._over)
        try:
            async with asyncio.timeout(grace):
                await self._until_or_flooded(lambda: self._silent)
        except TimeoutError:
            pass
        return bytes(self._stdout), bytes(self._stderr[-STDERR:])

    async def _until_or_flooded(self, holds: Callable[[], bool]) -> None:
        await self.until(lambda: holds() or len(self._stdout) > MOST)
        if len(self._stdout) > MOST:
            raise too_much(self.argv, self._at, MOST)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    def _resume(self) -> None:
        if self._held:
            self._held = False
            self.let_go()
