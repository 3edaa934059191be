"""Screens of machines inside a node of nestlab's: their QEMU's VNC server listens on a unix socket of the node
(qemu-server, QemuServer.pm: config_to_command), which ssh leads to."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.picture import Picture
from nestlab.base.printable import brief
from nestlab.engines import View
from nestlab.engines.pve.resources import Guest
from nestlab.engines.pve.screens import check
from nestlab.hosts.host import Host
from nestlab.wire.pve.api import Api

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

SOCKETS = "/var/run/qemu-server"

ENDED = "now"


class NodeScreens:
    """Of one node, whose own name is `name`."""

    def __init__(self, api: Api, node: Host, name: str) -> None:
        self._api = api
        self._node = node
        self._name = name

    @asynccontextmanager
    async def viewed(self, guest: Guest, path: str) -> AsyncIterator[View]:
        """See `nestlab.engines.Viewed`. LabError where the machine has no screen, or is on another node."""
        if guest.node != self._name:
            what = f"{path} is on {guest.node} now, and its screen is there."
            raise LabError(what, hint=f"nestlab migrate {path} puts it where nestlab looks for it.")
        await check(self._api, guest.base, path)
        password, seconds = secrets.token_hex(View.LENGTH // 2), round(patience.allowed(View.OPEN, self._node.slowness))
        await self._typed(guest, f"set_password vnc {password}", path)
        await self._typed(guest, f"expire_password vnc +{seconds}", path)
        try:
            async with self._node.unix(f"{SOCKETS}/{guest.vmid}.vnc") as socket:
                yield View(socket, password, seconds)
        finally:
            with contextlib.suppress(LabError):  # then it expires by itself
                await self._typed(guest, f"expire_password vnc {ENDED}", path)

    async def picture(self, guest: Guest, path: str) -> Picture:
        """See `nestlab.engines.Showing`."""
        from nestlab.wire import rfb

        async with self.viewed(guest, path) as view:
            try:
                reader, writer = await asyncio.open_unix_connection(view.socket)
            except OSError as error:
                raise Unreachable(f"The screen of {path} takes no connection: {error.strerror}.") from error
            try:
                return await rfb.picture(_Stream(reader, writer), view.password, path)
            finally:
                writer.close()

    async def _typed(self, guest: Guest, command: str, path: str) -> None:
        """A command of its monitor, which says nothing where all is well."""
        said = str(await self._api.create(f"{guest.base}/monitor", {"command": command}) or "").strip()
        if said:
            raise LabError(f"The screen of {path} cannot be shown: {brief(said)}.", hint="Does it run? nestlab status")


class _Stream:
    """See `nestlab.wire.rfb.Stream`."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def readexactly(self, n: int) -> bytes:
        return await self._reader.readexactly(n)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
