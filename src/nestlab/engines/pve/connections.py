"""Connections to a machine on a Proxmox VE: its guest agent, ssh to its address, or ssh through the agent."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve.protocols import SSH
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.ssh import LOGIN, SshHost
from nestlab.wire.pve import agent, tunnel
from nestlab.wire.pve.api import Api
from nestlab.wire.result import Result

if TYPE_CHECKING:
    from nestlab.wire.ssh import Connection

AGENTS_LOGIN = 240.0
"""Nominal seconds that a login through the agent may take: each turn of it is several requests."""

STRAIGHT = 3.0
"""Nominal seconds in which a machine's address must take a connection; else the agent is the way."""

MOST = 8
"""Addresses of a machine that are tried: its agent says them, and nothing is asked of a whole network in its name."""

_MAC = re.compile(r"=((?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})")


class Door:
    """The guest agent of one machine. `where` names it in errors. See `wire.pve.agent.Agent`; every method may be
    called concurrently."""

    def __init__(self, api: Api, node: str, vmid: int, where: str = "") -> None:
        self._api = api
        self._config = f"/nodes/{node}/qemu/{vmid}/config"
        self._agent = agent.Agent(api, node, vmid, where)

    async def wait(self, timeout: float, alive: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Until it answers. Unreachable when it does not in time, or the machine does not run any more: `alive` says
        that too, asked now and then."""
        await self._agent.wait(timeout, alive)

    async def run(
        self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> Result:
        """Run a command as root to its end. See `host.Host.run`."""
        return await self._agent.run(argv, input=input, check=check, timeout=timeout)

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Replace a file atomically. See `host.Host.write`. Over pvesh, users of the node can read what is written."""
        await self._agent.write(path, data, mode=mode)

    async def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """By MAC address (lower case), the IP addresses that reach each card, also those of the guest's own making."""
        return await self._agent.addresses()

    async def outside(self) -> tuple[str, ...]:
        """The addresses of the cards that PVE gave the machine."""
        config, found = await asyncio.gather(self._api.get(self._config, {"current": True}), self.addresses())
        cards = [str(value) for name, value in sorted(config.items()) if re.fullmatch(r"net\d+", name)]
        macs = [given[1].lower() for card in cards if (given := _MAC.search(card))]
        return tuple(address for mac in macs for address in found.get(mac, ()))

    async def open(self, port: int) -> list[str]:
        """The addresses of those cards where something listens on a TCP port, as seen from here."""
        try:
            addresses = (await self.outside())[:MOST]
        except Unreachable:
            return []
        takes = await asyncio.gather(*(_takes(address, port) for address in addresses))
        return [address for address, open in zip(addresses, takes, strict=True) if open]

    async def stream(self, port: int) -> tunnel.Stream:
        """A stream to a TCP port on the machine's loopback."""
        return await tunnel.connect(self._agent, port)


def host(door: Door, lab_keys: LabKeys, path: str, user: str, *, direct: bool, port: int = SSH) -> SshHost:
    """The machine `path` as a host, over ssh with its pinned key. Nothing is connected yet.

    A connection is made straight to an address of the machine, if it is to be tried (`direct`) and takes one within
    STRAIGHT seconds; else through the agent."""
    key, host_key = lab_keys.key, lab_keys.host_key(path).public

    async def connect(slowness: float) -> Connection:
        from nestlab.wire import ssh

        for address in await door.open(port) if direct else ():
            with contextlib.suppress(LabError):  # another machine has that address here: its key says so
                limit = patience.allowed(LOGIN, slowness)
                return await ssh.connect(
                    address, port, user=user, key=key, host_key=host_key, timeout=limit, where=path
                )
        return await ssh.connect(
            "127.0.0.1",
            port,
            user=user,
            key=key,
            host_key=host_key,
            over=lambda: door.stream(port),
            timeout=patience.allowed(AGENTS_LOGIN, slowness),
            where=path,
        )

    return SshHost(path, connect)


async def _takes(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(patience.allowed(STRAIGHT)):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
