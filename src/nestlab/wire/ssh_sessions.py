"""The sessions of one ssh connection: commands that run at a time, of which a server allows a few."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire import shell
from nestlab.wire.command import GRACE, Command

if TYPE_CHECKING:
    import asyncssh

TRIES = 50
"""How often a session is asked for that the server refuses though it should have room."""


class NotStarted(Unreachable):
    """The connection was lost before the operation began: it may be tried again on another."""


class Another(Protocol):
    """Another connection to the same machine, for when this one has no session left."""

    async def run(self, argv: Sequence[str], *, line: str | None = None) -> object: ...

    async def close(self) -> None: ...


class Sessions:
    """`where` names the machine in errors, `hint` says what to do when the connection is lost; `again` connects to it
    once more. Every method may be called concurrently."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        where: str,
        hint: str,
        again: Callable[[], Awaitable[Another]],
    ) -> None:
        self._asyncssh = connection
        self._where = where
        self._hint = hint
        self._again = again
        self._sessions: set[Command] = set()
        self._brief: set[Command] = set()
        self._limit: int | None = None
        self._freed = asyncio.Event()
        self._abandoned: set[asyncio.Task[None]] = set()

    async def open(self, make: Callable[[], Command], line: str | None, brief: bool, pty: dict[str, Any]) -> Command:
        """Open a session. Servers limit sessions per connection (OpenSSH: MaxSessions, 10 where nobody changed it);
        when one is refused beside others, wait for a brief one to end."""
        for _ in range(TRIES):
            while self._limit is not None and len(self._sessions) >= self._limit:
                if not self._brief:
                    what = f"The ssh server of {self._where} allows no session beside {len(self._sessions)} others."
                    raise LabError(what, hint="Raise MaxSessions in its sshd_config.")
                self._freed.clear()
                await self._freed.wait()
            command = make()
            self._sessions.add(command)
            if brief:
                self._brief.add(command)
            if await self._begin(command, line, pty):
                return command
            # asyncssh wakes us in the order of the server's answers: these are what it has room for.
            there = sum(each.asked and not each.over for each in self._sessions)
            self._limit = max(self._limit or 1, there)
            if there < self._limit:
                await asyncio.sleep(0.1)  # it has not yet forgotten one that ended
        what = f"The ssh server of {self._where} opens no session, though it has none of ours."
        raise LabError(what, hint="Is MaxSessions in its sshd_config 0?")

    async def settle(self) -> None:
        """Wait a moment for what is being ended in the background."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=GRACE)

    async def end(self, command: Command) -> None:
        """End a command, if it still runs, and give its session back."""
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
        killer = Command(["kill"], self._where)
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

    async def _begin(self, command: Command, line: str | None, pty: dict[str, Any]) -> bool:
        """`_open`; when cancelled, what was begun is ended in the background, and takes room until then."""
        opening = asyncio.ensure_future(self._open(command, line, pty))
        try:
            # Shielded: a cancelled create_session would leave a channel that nobody knows.
            began = await asyncio.shield(opening)
        except asyncio.CancelledError:
            ending = asyncio.create_task(self._abandon(opening, command))
            self._abandoned.add(ending)
            ending.add_done_callback(self._abandoned.discard)
            raise
        except BaseException:
            self._leave(command)
            raise
        if not began:
            self._leave(command)
        return began

    async def _abandon(self, opening: asyncio.Future[bool], command: Command) -> None:
        try:
            with contextlib.suppress(LabError):
                if await opening:
                    await self._end(command)
        finally:
            command.drop()
            self._leave(command)

    def _leave(self, command: Command) -> None:
        self._sessions.discard(command)
        self._brief.discard(command)
        self._freed.set()

    async def _open(self, command: Command, line: str | None, pty: dict[str, Any]) -> bool:
        """Start a command; False if the server has no room for another session."""
        import asyncssh

        factory: Any = lambda: command  # noqa: E731
        # As bytes: words that are not UTF-8 pass as they are, though asyncssh says that it takes none but str.
        sent: Any = None if line is None else line.encode(errors="surrogateescape")
        try:
            await self._asyncssh.create_session(factory, sent, encoding=None, **pty)
        except (asyncssh.Error, OSError) as error:
            command.drop()
            if self._asyncssh.is_closed() and not command.asked:
                raise NotStarted(f"The connection to {self._where} is lost.", hint=self._hint) from error
            if self._asyncssh.is_closed():
                raise Unreachable(f"The connection to {self._where} was lost.", hint=self._hint) from error
            if command.asked:
                what = f"The ssh server of {self._where} does not start a command: {error}."
                raise LabError(what, hint="Check memory and processes there.") from error
            return False
        return True
