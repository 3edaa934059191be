"""Bytes between stdin, stdout and a socket, in a process of their own as ssh starts one."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

from waiting import LONG

JOIN = """
import asyncio, socket, sys
from nestlab.wire import stdio
far = socket.socket(fileno=int(sys.argv[1]))
asyncio.run(stdio.join(far))
"""


def _typed(stdin: IO[bytes], given: bytes) -> None:
    """As ssh does it: stdin stays open after what was said."""
    with contextlib.suppress(BrokenPipeError):
        stdin.write(given)
        stdin.flush()


def joined(serve: Callable[[socket.socket], None], given: bytes) -> bytes:
    near, far = socket.socketpair()
    with near, far:
        thread = threading.Thread(target=serve, args=(near,), daemon=True)
        thread.start()
        argv = [sys.executable, "-c", JOIN, str(far.fileno())]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[far.fileno()])
        far.close()
        watchdog = threading.Timer(LONG, process.kill)
        watchdog.start()
        assert process.stdin is not None
        assert process.stdout is not None
        typed = threading.Thread(target=_typed, args=(process.stdin, given), daemon=True)
        typed.start()
        said = process.stdout.read()
        status = process.wait()
        watchdog.cancel()
        assert status == 0
        typed.join(LONG)
        thread.join(LONG)
    return said


def test_what_is_said_on_either_side_arrives_on_the_other_to_the_last_byte() -> None:
    data = bytes(range(256)) * 4000

    def echo(near: socket.socket) -> None:
        left = len(data)
        while left:
            piece = near.recv(1 << 16)
            assert piece
            near.sendall(piece)
            left -= len(piece)
        near.shutdown(socket.SHUT_RDWR)

    assert joined(echo, data) == data


def test_a_far_side_that_breaks_off_ends_it_though_stdin_is_open() -> None:
    def leave(near: socket.socket) -> None:
        near.sendall(b"last words")
        near.close()

    assert joined(leave, b"") == b"last words"
