"""Joins this terminal to a socket: raw mode, keys in, bytes out, and a way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TextIO

from nestlab.base.errors import unwritten
from nestlab.wire import descriptor, terminal_modes

ESCAPE = b"\x1d"
"""Ctrl-]: leaves the console, as in telnet and virsh."""

QUIET = 3.0
"""Seconds without output after which a console is left once stdin, which is no terminal, has ended."""

_CHUNK = 1 << 16


@contextlib.contextmanager
def raw(source: int) -> Iterator[bool]:
    """Keys go through as they are, Ctrl-C too, until the context is left. Yields whether it is a terminal at all."""
    if not os.isatty(source):
        yield False
        return
    before = termios.tcgetattr(source)
    try:
        tty.setraw(source, termios.TCSADRAIN)  # keeps what was typed ahead
        yield True
    finally:
        termios.tcsetattr(source, termios.TCSADRAIN, before)


async def attach(socket: str, *, source: int = 0, sink: int = 1) -> None:
    """Join the descriptors `source` and `sink` to a unix socket until Ctrl-] (on a terminal), the end of the socket,
    or, where `source` is no terminal, its end followed by a while without output. OSError when nobody answers,
    LabError when the sink is full."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        with terminal_modes.lent(sink), raw(source) as is_terminal:
            send = asyncio.create_task(_send(source, writer, is_terminal))
            heard = asyncio.Event()
            show = asyncio.create_task(_show(reader, sink, heard))
            try:
                await asyncio.wait((send, show), return_when=asyncio.FIRST_COMPLETED)
                if not is_terminal:
                    await _until_quiet(show, heard)
            finally:
                for task in (send, show):
                    task.cancel()
                _, shown = await asyncio.gather(send, show, return_exceptions=True)
            if isinstance(shown, OSError) and not isinstance(shown, (BrokenPipeError, ConnectionError)):
                raise unwritten(shown)
    finally:
        writer.close()


async def _send(source: int, writer: asyncio.StreamWriter, is_terminal: bool) -> None:
    while data := await descriptor.read(source, _CHUNK):
        typed, escape, _ = data.partition(ESCAPE) if is_terminal else (data, b"", b"")
        writer.write(typed)
        await writer.drain()
        if escape:
            return


async def _show(reader: asyncio.StreamReader, sink: int, heard: asyncio.Event) -> None:
    while data := await reader.read(_CHUNK):
        heard.set()
        while data:
            data = data[os.write(sink, data) :]


async def _until_quiet(show: asyncio.Task[None], heard: asyncio.Event) -> None:
    while not show.done():
        heard.clear()
        try:
            await asyncio.wait_for(heard.wait(), QUIET)
        except TimeoutError:
            return


def size(stream: TextIO | None = None) -> tuple[int, int]:
    """Columns and lines of this terminal (stdout's unless given); 80 by 24 where there is none."""
    try:
        found = os.get_terminal_size((stream or sys.stdout).fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns, found.lines
