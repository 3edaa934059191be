"""The door to other machines: SSH by asyncssh, with one pinned host key and one client key.

Nothing else is trusted or tried: no known_hosts file, no configuration, no agent, no password. Works with OpenSSH and
with dropbear (exec, pty and TCP tunnels only). Under emulation a process costs tens of milliseconds and a session some
hundreds, so each operation is one session of few processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nestlab.errors import LabError, Unreachable
from nestlab.wire import shell
from nestlab.wire.command import GRACE, Command
from nestlab.wire.result import Result, failure, lines_of, too_slow

if TYPE_CHECKING:
    import asyncssh

trace: Callable[[str], None] | None = None
"""Is told every command line with its host, when set (`nestlab --debug`)."""

KEEPALIVE = (15, 8)
"""Seconds between questions to a silent host, and how many may stay without an answer. Long: a machine that is
paused for a snapshot, or starved under emulation, is not gone; one whose QEMU ended closes its connection at once."""

KEY_EXCHANGES = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
CIPHERS = ("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")

SLICE = 1 << 18


class NotStarted(Unreachable):
    """The connection was lost before the operation began: it may be tried again on another."""


class Connection:
    """A connection to one machine. `where` names it in errors. Every method may be called concurrently."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, where: str, again: Callable[[], Awaitable[Connection]]
    ) -> None:
        self.asyncssh = connection
        self.where = where
        self._again = again
        self._sessions: set[Command] = set()
        self._brief: set[Command] = set()
        self._limit: int | None = None
        self._freed = asyncio.Event()

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
            raise failure(result, f" on {self.where}")
        return result

    @contextlib.asynccontextmanager
    async def lines(self, argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `host.Host.lines`."""
        async with self.start(argv) as command:
            yield lines_of(command, f" on {self.where}")

    async def read(self, path: str) -> bytes:
        """See `host.Host.read`."""
        return (await self.run(["cat", "--", path])).stdout

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """See `host.Host.write`."""
        await self.run(["write", path], line=shell.store(path, len(data), mode), input=data)

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        """See `host.Host.write_many`."""
        if files:
            token = f".{os.urandom(4).hex()}.new"
            await self.run(["write", *files], line=shell.unpack(files, token), input=_archive(files, token))

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
        with tempfile.TemporaryDirectory(prefix="nestlab-", dir=_folder()) as folder:
            here = f"{folder}/s"
            listener = await self.asyncssh.forward_local_path(here, path)
            try:
                yield here
            finally:
                listener.close()

    async def close(self) -> None:
        """Close it, waiting a moment for the other side to agree."""
        self.asyncssh.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self.asyncssh.wait_closed()
        self.asyncssh.abort()

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
        command = await self._room(lambda: make(argv, self.where), line, brief, pty)
        try:
            yield command
        finally:
            try:
                await self._end(command)
            finally:
                command.drop()
                self._leave(command)

    async def _end(self, command: Command) -> None:
        """End a command that still runs, with what it started."""
        if command.over:
            return
        command.signal("TERM")
        if await command.ends(0.2):
            return
        # OpenSSH passes on no signals where it does not separate privileges, which is so for root.
        with contextlib.suppress(TimeoutError, LabError):  # then letting go of it is all that can be done
            async with asyncio.timeout(4 * GRACE):
                await self._kill(command)

    async def _kill(self, command: Command) -> None:
        pid = await command.pid(GRACE)
        if pid is None:
            return
        killer = Command(["kill"], self.where)
        try:
            if await self._open(killer, shell.end(pid), {}):
                await killer.ends(2 * GRACE)
            else:  # the command itself takes the last session that the server allows
                other = await self._again()
                try:
                    await other.run(["kill"], line=shell.end(pid))
                finally:
                    await other.close()
        finally:
            killer.drop()
        await command.ends(GRACE)

    async def _room(self, make: Callable[[], Command], line: str | None, brief: bool, pty: dict[str, Any]) -> Command:
        """Open a session. Servers limit sessions per connection (OpenSSH: MaxSessions, 10 where nobody changed it);
        when one is refused beside others, wait for a brief one to end."""
        while True:
            while self._limit is not None and len(self._sessions) >= self._limit:
                if not self._brief:
                    what = f"The ssh server of {self.where} allows no session beside {len(self._sessions)} others."
                    raise LabError(what, hint="Raise MaxSessions in its sshd_config.")
                self._freed.clear()
                await self._freed.wait()
            command = make()
            self._sessions.add(command)
            if brief:
                self._brief.add(command)
            try:
                if await self._open(command, line, pty):
                    return command
            except BaseException:
                self._leave(command)
                raise
            self._leave(command)
            # asyncssh wakes us in the order of the server's answers: these are what it has room for.
            self._limit = max(self._limit or 1, sum(each.asked and not each.over for each in self._sessions))

    def _leave(self, command: Command) -> None:
        self._sessions.discard(command)
        self._brief.discard(command)
        self._freed.set()

    async def _open(self, command: Command, line: str | None, pty: dict[str, Any]) -> bool:
        """Start a command; False if the server has no room for another session."""
        import asyncssh

        factory: Any = lambda: command  # noqa: E731
        opening = asyncio.ensure_future(self.asyncssh.create_session(factory, line, encoding=None, **pty))
        try:
            # Shielded: a cancelled create_session would leave a channel that nobody knows.
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: _abandon(done, command))
            raise
        except (asyncssh.Error, OSError) as error:
            command.drop()
            if self.closed and not command.asked:
                raise NotStarted(f"The connection to {self.where} is lost.", hint=_look(self.where)) from error
            if self.closed:
                raise Unreachable(f"The connection to {self.where} was lost.", hint=_look(self.where)) from error
            if command.asked or not self._sessions - {command}:
                what = f"The ssh server of {self.where} does not start a command: {error}."
                raise LabError(what, hint="Check memory and processes there.") from error
            return False
        return True


async def connect(
    host: str,
    port: int,
    *,
    user: str,
    key: Path,
    host_key: str,
    tunnel: Connection | None = None,
    timeout: float = 30.0,
    where: str = "",
) -> Connection:
    """Connect to `host:port`, as seen from the far end of `tunnel` where there is one.

    `host_key` is the public key line which the server must have; `key` the file of the only client key that is tried;
    `where` names the machine in errors. Unreachable while nobody answers as an ssh server (also within `timeout`
    seconds); LabError when the wrong one does, or it does not let us in.
    """
    where = where or f"{host}:{port}"
    if trace is not None:
        trace(f"{where}: connect to {host}:{port}{f' through {tunnel.where}' if tunnel else ''} as {user}")
    identity = await asyncio.to_thread(_identity, key, host_key)

    async def once() -> Connection:
        connection = await _login(host, port, user, identity, tunnel, timeout, where)
        return Connection(connection, where, once)

    return await once()


def _identity(key: Path, host_key: str) -> tuple[asyncssh.SSHKey, asyncssh.SSHKey]:
    """Our key and the server's. In a thread, for asyncssh takes long to import."""
    import asyncssh

    try:
        return asyncssh.read_private_key(key), asyncssh.import_public_key(host_key)
    except (OSError, asyncssh.KeyImportError) as error:
        raise LabError(f"The lab's ssh key {key} cannot be read: {error}.", hint="Make the lab anew.") from error


async def _login(
    host: str,
    port: int,
    user: str,
    identity: tuple[asyncssh.SSHKey, asyncssh.SSHKey],
    tunnel: Connection | None,
    timeout: float,
    where: str,
) -> asyncssh.SSHClientConnection:
    import asyncssh

    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)
            return False

    client_key, pinned = identity
    algorithm = pinned.algorithm.decode()
    try:
        async with asyncio.timeout(timeout):
            return await asyncssh.connect(
                host,
                port,
                tunnel=tunnel.asyncssh if tunnel else None,
                config=None,
                client_factory=Client,
                known_hosts=([pinned], [], []),
                server_host_key_algs=["rsa-sha2-512", "rsa-sha2-256"] if algorithm == "ssh-rsa" else [algorithm],
                username=user,
                client_keys=[client_key],
                agent_path=None,
                preferred_auth="publickey",
                kex_algs=KEY_EXCHANGES,
                encryption_algs=CIPHERS,
                mac_algs=MACS,
                compression_algs=["none"],
                login_timeout=timeout,
                keepalive_interval=KEEPALIVE[0],
                keepalive_count_max=KEEPALIVE[1],
            )
    except (TimeoutError, OSError, asyncssh.Error) as error:
        expected, got = pinned.get_fingerprint(), offered[0].get_fingerprint() if offered else ""
        raise refusal(error, where, f"{host}:{port}", user, expected, got, timeout) from error


