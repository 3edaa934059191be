"""Cards for the switch's tests: what QEMU is to a switch, and the switch process itself."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nestlab.network.switch import CONTROL, PID, socket_name
from waiting import LONG

SOURCE = str(Path(__file__).resolve().parent.parent / "src")
BROADCAST = b"\xff" * 6
LIMIT = LONG
"""Seconds after which a test gives up; nothing is measured by it."""


def mac(number: int) -> bytes:
    return bytes((0x52, 0x54, 0, 0, number >> 8, number & 255))


def frame(target: bytes, source: bytes, body: bytes = b"", size: int = 60) -> bytes:
    data = target + source + b"\x08\x00" + body
    return data + bytes(max(0, size - len(data)))


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class Card:
    """One connection to a segment."""

    def __init__(self, directory: Path, segment: str = "wire", port: str = "") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(str(directory / socket_name(segment, port)))
        self.stream = self.sock.makefile("rb")

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(map(framed, frames)))

    def receive(self) -> bytes:
        """The next frame; b"" when the switch has closed the connection (in the middle of a frame: an error)."""
        head = self.stream.read(4)
        if not head:
            return b""
        (size,) = struct.unpack(">I", head)
        data = self.stream.read(size)
        assert len(data) == size, "a torn frame"
        return data

    def body(self) -> str:
        """The text in the next frame."""
        return self.receive()[14:].rstrip(b"\0").decode()

    def hello(self, source: bytes, *others: Card) -> None:
        """Make the switch learn `source` here; `others` are all other cards of the segment."""
        self.send(frame(BROADCAST, source, b"hello"))
        for card in others:
            assert card.body() == "hello"

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


def start(directory: Path, *segments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`python -m nestlab.network.switch` for a lab called `test`; `before`: what to run it with (`prlimit …`)."""
    argv = [*before, sys.executable, "-m", "nestlab.network.switch", "nestlab-switch:test", str(directory), *segments]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT, env=environment)


def pid_of(directory: Path) -> int:
    return int((directory / PID).read_text())


def ask(directory: Path, request: object) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(str(directory / CONTROL))
        sock.sendall(json.dumps(request).encode() + b"\n")
        reply: dict[str, Any] = json.loads(sock.makefile().readline())
        return reply


def ports(directory: Path, segment: str = "wire") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(directory, {"do": "status"})["segments"][segment]["ports"]
    return found


def until(condition: Callable[[], bool]) -> None:
    """Ask the world again and again, until it is so."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def ended(process: int) -> bool:
    """Whether the process of this pidfd has ended, or does so soon."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(LIMIT * 1000))


def kill(directory: Path) -> None:
    """End the switch of this directory, if one runs."""
    try:
        process = os.pidfd_open(pid_of(directory))
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        assert ended(process)
    except ProcessLookupError:
        return
    finally:
        os.close(process)
