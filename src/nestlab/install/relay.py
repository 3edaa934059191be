"""Joins stdin and stdout to a unix socket: QEMU runs it for each connection of a guest to an address that is forwarded
to it (`guestfwd=…-cmd:`), which is the only way out that a guest of a closed user network has.

It runs by itself, by any Python 3: `python3 -I -S relay.py SOCKET`.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys

MOST = 64
"""Relays of one server at a time: QEMU starts a process for each connection that its guest opens."""


def place(path: str) -> None:
    """Take one of the places at a server, which are free again when this process has ended. OSError where all are
    taken."""
    held = os.open(f"{path}.places", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    for at in range(MOST):
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except OSError:
            continue
        return
    raise OSError("all places are taken")


def relay(path: str) -> None:
    """Until both sides have ended what they say, or one of them is gone."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        reading = [0, server.fileno()]
        while reading:
            for ready in select.select(reading, [], [])[0]:
                data = os.read(ready, 1 << 16)
                if not data:
                    reading.remove(ready)
                    if ready:
                        return
                    server.shutdown(socket.SHUT_WR)
                elif ready:
                    _write(data)
                else:
                    server.sendall(data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    try:
        place(sys.argv[1])
        relay(sys.argv[1])
    except OSError:
        sys.exit(1)