def refusal(error: Exception, where: str, address: str, user: str, expected: str, got: str, timeout: float) -> LabError:
    """What a failed connection means: Unreachable where another try may help, else LabError."""
    import asyncssh

    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} did not answer as an ssh server within {timeout:g} s.", hint=_look(where))
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        what = f"THE HOST KEY OF {where} IS NOT THE ONE THAT NESTLAB GAVE IT: somebody else answers at {address}."
        hint = f"Expected {expected}, got {got or 'another kind of key'}. Nothing was sent to it."
        return LabError(what, hint=hint)
    if isinstance(error, asyncssh.PermissionDenied):
        what = f"{where} does not let {user} in with the lab's key."
        return LabError(what, hint=f"Was its authorized_keys changed? {_look(where)}")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        what = f"{where} ({address}) speaks ssh, but not with nestlab: {error}."
        return LabError(what, hint=f"It should have the host key {expected}. Does something else listen there?")
    if isinstance(error, ConnectionRefusedError | asyncssh.ChannelOpenError):
        return Unreachable(f"{where} refused the connection at {address}.", hint=_look(where), detail=str(error))
    if isinstance(error, asyncssh.ConnectionLost | ConnectionError):
        what = f"{where} closed the connection at {address} before it could be used: its ssh server is not up."
        return Unreachable(what, hint=_look(where))
    return Unreachable(f"No connection to {where} at {address}: {error}.", hint=_look(where))


def open_local(path: Path) -> BinaryIO:
    """A local file to read; LabError if it cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise LabError(f"The file {path} cannot be read: {error.strerror}.", hint="Check its name and mode.") from error


def _abandon(opening: asyncio.Future[Any], command: Command) -> None:
    """End what was being started when nobody waits for it any more."""
    if not opening.cancelled():
        opening.exception()  # seen
    command.drop()


def _look(where: str) -> str:
    return f"See whether it runs, and its console: nestlab status, nestlab logs {where}"


def _folder() -> str | None:
    """Where sockets go: the usual place for temporary files, unless its name is too long for a socket's."""
    return "/tmp" if len(tempfile.gettempdir()) > 60 else None


def _archive(files: Mapping[str, tuple[bytes, int]], token: str) -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, (data, mode) in files.items():
            member = tarfile.TarInfo(shell.staged(path, token))
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
