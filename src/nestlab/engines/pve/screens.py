"""Screens and keyboards of machines on a Proxmox VE: pictures by its VNC websocket, keys by `sendkey`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nestlab.base.errors import LabError
from nestlab.base.keyboard import Chord
from nestlab.base.picture import Picture
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.console import Consoles

if TYPE_CHECKING:
    import aiohttp

    from nestlab.engines.pve.engine import Environment
    from nestlab.engines.pve.resources import Found, Guest

BETWEEN = 0.03
"""Seconds between two keys, beside what a request takes."""

_BARE = ("none", "serial0", "serial1", "serial2", "serial3")
"""What `vga` may say of a machine that has no screen."""


class Screens:
    """A part of `PveEngine`."""

    environment: Environment

    async def picture(self, path: str) -> Picture:
        """See `nestlab.engines.Showing`."""
        return await taken(self.environment.api, (await self._screened(path)).base, path)

    async def press(self, path: str, keys: Sequence[Chord]) -> None:
        """See `nestlab.engines.Showing`."""
        await press(self.environment.api, (await self._screened(path)).base, keys, path)

    async def _screened(self, path: str) -> Guest:
        guest = (await self._running(path)).guest
        if guest.kind == "lxc":
            raise LabError(f"{path} has no screen: it is a container.", hint=f"Enter it: nestlab console {path}")
        return guest

    async def _running(self, path: str) -> Found:
        raise NotImplementedError


async def taken(api: Api, base: str, path: str) -> Picture:
    """What the screen of a running machine shows; `base`: its place in the API. VM.Console suffices.

    LabError where it has none, or where the API is reached by pvesh, which has no websockets."""
    from nestlab.wire import rfb

    await check(api, base, path)
    if not isinstance(api, Consoles):
        what = f"The screen of {path} cannot be fetched over pve+ssh or pve+local."
        raise LabError(what, hint="Reach that Proxmox VE by its API: `on: pve://…`, or --set on=pve://…")
    given = await api.create(f"{base}/vncproxy", {"websocket": True, "generate-password": True})
    ticket, password = given["ticket"], given["password"]
    socket = await api.websocket(f"{base}/vncwebsocket", {"port": given["port"], "vncticket": ticket})
    try:
        return await rfb.picture(_Frames(socket), password, path)
    finally:
        await socket.close()


async def press(api: Api, base: str, keys: Sequence[Chord], path: str) -> None:
    """Press keys one after another. VM.Console suffices. LabError where the machine has no screen."""
    await check(api, base, path)
    for number, chord in enumerate(keys):
        if number:
            await asyncio.sleep(BETWEEN)
        await api.set(f"{base}/sendkey", {"key": "-".join(chord)})


async def check(api: Api, base: str, path: str) -> None:
    """LabError where a machine has no screen."""
    config = await api.get(f"{base}/config", {"current": True})
    vga = str(config.get("vga") or "").removeprefix("type=").partition(",")[0]
    if vga in _BARE:
        hint = f"Give it one: `display: true` in the lab file. Without one: nestlab console {path}"
        raise LabError(f"{path} has no screen (vga: {vga}).", hint=hint)


class _Frames:
    """The frames of a websocket as a stream of bytes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting = bytearray()

    async def readexactly(self, n: int) -> bytes:
        while len(self._waiting) < n:
            self._waiting += await self._frame()
        found = bytes(self._waiting[:n])
        del self._waiting[:n]
        return found

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def _frame(self) -> bytes:
        import aiohttp

        while True:
            message: Any = await self._socket.receive()
            if message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
                return message.data if isinstance(message.data, bytes) else str(message.data).encode()
            if message.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
                raise EOFError
