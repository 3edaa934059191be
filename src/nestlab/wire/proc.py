"""Local commands: the one way to spawn them.

A command gets an argv (never a shell), a built environment, a closed stdin or the bytes it is given, and a process
group of its own, so that Ctrl-C reaches nestlab alone and ending a command ends what it started. A daemon which a
command leaves behind lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from nestlab.base.errors import LabError
from nestlab.wire.command_streams import Flow
from nestlab.wire.result import Result, failure, lines_of, status_of, too_slow

trace: Callable[[str], None] | None = None
"""Is told every command line, when set (`nestlab --debug`)."""

GRACE = 2.0
"""Seconds between TERM and KILL; and for how long a daemon left behind may hold the output of a command that ended."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every local command: PATH, HOME and a UTF-8 locale without translations, then `extra`."""
    path = os.environ.get("PATH", "") or os.defpath
    for folder in ("/usr/sbin", "/sbin"):  # an unprivileged user's PATH lacks them, and mke2fs is there
        if folder not in path.split(":"):
            path += f":{folder}"
    home = os.environ.get("HOME", "/")
    return {"PATH": path, "HOME": home, "LANG": "C.UTF-8", **(extra or {})}


class Process(Flow, asyncio.SubprocessProtocol):
    """A local command at work (see `result.Running`)."""

    _transport: asyncio.SubprocessTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.said if fd == 1 else self.complained)(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self.resume_writing()  # it reads no more: nobody needs to wait for it
        self._open.discard(fd)
        if not self._open:
            self.silent()

    def process_exited(self) -> None:
        self.ended()

    def send(self, data: bytes) -> None:
        self._pipe(0).write(data)

    def close_input(self) -> None:
        self._pipe(0).close()

    def hold(self) -> None:
        if 1 in self._open:
            self._pipe(1).pause_reading()

    def let_go(self) -> None:
        if 1 in self._open:
            self._pipe(1).resume_reading()

    def _pipe(self, fd: int) -> Any:
        """Its transport; typeshed knows only the base class."""
        return self._transport.get_pipe_transport(fd)

    async def result(self, input: bytes | None = None) -> Result:
        stdout, stderr = await self.finish(input, GRACE)
        status = self._transport.get_returncode()
        assert status is not None
        return Result(self.argv, status_of(status), stdout, stderr)

    async def stop(self) -> None:
        """End it with its whole process group if it still runs, and let go of its pipes."""
        try:
            if not self.over:
                self._signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(GRACE):
                        await self.until(lambda: self.over)
                except TimeoutError:
                    pass
                finally:  # also when cancelled again; and for those of its group that ignore TERM
                    self._signal(signal.SIGKILL)
                await self.until(lambda: self.over)
        finally:
            self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), number)


@contextlib.asynccontextmanager
async def start(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Start a command; it is ended when the context is left. LabError if it cannot be started."""
    if trace is not None:
        trace(shlex.join(argv))
    loop = asyncio.get_running_loop()
    try:
        _, running = await loop.subprocess_exec(
            lambda: Process(argv), *argv, env=environment(env), start_new_session=True
        )
    except OSError as error:
        # A directory of PATH that may not be read makes a missing program a forbidden one.
        if shutil.which(argv[0], os.F_OK, environment(env)["PATH"]) is None:
            hint = "Install the package that has it, or put it on PATH."
            raise LabError(f"The program {argv[0]} is not installed here.", hint=hint) from None
        hint = "Check the program and the limits of this machine (memory, processes)."
        raise LabError(f"The program {argv[0]} cannot be run here: {error.strerror}.", hint=hint) from error
    try:
        yield running
    finally:
        await running.stop()


async def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> Result:
    """Run a command to its end, and keep what it says whole. See `host.Host.run`."""
    try:
        async with asyncio.timeout(timeout), start(argv, env=env) as running:
            result = await running.result(input)
    except TimeoutError:
        raise too_slow(argv, "", timeout or 0) from None
    if check and result.status != 0:
        raise failure(result, "")
    return result


@contextlib.asynccontextmanager
async def lines(argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
    """See `host.Host.lines`."""
    async with start(argv) as running:
        yield lines_of(running, "")
