"""A server on a unix socket that follows a script: what it says, and what it waits for."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import LONG

GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 3}, "package": ""}, "capabilities": ["oob"]}}


@dataclass(frozen=True)
class Hear:
    """Read one JSON message, which need not end in a newline, and keep it."""


@dataclass(frozen=True)
class Say:
    """Send a message, or bytes as they are. ID in it becomes the last id heard."""

    what: Any


@dataclass(frozen=True)
class Hang:
    """Say nothing more until the client goes away."""


Step = Hear | Say | Hang


@dataclass
class Server:
    path: str
    heard: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def server(path: Path, *scripts: Sequence[Step]) -> Iterator[Server]:
    """One script per connection, one after another."""
    found = Server(str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)
        listener.settimeout(LONG)
        thread = threading.Thread(target=_serve, args=(listener, scripts, found))
        thread.start()
        try:
            yield found
        finally:
            thread.join(timeout=LONG)
            assert not thread.is_alive()


def _serve(listener: socket.socket, scripts: Sequence[Sequence[Step]], found: Server) -> None:
    for script in scripts:
        connection, _ = listener.accept()
        connection.settimeout(LONG)
        rest = ""
        with connection, contextlib.suppress(ConnectionError):
            for step in script:
                if isinstance(step, Hear):
                    message, rest = _hear(connection, rest)
                    found.heard.append(message)
                elif isinstance(step, Say):
                    connection.sendall(_bytes(step.what, found.heard))
                else:
                    while connection.recv(65536):
                        pass


def _hear(connection: socket.socket, rest: str) -> tuple[dict[str, Any], str]:
    while True:
        try:
            message, end = json.JSONDecoder().raw_decode(rest.lstrip("\xff"))
            return message, rest.lstrip("\xff")[end:].lstrip()
        except ValueError:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError from None
            rest += data.decode("latin-1")


def _bytes(what: Any, heard: list[dict[str, Any]]) -> bytes:
    if isinstance(what, bytes):
        return what
    text = json.dumps(what)
    ids = [
        given for each in heard for given in (each.get("id"), each.get("arguments", {}).get("id")) if given is not None
    ]
    if ids:
        text = text.replace('"ID"', json.dumps(ids[-1]))
    return text.encode() + b"\r\n"
