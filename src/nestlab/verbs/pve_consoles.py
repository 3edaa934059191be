"""Consoles and logs of machines that a Proxmox VE runs, the user's or a node of nestlab's: it keeps no consoles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from nestlab.engines.pve import consoles
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.pve.protocols import Door
from nestlab.lab.model import parent_of
from nestlab.lab.places import Pve
from nestlab.verbs.session import Session


class Afar(Protocol):
    """See `proxmox.platform.ProxmoxPlatform`."""

    def console(self, path: str, size: Callable[[], tuple[int, int]]) -> AbstractAsyncContextManager[str]: ...

    async def log(self, path: str, boot: int) -> bytes: ...

    def following(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


@dataclass
class InNode:
    """Of machines right inside a node of nestlab's."""

    session: Session
    engine: NodeEngine

    @asynccontextmanager
    async def console(self, path: str, size: Callable[[], tuple[int, int]]) -> AsyncIterator[str]:
        """As a unix socket: what `qm terminal` or `pct console` show on the node."""
        guest = (await self.engine.guests.one(path)).guest
        api, node = self.engine.environment.api, self.engine.node
        way = consoles.attached(api, guest.node, guest.vmid, guest.kind, where=path, host=node, size=size)
        async with way as socket:
            yield socket

    async def log(self, path: str, boot: int) -> bytes:
        """The end of the machine's own journal."""
        return await consoles.log(cast(Door, await self.session.nest.host(path)), boot)

    @asynccontextmanager
    async def following(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with consoles.following(await self.session.nest.host(path)) as lines:
            yield lines


async def afar(session: Session, path: str) -> Afar | None:
    """What tells of a machine's console; None where the host that it is on keeps it."""
    if not parent_of(path):
        if not isinstance(session.blueprint.on, Pve):
            return None
        from nestlab.proxmox.platform import ProxmoxPlatform

        return session.platform if isinstance(session.platform, ProxmoxPlatform) else None
    engine = await session.nest.engine(parent_of(path))
    return InNode(session, engine) if isinstance(engine, NodeEngine) else None
