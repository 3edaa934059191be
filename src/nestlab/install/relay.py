"""Joins stdin and stdout to a unix socket: QEMU runs it for each connection of a guest to an address that is forwarded
to it (`guestfwd=…-cmd:`), which is the only way out that a guest of a closed user network has.

It runs by itself, by any Python 3: `python3 -I -S relay.py SOCKET`.
"""

from __future__ import annotations

import os
import select
import socket
import sys


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
        relay(sys.argv[1])
    except OSError:
        sys.exit(1)
