"""JSON messages over a unix socket, synchronous and light: what QMP and the guest agent speak."""

from __future__ import annotations

import json
import socket
import time
from types import TracebackType
from typing import Any, Self

from nestlab.base.typed import parsed

LIMIT = 32 << 20
"""Bytes of one message; more is not a conversation but a flood. (An agent keeps 16 MiB of what a command says.)"""


class Lines:
    """A conversation that must be over within `timeout` seconds. OSError (TimeoutError too), ValueError for what is not
    a JSON object; ConnectionError where the other side ends it."""

    def __init__(self, path: str, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._read = bytearray()
        self._at = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._patience()
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def write(self, *messages: object, before: bytes = b"") -> None:
        self._patience()
        lines = "".join(json.dumps(message, separators=(",", ":")) + "\n" for message in messages)
        self._socket.sendall(before + lines.encode())

    def read(self) -> dict[str, Any]:
        """The next message."""
        line = b""
        while not line.strip():
            line = self.until(b"\n")
        message = parsed(line)
        if not isinstance(message, dict):
            raise ValueError("not a JSON object")
        return message

    def until(self, mark: bytes) -> bytes:
        """Reads up to the next `mark`, a single byte."""
        self._patience()
        looked = self._at
        while (end := self._read.find(mark, looked)) < 0:
            looked = len(self._read)
            if looked - self._at > LIMIT:
                raise ValueError("a message without end")
            self._patience()
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("it closed the connection")
            self._read += data
        found = bytes(self._read[self._at : end])
        self._at = end + 1
        if self._at > 1 << 16:
            del self._read[: self._at]
            self._at = 0
        return found

    def _patience(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
