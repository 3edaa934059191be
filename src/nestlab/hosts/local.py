"""The machine that nestlab runs on, as a host."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.files import fill, replace, replace_all
from nestlab.hosts import gather_facts, probe
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Result, Running
from nestlab.wire import proc

PROBE_TIMEOUT = 60.0
"""Nominal seconds for all of the probe; what can hang in it has a deadline of its own (`probe.DEADLINE`)."""


class LocalHost:
    """The machine nestlab runs on."""

    path = ""
    level = 0

    def __init__(self) -> None:
        self.slowness = 1.0
        self._facts: Facts | None = None
        self._asking = asyncio.Lock()

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        limit = None if timeout is None else patience.allowed(timeout, self.slowness)
        return await proc.run(argv, input=input, env=env, check=check, timeout=limit)

    def lines(self, argv: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return proc.lines(argv)

    def start(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Running]:
        return proc.start(argv)

    async def read(self, path: str) -> bytes:
        try:
            return await asyncio.to_thread(Path(path).read_bytes)
        except OSError as error:
            what = f"The file {path} cannot be read: {error.strerror}."
            raise LabError(what, hint="Check that it exists, and its mode.") from error

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        await asyncio.to_thread(replace, Path(path), data, mode)

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        await asyncio.to_thread(replace_all, {Path(path): each for path, each in files.items()})

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        await asyncio.to_thread(fill, source, Path(path), mode)

    @contextlib.asynccontextmanager
    async def unix(self, path: str) -> AsyncIterator[str]:
        yield path

    async def facts(self) -> Facts:
        async with self._asking:
            if self._facts is None:
                text = (await self.run([sys.executable, "-ISE", probe.__file__], timeout=PROBE_TIMEOUT)).text
                self._facts = gather_facts.of_probe(text, "this machine")
        return self._facts

    async def close(self) -> None: ...
