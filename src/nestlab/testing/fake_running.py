"""A pretended command that is at work on a host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from nestlab.wire.result import Result


@dataclass
class FakeRunning:
    """A command whose end was known from the start. What is written to it is kept in `written`."""

    ended: Result
    written: bytes = b""
    taken: bool = False

    @property
    def over(self) -> bool:
        return self.taken

    async def write(self, data: bytes) -> None:
        self.written += data

    def close_input(self) -> None:
        """It never waited for its stdin to end."""

    async def chunks(self) -> AsyncIterator[bytes]:
        self.taken = True
        yield self.ended.stdout

    async def result(self, input: bytes | None = None) -> Result:
        self.written += input or b""
        return replace(self.ended, stdout=b"") if self.taken else self.ended
