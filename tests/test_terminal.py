"""A terminal joined to a socket: a real socket, a real pseudo terminal."""

from __future__ import annotations

import asyncio
import itertools
import os
import pty
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.hosts import terminal
from nestlab.wire import terminal_modes
from waiting import LONG


@dataclass
class Guest:
    """The other end of a serial line: what it heard, and a way to say something."""

    path: str
    heard: bytearray = field(default_factory=bytearray)
    writer: asyncio.StreamWriter | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, text: bytes) -> None:
        async with asyncio.timeout(LONG):
            while text not in self.heard:
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def guest(folder: Path) -> AsyncIterator[Guest]:
    made = Guest(str(folder / "con"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.writer = writer
        writer.write(b"login: ")
        while data := await reader.read(1000):
            made.heard.extend(data)
            made.came.set()
            if b"poweroff" in data:
                break
        writer.close()

    server = await asyncio.start_unix_server(serve, made.path)
    async with server:
        yield made


async def is_raw(terminal: int) -> None:
    """Until then what is typed belongs to the line discipline."""
    async with asyncio.timeout(LONG):
        for _ in itertools.count():
            if not termios.tcgetattr(terminal)[3] & termios.ICANON:
                return
            await asyncio.sleep(0)


async def test_what_stdin_holds_is_typed_and_what_is_said_is_shown_until_it_is_quiet(tmp_path: Path) -> None:
    typed, shown = tmp_path / "typed", tmp_path / "shown"
    typed.write_bytes(b"root\nuname\n")
    async with guest(tmp_path) as there:
        with typed.open("rb") as source, shown.open("wb") as sink:
            await terminal.attach(there.path, source=source.fileno(), sink=sink.fileno())
        assert there.heard == b"root\nuname\n"
    assert shown.read_bytes() == b"login: "


async def test_control_bracket_leaves_a_terminal_which_is_as_it_was(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    read, write = os.pipe()
    try:
        async with guest(tmp_path) as there:
            attached = asyncio.ensure_future(terminal.attach(there.path, source=theirs, sink=write))
            await is_raw(theirs)
            os.write(ours, b"\x03\x04ls\r")
            await there.wait_for(b"ls\r")
            assert there.heard == b"\x03\x04ls\r"  # Ctrl-C and Ctrl-D belong to the machine
            os.write(ours, b"bye" + terminal.ESCAPE)
            await attached
            await there.wait_for(b"bye")
        assert termios.tcgetattr(theirs) == before
        assert os.read(read, 100) == b"login: "
    finally:
        for descriptor in (ours, theirs, read, write):
            os.close(descriptor)


async def test_a_terminal_is_usable_again_whatever_the_machine_did_to_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        async with guest(tmp_path) as there:
            attached = asyncio.ensure_future(terminal.attach(there.path, source=theirs, sink=theirs))
            await is_raw(theirs)
            os.write(ours, b"bye" + terminal.ESCAPE)
            await attached
        shown = b""
        while not shown.endswith(terminal_modes.RESET):
            shown += os.read(ours, 1000)
        assert shown.startswith(terminal_modes.SAVE)
        assert shown.removeprefix(terminal_modes.SAVE).startswith(b"login: ") or b"login" not in shown
    finally:
        for descriptor in (ours, theirs):
            os.close(descriptor)


async def test_what_is_typed_after_leaving_belongs_to_the_next_reader(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        for word in (b"one", b"two"):
            async with guest(tmp_path) as there:
                attached = asyncio.ensure_future(terminal.attach(there.path, source=theirs, sink=sink))
                await is_raw(theirs)
                os.write(ours, word + terminal.ESCAPE)
                await attached
                await there.wait_for(word)
        os.write(ours, b"three\n")
        assert os.read(theirs, 100) == b"three\n"
    finally:
        for descriptor in (ours, theirs, sink):
            os.close(descriptor)


async def test_the_end_of_the_machine_ends_the_console(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        async with guest(tmp_path) as there:
            attached = asyncio.ensure_future(terminal.attach(there.path, source=theirs, sink=sink))
            await is_raw(theirs)
            os.write(ours, b"poweroff\r")
            await attached
    finally:
        for descriptor in (ours, theirs, sink):
            os.close(descriptor)


async def test_a_full_stdout_ends_the_console_with_an_error(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    sink = os.open("/dev/full", os.O_WRONLY)
    try:
        async with guest(tmp_path) as there:
            with pytest.raises(LabError, match="No space left on device"):
                await terminal.attach(there.path, source=theirs, sink=sink)
    finally:
        for descriptor in (ours, theirs, sink):
            os.close(descriptor)


async def test_a_console_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await terminal.attach(str(tmp_path / "none"))
