"""The screen behind vncproxy: an RFB server (RFC 6143) as QEMU is one, spoken over the websocket.

It asks for the password that was given with the ticket, takes one that is longer than 8 bytes as its first 8, and sends
a picture as it is asked for: raw, in rectangles of some rows, in frames that end anywhere.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from io import BufferedIOBase

from nestlab.base.picture import Picture
from nestlab.testing.fake_pve.consoles import Console, frame, received
from nestlab.wire.rfb import response

ROWS = 48
"""Rows of a rectangle."""

PIECE = 5000
"""Bytes of a frame."""

DARK = Picture(720, 400, bytes(3 * 720 * 400))


class _Gone(Exception):
    """The client has left, or sent what QEMU ends the connection for."""


@dataclass
class Screen(Console):
    """One that vncproxy waits with. `password`: what QEMU was told with it."""

    password: str = ""
    picture: Picture = DARK

    def show(self, reading: BufferedIOBase, writing: BufferedIOBase) -> None:
        """Play a screen until the client goes."""
        self._reading, self._writing, self._waiting = reading, writing, b""
        try:
            self._play()
        except _Gone:
            return

    def _play(self) -> None:
        self._say(b"RFB 003.008\n")
        if self._take(12) != b"RFB 003.008\n":
            return
        self._say(b"\1\2")
        self._take(1)
        challenge = secrets.token_bytes(16)
        self._say(challenge)
        if self._take(16) != response(challenge, self.password):
            self._say(struct.pack(">II", 1, 21) + b"Authentication failed")
            return
        self._say(struct.pack(">I", 0))
        self._take(1)
        name, picture = b"QEMU (fake)", self.picture
        pixels = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        self._say(struct.pack(">HH", picture.width, picture.height) + pixels + struct.pack(">I", len(name)) + name)
        while True:
            self._answer()

    def _answer(self) -> None:
        kind = self._take(1)[0]
        if kind == 0:
            self._take(19)
        elif kind == 2:
            self._take(4 * struct.unpack(">xH", self._take(3))[0])
        elif kind == 3:
            self._take(9)
            self._draw()
        else:
            raise _Gone

    def _draw(self) -> None:
        width, height, pixels = self.picture.width, self.picture.height, self.picture.pixels
        tops = range(0, height, ROWS)
        update = [struct.pack(">BxH", 0, len(tops))]
        for top in tops:
            rows = min(ROWS, height - top)
            part = pixels[3 * width * top : 3 * width * (top + rows)]
            wide = bytearray(4 * width * rows)
            for at in range(3):
                wide[at::4] = part[2 - at :: 3]
            update += [struct.pack(">HHHHi", 0, top, width, rows, 0), bytes(wide)]
        self._say(b"".join(update))

    def _take(self, size: int) -> bytes:
        while len(self._waiting) < size:
            data = received(self._reading)
            if data is None:
                raise _Gone
            self._waiting += data
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        return found

    def _say(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE):
            self._writing.write(frame(data[at : at + PIECE]))
        self._writing.flush()
