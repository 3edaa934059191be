"""SSH connections by asyncssh, with one pinned host key and one client key.

Nothing else is trusted or tried: no known_hosts file, no configuration, no agent, no password (those are for machines
of the user's own: `hosts.remote`, which makes connections by `enter`). Works with OpenSSH and
with dropbear (exec, pty and TCP tunnels only). Under emulation a process costs tens of milliseconds and a session some
hundreds, so each operation is one session of few processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from nestlab.base import temporary
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.printable import one_line
from nestlab.wire import login, shell
from nestlab.wire.command import GRACE, Command
from nestlab.wire.login import look
from nestlab.wire.result import Result, deaf, failure, lines_of, too_slow
from nestlab.wire.ssh_sessions import Sessions

if TYPE_CHECKING:
    import asyncssh

    from nestlab.wire.passing import Passing

trace: Callable[[str], None] | None = None
"""Is told every command line with its host, when set (`nestlab --debug`)."""

SLICE = 1 << 18


class NoForwarding(LabError):
    """An sshd that forwards nothing, or was told not to."""


class Carrier(Protocol):
    """A carrier of a connection where no network leads. Closing it waits until it has gone from the other side too."""

    @property
    def socket(self) -> socket.socket:
        """Its near end."""

    @property
    def trouble(self) -> str:
        """Why it ended, if it broke."""

    async def close(self) -> None: ...


class Connection:
    """A connection to one machine. `where` names it in errors, `hint` says what to do when it is lost. Every method
    may be called concurrently."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        where: str,
        again: Callable[[], Awaitable[Connection]],
        hint: str = "",
        carrier: Carrier | None = None,
    ) -> None:
        self.asyncssh = connection
        self.where = where
        self.hint = hint or look(where)
        self._carrier = carrier
        self._again = again
        self._sessions = Sessions(connection, where, self.hint, again)

    @property
    def user(self) -> str:
        """Whom it logged in as."""
        return str(self.asyncssh.get_extra_info("username", ""))

    @property
    def closed(self) -> bool:
        """It was closed or lost: nothing can be started any more."""
        return self.asyncssh.is_closed()

    async def run(
        self,
        argv: Sequence[str],
        *,
        line: str | None = None,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        """Run a command (by the shell command line `line`, if given) to its end. See `host.Host.run`."""
        try:
            async with asyncio.timeout(timeout), self.start(argv, line=line, env=env, brief=True) as command:
                result = await command.result(input)
        except TimeoutError:
            raise too_slow(argv, f" on {self.where}", timeout or 0) from None
        if check and result.status != 0:
            raise failure(result, f" on {self.where}") if command.begun else deaf(result, self.user, self.where)
        return result

    @contextlib.asynccontextmanager
    async def lines(self, argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `host.Host.lines`."""
        async with self.start(argv) as command:
            yield lines_of(command, f" on {self.where}")

    async def read(self, path: str, *, timeout: float | None = None) -> bytes:
        """See `host.Host.read`."""
        return (await self.run(["cat", "--", path], timeout=timeout)).stdout

    async def write(self, path: str, data: bytes, *, mode: int = 0o600, timeout: float | None = None) -> None:
        """See `host.Host.write`."""
        await self.run(["write", path], line=shell.store(path, len(data), mode), input=data, timeout=timeout)

    async def write_many(self, files: Mapping[str, tuple[bytes, int]], *, timeout: float | None = None) -> None:
        """See `host.Host.write_many`."""
        if files:
            token = f".{os.urandom(4).hex()}.new"
            data = _archive(files, token)
            await self.run(["write", *files], line=shell.unpack(files, token), input=data, timeout=timeout)

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        """See `host.Host.put`."""
        with open_local(source) as file:
            line = shell.store(path, os.fstat(file.fileno()).st_size, mode)
            async with self.start(["put", path], line=line, brief=True) as command:
                while not command.over and (data := file.read(SLICE)):
                    await command.write(data)
                result = await command.result()
        if result.status != 0:
            raise failure(result, f" on {self.where}")

    @contextlib.asynccontextmanager
    async def unix(self, path: str) -> AsyncIterator[str]:
        """A local socket that leads to the unix socket `path` there. OpenSSH only: dropbear closes each connection."""
        with temporary.folder() as folder:
            here = f"{folder}/s"
            listener = await self.asyncssh.forward_local_path(here, path)
            try:
                yield here
            finally:
                listener.close()

    @contextlib.asynccontextmanager
    async def port(self, port: int) -> AsyncIterator[str]:
        """A local socket that leads to 127.0.0.1:`port` there."""
        with temporary.folder() as folder:
            here = f"{folder}/s"
            listener = await self.asyncssh.forward_local_path_to_port(here, "127.0.0.1", port)
            try:
                yield here
            finally:
                listener.close()

    @contextlib.asynccontextmanager
    async def back(self, path: str, here: str) -> AsyncIterator[None]:
        """A unix socket `path` there that leads to the unix socket `here` on this machine. OpenSSH only. Unreachable
        where its sshd does not do that."""
        async with self._listener(self.asyncssh.forward_remote_path(path, here)):
            yield

    @contextlib.asynccontextmanager
    async def serving(self, path: str, passing: Passing) -> AsyncIterator[None]:
        """As `back`; each who connects there is joined to what `passing` leads to, and so many at one time as that
        lets."""
        async with self._listener(self.asyncssh.start_unix_server(lambda: passing.joined, path)):
            try:
                yield
            finally:
                await passing.close()

    @contextlib.asynccontextmanager
    async def _listener(self, listening: Awaitable[asyncssh.SSHListener]) -> AsyncIterator[None]:
        import asyncssh

        try:
            listener = await listening
        except (asyncssh.Error, OSError) as error:
            what = f"The sshd of {self.where} forwards no unix sockets back: {one_line(str(error))[:200]}."
            raise Unreachable(what, hint="AllowStreamLocalForwarding of OpenSSH.") from error
        try:
            yield
        finally:
            listener.close()

    async def another(self) -> Connection:
        """One more connection to the same machine, for what would keep this one busy; the caller closes it."""
        return await self._again()

    async def tcp(self, port: int) -> tuple[Any, Any]:
        """A reader and a writer of bytes that lead to 127.0.0.1:`port` there. Unreachable when nothing listens there,
        NoForwarding when its sshd does not do that."""
        import asyncssh

        try:
            return await self.asyncssh.open_connection("127.0.0.1", port)
        except (asyncssh.Error, OSError) as error:
            if getattr(error, "code", None) == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                hint = "AllowTcpForwarding of OpenSSH, -j of dropbear."
                raise NoForwarding(f"The sshd of {self.where} forwards no ports.", hint=hint) from error
            what = f"Port {port} of {self.where} takes no connection: {one_line(str(error))[:200]}."
            raise Unreachable(what, hint=f"What listens there: nestlab exec {self.where} -- ss -tlnp") from error

    async def close(self) -> None:
        """Close it, waiting a moment for the other side to agree."""
        await self._sessions.settle()
        self.asyncssh.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.asyncssh.wait_closed()
        self.asyncssh.abort()
        if self._carrier is not None:
            await self._carrier.close()

    @contextlib.asynccontextmanager
    async def start(
        self,
        argv: Sequence[str],
        *,
        line: str | None = None,
        env: Mapping[str, str] | None = None,
        brief: bool = False,
        make: Callable[[Sequence[str], str], Command] = Command,
        **pty: Any,
    ) -> AsyncIterator[Command]:
        """Start a command (an empty `argv`: a login shell); it is ended when the context is left.

        `brief` says that it will end by itself; `make` makes the command, if it is to be of another class; `pty`:
        request_pty, term_type and term_size of asyncssh.
        NotStarted if the connection was lost before it began."""
        if argv and line is None:
            line = shell.command(argv, env)
        if trace is not None:
            trace(f"{self.where}: {line or 'a login shell'}")
        if line is not None and not pty:
            line = shell.announce(line)
        command = await self._sessions.open(lambda: make(argv, self.where), line, brief, pty)
        try:
            yield command
        finally:
            await self._sessions.end(command)


async def connect(
    host: str,
    port: int,
    *,
    user: str,
    key: Path,
    host_key: str,
    tunnel: Connection | None = None,
    over: Callable[[], Awaitable[Carrier]] | None = None,
    timeout: float = 30.0,
    where: str = "",
) -> Connection:
    """Connect to `host:port`, as seen from the far end of `tunnel` where there is one; or `over` what that makes: a
    stream to that very port.

    `host_key` is the public key line which the server must have; `key` the file of the only client key that is tried;
    `where` names the machine in errors. Unreachable while nobody answers as an ssh server (also within `timeout`
    seconds); LabError when the wrong one does, or it does not let us in.
    """
    where = where or f"{host}:{port}"
    if trace is not None:
        trace(f"{where}: connect to {host}:{port}{f' through {tunnel.where}' if tunnel else ''} as {user}")
    identity = await asyncio.to_thread(login.identity, key, host_key)
    if over is not None:
        carried = _Carried(over, functools.partial(login.login, host, port, user, identity, None, timeout, where))
        return await carried.connect(where)

    async def log_in() -> asyncssh.SSHClientConnection:
        through = tunnel.asyncssh if tunnel else None
        return await login.login(host, port, user, identity, through, timeout, where)

    return await enter(log_in, where)


async def enter(
    log_in: Callable[[], Awaitable[asyncssh.SSHClientConnection]], where: str, hint: str = ""
) -> Connection:
    """The connection that `log_in` makes, whichever keys it trusts; it may be called again while that lasts, for
    another one to the same machine. `where` and `hint`: see `Connection`."""

    async def once() -> Connection:
        return Connection(await log_in(), where, once, hint)

    return await once()


class _Carried:
    """Makes connections over carriers."""

    def __init__(
        self, over: Callable[[], Awaitable[Carrier]], log_in: Callable[..., Awaitable[asyncssh.SSHClientConnection]]
    ) -> None:
        self._over = over
        self._log_in = log_in

    async def connect(self, where: str) -> Connection:
        carrier = await self._over()
        try:
            made = await self._log_in(sock=carrier.socket)
        except LabError as error:
            await carrier.close()
            error.detail = "\n".join(filter(None, [error.detail, carrier.trouble]))
            raise
        except BaseException:
            await carrier.close()
            raise
        return Connection(made, where, lambda: self.connect(where), carrier=carrier)


def open_local(path: Path) -> BinaryIO:
    """A local file to read; LabError if it cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise LabError(f"The file {path} cannot be read: {error.strerror}.", hint="Check its name and mode.") from error


def _archive(files: Mapping[str, tuple[bytes, int]], token: str) -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, (data, mode) in files.items():
            member = tarfile.TarInfo(shell.staged(path, token))
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
