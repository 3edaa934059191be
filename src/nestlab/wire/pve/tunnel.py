"""A TCP connection to a guest through its agent, where no network leads to the guest.

A relay in the guest (`relay`) turns the stream into files, which are written and read by requests that may be
repeated: a stream survives lost answers and an agent that is silent for a while, and ends when the machine does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import select
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.pve.agent import CONTENT, Agent, pause
from nestlab.wire.pve.relay import LONELY, RELAY, SIZE, START, STOP, WINDOW, framed

PIECE = CONTENT - SIZE - 1
"""Bytes that go to the port in one request."""

BEAT = LONELY / 5
"""Seconds between two signs of life."""

AHEAD = 16
"""Pieces that may be in the guest without having been taken to the port; whether they were is asked that often."""

LATEST = 2.0
"""Seconds after which, at most, it is seen that something came from the port. (Soon after the last thing: 20 ms.)"""


async def connect(agent: Agent, port: int) -> Stream:
    """A stream to 127.0.0.1:`port` of the agent's machine. Whether anybody listens there shows as soon as something is
    read. LabError when the guest lacks what a relay needs."""
    result = await agent.run(["sh", "-c", START, "sh", str(port)], input=RELAY.encode(), check=False)
    folder = result.text.strip()
    if result.status != 0 or not re.fullmatch(r"/[\w./-]{1,200}", folder):
        what = f"No connection can be made through the guest agent of {agent.where}."
        hint = "It needs sh, mktemp, mkfifo, dd and base64 in the guest, and room in its /run."
        raise LabError(what, hint=hint, detail=result.stderr.decode(errors="replace").strip())
    return Stream(agent, folder)


class Stream:
    """One stream: `socket` is its near end, a connected local socket for whoever takes it. The end of either side is
    the end of both, and of the relay."""

    def __init__(self, agent: Agent, folder: str) -> None:
        self.socket, self._ours = socket.socketpair()
        self._ours.setblocking(False)
        self.trouble = ""
        """Why it ended, if not because either side wished so."""
        self._agent = agent
        self._folder = folder
        self._read = 0
        """Segments that were read whole."""
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._leave = asyncio.Event()
        self._last = asyncio.get_running_loop().time()
        self._work = asyncio.create_task(self._carry())

    async def close(self) -> None:
        """End it, and wait until the relay in the guest has gone. Repeating it does nothing."""
        self._leave.set()
        await asyncio.wait({self._work})
        self.socket.close()

    async def _carry(self) -> None:
        ways: Sequence[Callable[[], Coroutine[Any, Any, object]]] = (self._out, self._in, self._live, self._leave.wait)
        tasks = [asyncio.create_task(way()) for way in ways]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._blame(task.exception())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ours.close()
            await self._stop()

    def _blame(self, error: BaseException | None) -> None:
        if isinstance(error, LabError):
            self.trouble = self.trouble or error.what
        elif error is not None and not isinstance(error, OSError):
            raise error

    async def _stop(self) -> None:
        with contextlib.suppress(LabError, TimeoutError):  # then it ends by itself, lonely
            async with asyncio.timeout(BEAT):
                await self._agent.run(["sh", "-c", STOP, "sh", self._folder], check=False)

    async def _out(self) -> None:
        """What is written here goes to the port."""
        loop = asyncio.get_running_loop()
        number = 0
        while data := await loop.sock_recv(self._ours, PIECE):
            if number % AHEAD == AHEAD - 1:
                await self._taken(number - AHEAD + 1)
            await self._agent.place(f"{self._folder}/i.{number}", framed(data))
            number += 1
            self._last = loop.time()
            self._wake.set()

    async def _taken(self, wanted: int) -> None:
        """Until so many pieces have gone to the port."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            said = (await self._agent.text(f"{self._folder}/s")).strip()
            if said and not (said.isascii() and said.isdigit() and len(said) < 16):
                raise _strange()
            if int(said or 0) >= wanted:
                return
            if _left(self._ours):
                raise ConnectionResetError
            await asyncio.sleep(pause(loop.time() - begun, most=LATEST))

    async def _in(self) -> None:
        """What comes from the port is read here."""
        loop = asyncio.get_running_loop()
        segment = Segment()
        while True:
            self._wake.clear()
            segment.take(await self._agent.text(f"{self._folder}/o.{self._read}"))
            if segment.data:
                self._last = loop.time()
                await loop.sock_sendall(self._ours, segment.data)
            if segment.last is not None:
                self._end(segment.last)
                return
            if segment.over:
                self._read += 1
                segment = Segment()
                if self._read % (WINDOW // 2) == 0:
                    self._told.set()
            elif not segment.data:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause(loop.time() - self._last, 0.02, LATEST)):
                        await self._wake.wait()

    def _end(self, said: str) -> None:
        status, _, why = said.partition(" ")
        if status not in ("0", ""):
            self.trouble = f"{self._agent.where}: {why or f'the connection ended with status {status}'}"

    async def _live(self) -> None:
        """Say how far was read, whenever that frees something, and that there is still somebody."""
        beat = 0
        while True:
            self._told.clear()
            beat += 1
            await self._agent.place(f"{self._folder}/a", f"{self._read} {beat}\n".encode())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._told.wait()


class Segment:
    """One o.N, read again and again as it grows: `data` is what the last look found new."""

    def __init__(self) -> None:
        self.data = b""
        self.over = False
        self.last: str | None = None
        """What the connector said at the end of all."""
        self._seen = 0

    def take(self, text: str) -> None:
        """Look at all of its text. The line that is still being written waits for the next look."""
        fresh = text[self._seen : text.rfind("\n") + 1]
        self._seen += len(fresh)
        parts = []
        for line in fresh.splitlines():
            if line == ".":
                self.over = True
            elif line.startswith("!"):
                self.last = line[1:]
            else:
                parts.append(_decoded(line))
        self.data = b"".join(parts)


def _left(ours: socket.socket) -> bool:
    """Whether the other end was closed, though it may have left something to read."""
    look = select.poll()
    look.register(ours, 0)
    return bool(look.poll(0))


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except ValueError as error:
        raise _strange() from error


def _strange() -> Unreachable:
    what = "What came through the guest agent is not what its relay wrote."
    return Unreachable(what, hint="Something else writes to its files: try again.")
