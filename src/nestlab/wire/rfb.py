"""One picture of a screen by RFB, the protocol of VNC (RFC 6143): what a Proxmox VE shows a machine's screen by.

The other end is a QEMU whose guest may be hostile: every size is bounded, and the whole takes a bounded time.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.picture import HIGHEST, LARGEST, WIDEST, Picture
from nestlab.base.printable import one_line
from nestlab.wire.shapes import Odd, odd

IN_TIME = 60.0
"""Nominal seconds in which a whole picture comes."""

MOST = 4 * LARGEST
"""Bytes that are read for one picture: four bytes a pixel, and what was sent again meanwhile."""

_TEXT = 1 << 16
"""Bytes of a name, a reason or a clipboard; more is no sound server's."""

_PIXELS = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""Four bytes a pixel, little endian: blue, green, red, nothing."""

_RAW, _SIZE, _NO_PASSWORD, _PASSWORD = 0, -223, 1, 2


class Stream(Protocol):
    """Bytes both ways. EOFError or OSError where the other side ends it."""

    async def readexactly(self, n: int) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


async def picture(stream: Stream, password: str, where: str) -> Picture:
    """What the screen at the other end of a new connection shows. LabError when it does not let us in, Odd when it is
    no VNC server, Unreachable when it ends, or takes too long."""
    hint = "See whether it runs: nestlab status"
    try:
        async with asyncio.timeout(patience.allowed(IN_TIME)):
            return await _Conversation(stream, where).picture(password)
    except TimeoutError:
        what = f"The screen of {where} did not come within {patience.said(patience.allowed(IN_TIME))}."
        raise Unreachable(what, hint=patience.LONGER) from None
    except (EOFError, OSError) as error:
        raise Unreachable(f"The connection to the screen of {where} ended.", hint=hint) from error


class _Conversation:
    def __init__(self, stream: Stream, where: str) -> None:
        self._stream = stream
        self._where = where
        self._left = MOST
        self._width = self._height = 0
        self._pixels = bytearray()
        self._covered = bytearray()

    async def picture(self, password: str) -> Picture:
        await self._enter(password)
        await self._stream.write(b"\1")  # others may look, too
        self._resize(*await self._numbers(">HH16x"))
        await self._text()
        await self._stream.write(b"\0\0\0\0" + _PIXELS + struct.pack(">BxHii", 2, 2, _RAW, _SIZE))
        await self._ask()
        while not all(self._covered):
            await self._message()
        size = self._width * self._height
        colours = bytearray(3 * size)
        for at in range(3):
            colours[at::3] = self._pixels[2 - at :: 4]
        return Picture(self._width, self._height, bytes(colours))

    async def _enter(self, password: str) -> None:
        greeting = await self._read(12)
        if not greeting.startswith(b"RFB 003."):
            raise self._odd("it does not greet as a VNC server")
        await self._stream.write(b"RFB 003.008\n")
        (count,) = await self._numbers(">B")
        if not count:
            raise self._refused(await self._text())
        kinds = await self._read(count)
        kind = _PASSWORD if _PASSWORD in kinds else _NO_PASSWORD
        if kind not in kinds:
            raise self._odd("it wants more than a password")
        await self._stream.write(bytes([kind]))
        if kind == _PASSWORD:
            await self._stream.write(response(await self._read(16), password))
        if (await self._numbers(">I"))[0]:
            raise self._refused(await self._text())

    async def _message(self) -> None:
        (kind,) = await self._numbers(">B")
        if kind == 0:
            (count,) = await self._numbers(">xH")
            for _ in range(count):
                await self._rectangle()
        elif kind == 1:
            _, count = await self._numbers(">xHH")
            await self._read(6 * count)
        elif kind == 3:
            await self._read(3)
            await self._text()
        elif kind != 2:
            raise self._odd(f"it sent a message of the unknown kind {kind}")

    async def _rectangle(self) -> None:
        left, top, width, height, encoding = await self._numbers(">HHHHi")
        if encoding == _SIZE:
            self._resize(width, height)
            await self._ask()
            return
        if encoding != _RAW:
            raise self._odd("it sent an encoding that was not asked for")
        if left + width > self._width or top + height > self._height:
            raise self._odd("it sent what lies beside its screen")
        for row in range(top, top + height):
            at = row * self._width + left
            self._pixels[4 * at : 4 * (at + width)] = await self._read(4 * width)
            self._covered[at : at + width] = b"\1" * width

    def _resize(self, width: int, height: int) -> None:
        if not (0 < width <= WIDEST and 0 < height <= HIGHEST) or 3 * width * height > LARGEST:
            raise self._odd(f"its screen is {width}x{height}")
        self._width, self._height = width, height
        self._pixels, self._covered = bytearray(4 * width * height), bytearray(width * height)

    async def _ask(self) -> None:
        """For all of the screen."""
        await self._stream.write(struct.pack(">BBHHHH", 3, 0, 0, 0, self._width, self._height))

    async def _numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, await self._read(struct.calcsize(form)))

    async def _text(self) -> str:
        (size,) = await self._numbers(">I")
        if size > _TEXT:
            raise self._odd(f"it sent a text of {size} bytes")
        return one_line((await self._read(size)).decode(errors="replace"))[:200]

    async def _read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise self._odd("it goes on without end")
        return await self._stream.readexactly(size)

    def _odd(self, what: str) -> Odd:
        return odd(f"The screen of {self._where}", "a picture", what)

    def _refused(self, why: str) -> LabError:
        hint = "Try again: its password is for one connection."
        return LabError(f"The screen of {self._where} cannot be seen: {why or 'it gave no reason'}.", hint=hint)


def response(challenge: bytes, password: str) -> bytes:
    """The answer to a challenge of 16 bytes: DES, with the password as its key, the bits of each byte reversed; what is
    longer than 8 bytes is left out (RFC 6143, 7.2.2, and what all servers do)."""
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError:  # before 43.0
        from cryptography.hazmat.primitives.ciphers.algorithms import TripleDES

    key = password.encode(errors="replace")[:8].ljust(8, b"\0")
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    cipher = Cipher(TripleDES(turned * 3), modes.ECB()).encryptor()  # three times the same key is plain DES
    return cipher.update(challenge) + cipher.finalize()
