"""Runs a remote command on nestlab's own stdin, stdout and stderr, with a terminal there if there is one here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import Any

from nestlab.base.errors import unwritten
from nestlab.base.printable import Passing
from nestlab.wire import descriptor, terminal_modes
from nestlab.wire.command import Command
from nestlab.wire.ssh import Connection

CHUNK = 1 << 16

WAY_OUT = b"~."
"""After a newline on a terminal, it leaves at once, as in ssh."""


class Shown(Command):
    """A command whose output goes to descriptors as it comes."""

    harmless = False
    """What it prints does nothing to a terminal."""

    def __init__(self, argv: Sequence[str], where: str) -> None:
        super().__init__(argv, where)
        self._passing = {each: Passing() for each in (1, 2) if self.harmless and os.isatty(each)}
        self.broken: OSError | None = None
        """Why its output can be shown no more."""

    def said(self, data: bytes) -> None:
        self._show(1, data)

    def complained(self, data: bytes) -> None:
        if self._pid is not None:
            self._show(2, data)
            return
        super().complained(data)
        if self._pid is not None:
            self.show_rest()

    def show_rest(self) -> None:
        """Shows what came on stderr before its shell announced its process, or all if it never did."""
        self._show(2, bytes(self._stderr))
        self._stderr.clear()

    def show_all(self) -> None:
        """Shows what is left at the end: half a letter, too."""
        self.show_rest()
        for each in self._passing:
            self._show(each, b"", last=True)

    def _show(self, descriptor: int, data: bytes, *, last: bool = False) -> None:
        if descriptor in self._passing:
            data = self._passing[descriptor](data, last=last)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError as error:
            self.broken = self.broken or error
            self._changed.set()
            self.drop()


async def attach(connection: Connection, argv: Sequence[str], *, pty: bool, harmless: bool = False) -> int:
    """Run a command, or a login shell if `argv` is empty, on stdin, stdout and stderr; its exit status.
    `harmless`: where these are terminals, what it prints does nothing to them but to be read.

    With `pty` and a terminal on stdin, it gets a terminal too: keys go through raw (Ctrl-C as well), its size follows,
    and Enter ~ . leaves at once (status 255). Unreachable if the connection is lost, LabError if stdout is full."""
    is_terminal = pty and os.isatty(0)
    size = os.get_terminal_size(0) if is_terminal else (80, 24)
    wishes: dict[str, Any] = {}
    if pty:
        wishes = {"request_pty": pty, "term_type": os.environ.get("TERM", "dumb"), "term_size": tuple(size)}
    sys.stdout.flush()
    async with connection.start(argv, make=Harmless if harmless else Shown, **wishes) as command:
        assert isinstance(command, Shown)
        with _terminal(command) if is_terminal else contextlib.nullcontext():
            keys = asyncio.create_task(_send(command, is_terminal))
            # Not every server says that a channel which was let go of is over (dropbear does not).
            over = asyncio.create_task(command.until(lambda: command.over or command.broken is not None))
            try:
                await asyncio.wait((keys, over), return_when=asyncio.FIRST_COMPLETED)
                if keys.done() and keys.result():
                    return 255
                await over
            finally:
                keys.cancel()
                over.cancel()
        command.show_all()
        if command.broken is None:
            return command.status()
        if isinstance(command.broken, BrokenPipeError):  # nobody reads it any more: `nestlab exec … | head`
            return 141
        raise unwritten(command.broken)


async def _send(command: Command, is_terminal: bool) -> bool:
    """Send what is typed, to its end; True if the way out was taken."""
    recent = b"\n"
    while data := await descriptor.read(0, CHUNK):
        recent = (recent + data.replace(b"\r", b"\n"))[-CHUNK:]
        if is_terminal and b"\n" + WAY_OUT in recent:
            return True
        recent = recent[-2:]
        await command.write(data)
    command.close_input()
    return False


class Harmless(Shown):
    """One whose output does nothing to a terminal; elsewhere it goes as it is."""

    harmless = True


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # keeps what was typed ahead
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(command: Command) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, lambda: command.resize(*os.get_terminal_size(0)))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _terminal(command: Command) -> Iterator[None]:
    """This terminal is the command's until the context is left."""
    with terminal_modes.lent(1), _raw(), _resizing(command):
        yield
