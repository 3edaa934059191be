"""A running command on another machine, as asyncssh's session."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import Any

from nestlab.base.errors import Unreachable
from nestlab.wire import shell
from nestlab.wire.command_streams import Flow
from nestlab.wire.result import Result

GRACE = 2.0
"""Seconds that a command's end, or that of its output, is waited for."""


class Command(Flow):
    """A remote command at work (see `result.Running`); asyncssh calls it as its SSHClientSession."""

    def __init__(self, argv: Sequence[str], where: str) -> None:
        super().__init__(argv, f" on {where}")
        self._where = where
        self._channel: Any = None
        self._lost: Exception | None = None
        self._pid: int | None = None
        self.asked = False
        """Its channel was opened, so it may have been started."""

    # -- asyncssh.SSHClientSession

    def connection_made(self, channel: Any) -> None:
        self.asked = True
        self._channel = channel

    def session_started(self) -> None: ...

    def data_received(self, data: bytes, datatype: int | None) -> None:
        (self.said if datatype is None else self.complained)(data)

    def eof_received(self) -> bool:
        self.silent()
        return True

    def exit_status_received(self, status: int) -> None: ...

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None: ...

    def xon_xoff_requested(self, client_can_do: bool) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc
        self.silent()
        self.ended()

    # -- Flow

    def send(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._channel.write(data)

    def close_input(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._channel.write_eof()

    def hold(self) -> None:
        self._channel.pause_reading()

    def let_go(self) -> None:
        self._channel.resume_reading()

    # -- Running

    async def result(self, input: bytes | None = None) -> Result:
        stdout, stderr = await self.finish(input, GRACE)
        return Result(self.argv, self.status(), stdout, stderr)

    def resize(self, columns: int, lines: int) -> None:
        """Its terminal has another size now."""
        with contextlib.suppress(OSError):
            self._channel.change_terminal_size(columns, lines)

    def drop(self) -> None:
        """Let go of it at once, if it was started at all; on a terminal that hangs up on it."""
        if self._channel is not None:
            self._channel.abort()  # close() would first wait until it has read its input

    @property
    def begun(self) -> bool:
        """The login shell there has run what it was given."""
        return self._pid is not None

    def status(self) -> int:
        """Of a command that is over. Unreachable if its host went away before it ended."""
        status, by = self._channel.get_exit_status(), self._channel.get_exit_signal()
        if by is not None:
            name = f"SIG{by[0]}"
            return 128 + (signal.Signals[name] if name in signal.Signals.__members__ else 0)
        if status is None or status < 0:
            what = f"The connection to {self._where} was lost while `{self.argv[0]}` ran there."
            raise Unreachable(what, hint=f"See its console: nestlab logs {self._where}", detail=str(self._lost or ""))
        return int(status)

    def signal(self, name: str) -> None:
        """Ask the server to send it a signal. (OpenSSH does not do so for root.)"""
        with contextlib.suppress(OSError):  # the connection is gone
            self._channel.send_signal(name)

    async def ends(self, timeout: float) -> bool:
        """Whether it ends within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.until(lambda: self.over)
        return self.over

    async def pid(self, timeout: float) -> int | None:
        """Its process there, once its shell has said so (`shell.announce`)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.until(lambda: self.over or self._pid is not None)
        return self._pid

    def complained(self, data: bytes) -> None:
        super().complained(data)
        if self._pid is None and (said := shell.ANNOUNCED.search(self._stderr)):
            self._pid = int(said[1])
            del self._stderr[said.start() : said.end()]
            self._changed.set()
