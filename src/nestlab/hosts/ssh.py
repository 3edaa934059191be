"""Machines reached by ssh, through others where need be, as hosts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nestlab.base import patience
from nestlab.base.errors import Unreachable
from nestlab.hosts import gather_facts
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host, Result, Running
from nestlab.hosts.local import PROBE_TIMEOUT
from nestlab.wire.result import lines_of

if TYPE_CHECKING:
    from nestlab.wire.ssh import Connection

T = TypeVar("T")

LOGIN = 30.0
"""Nominal seconds that a login may take."""

FILE, FILE_BYTES = 120.0, 1 << 20
"""Nominal seconds in which a file is read or written, and bytes for each of which a written one gets one more."""


class SshHost:
    """A machine reached by ssh. It connects when it is first needed, and again if the connection was lost.

    What was under way when the connection was lost fails as Unreachable and is not repeated, for it may have been
    done; except reading and replacing files, which may be done twice. `level`: one below its parent's, unless said.
    `address`: what messages call the lab's own host (whose path is ""), where that is not this machine. `connect` is
    given the slowness that it has then.
    """

    def __init__(
        self,
        path: str,
        connect: Callable[[float], Awaitable[Connection]],
        *,
        level: int | None = None,
        slowness: float = 1.0,
        address: str = "",
    ) -> None:
        self.slowness = slowness
        self.address = address
        self.path = path
        self.level = path.count("/") + 1 if level is None else level
        self._make = connect
        self._connection: Connection | None = None
        self._attempt: asyncio.Future[Connection] | None = None
        self._facts: Facts | None = None
        self._asking = asyncio.Lock()

    async def connect(self) -> Connection:
        """Its connection, made if there is none. Unreachable if that fails; all who wait share one attempt."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._attempt is None:
            self._attempt = asyncio.ensure_future(self._make(self.slowness))
            self._attempt.add_done_callback(self._attempted)
        return await asyncio.shield(self._attempt)

    def _attempted(self, attempt: asyncio.Future[Connection]) -> None:
        self._attempt = None
        if not attempt.cancelled() and attempt.exception() is None:
            self._connection = attempt.result()

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

        async def run(there: Connection) -> Result:
            return await there.run(argv, input=input, env=env, check=check, timeout=limit)

        return await self._begin(run)

    @contextlib.asynccontextmanager
    async def lines(self, argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.start(argv) as command:
            yield lines_of(command, f" on {self.path}")

    @contextlib.asynccontextmanager
    async def start(self, argv: Sequence[str]) -> AsyncIterator[Running]:
        async with contextlib.AsyncExitStack() as stack:

            async def enter(there: Connection) -> Running:
                return await stack.enter_async_context(there.start(argv))

            yield await self._begin(enter)

    async def read(self, path: str) -> bytes:
        return await self._repeat(lambda there: there.read(path, timeout=self._file_time()))

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        await self._repeat(lambda there: there.write(path, data, mode=mode, timeout=self._file_time(len(data))))

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        size = sum(len(data) for data, _ in files.values())
        await self._repeat(lambda there: there.write_many(files, timeout=self._file_time(size)))

    def _file_time(self, size: int = 0) -> float:
        """Seconds in which a file is read, or `size` bytes are written: it may be a pipe, and `cat` a trap."""
        return patience.allowed(FILE + size / FILE_BYTES, self.slowness)

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        await self._repeat(lambda there: there.put(source, path, mode=mode))

    @contextlib.asynccontextmanager
    async def unix(self, path: str) -> AsyncIterator[str]:
        async with (await self.connect()).unix(path) as here:
            yield here

    @contextlib.asynccontextmanager
    async def port(self, port: int) -> AsyncIterator[str]:
        """A local path of a unix socket that leads to 127.0.0.1:`port` there while the context is open."""
        async with (await self.connect()).port(port) as here:
            yield here

    async def tcp(self, port: int) -> tuple[Any, Any]:
        """A reader and a writer that lead to 127.0.0.1:`port` there; on a new connection where the old one was lost."""
        there = await self.connect()
        try:
            return await there.tcp(port)
        except Unreachable:
            if not there.closed:
                raise
            return await (await self.connect()).tcp(port)

    async def attach(self, argv: Sequence[str], *, pty: bool, harmless: bool = False) -> int:
        """Run a command (none: a login shell) on nestlab's own stdin, stdout and stderr, on a terminal there if `pty`;
        its exit status. `harmless`: what it prints does nothing to a terminal here."""
        from nestlab.wire.interactive import attach

        return await attach(await self.connect(), argv, pty=pty, harmless=harmless)

    async def facts(self) -> Facts:
        async with self._asking:
            if self._facts is None:
                self._facts = await gather_facts.over_shell(self, PROBE_TIMEOUT)
        return self._facts

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _begin(self, action: Callable[[Connection], Awaitable[T]]) -> T:
        """Do it; once more on a new connection if the old one was lost before it began."""
        from nestlab.wire.ssh_sessions import NotStarted

        try:
            return await action(await self.connect())
        except NotStarted:
            return await action(await self.connect())

    async def _repeat(self, action: Callable[[Connection], Awaitable[T]]) -> T:
        """Do what may be done twice; once more on a new connection if the old one was lost meanwhile."""
        there = await self.connect()
        try:
            return await action(there)
        except Unreachable:
            if not there.closed:
                raise
            return await action(await self.connect())


def inside(
    parent: Host,
    path: str,
    port: int,
    *,
    user: str,
    key: Path,
    host_key: str,
    host: str = "127.0.0.1",
    timeout: float = LOGIN,
    slowness: float = 1.0,
) -> SshHost:
    """The machine `path` as a host, whose sshd is reached at `host:port` on its parent (any Host of this module).
    `timeout`: nominal seconds for a login; `slowness`: its own.

    Nothing is connected yet. A connection goes through the parent's, which is made anew when it was lost, and so on
    down to the machine nestlab runs on."""

    async def through(tunnel: Connection | None, slowness: float) -> Connection:
        from nestlab.wire import ssh

        limit = patience.allowed(timeout, slowness)
        return await ssh.connect(
            host, port, user=user, key=key, host_key=host_key, tunnel=tunnel, timeout=limit, where=path
        )

    async def connect(slowness: float) -> Connection:
        if not isinstance(parent, SshHost):
            return await through(None, slowness)
        tunnel = await parent.connect()
        try:
            return await through(tunnel, slowness)
        except Unreachable:
            if not tunnel.closed:
                raise
            return await through(await parent.connect(), slowness)  # nobody had noticed that the parent's was lost

    return SshHost(path, connect, slowness=slowness)


def at(url: str, *, ask: Callable[[str], bool] | None = None, timeout: float = LOGIN, of_lab: bool = False) -> SshHost:
    """A machine of the user's own, `ssh://[user@]host[:port]`, as a host of level 0 that is reached as the user's
    OpenSSH reaches it: see `hosts.remote`, also for `ask`. `of_lab`: its path is that of a lab's own host. LabError if
    the url is malformed; nothing is connected yet."""
    from nestlab.hosts import remote

    address = remote.parse(url)

    async def connect(slowness: float) -> Connection:
        return await remote.connect(address, ask=ask, timeout=patience.allowed(timeout, slowness))

    return SshHost("" if of_lab else str(address), connect, level=0, address=address.url)
