"""Asking a machine to shut down: through ssh, else its guest agent, else by its power button."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu import scripts
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

Monitors = Callable[[str], AbstractAsyncContextManager["Monitor"]]
"""The monitor of a machine's QEMU, by the machine's path."""


async def ask_to_end(
    parent: Host, path: str, agent: str, host: Callable[[], Awaitable[SshHost]], monitor: Monitors
) -> bool:
    """Whether the machine `path` on `parent` was asked, in one of three ways. `agent`: the socket of its guest agent
    there; `host`: the machine as a host."""
    try:
        if not await _can_act(path, monitor):
            return False
        if (await (await host()).run(("sh", "-c", scripts.POWEROFF), check=False, timeout=20)).status == 0:
            return True
    except LabError:
        pass  # also when it went down before it said so
    return await _ask_agent(parent, path, agent) or await _power_button(path, monitor)


async def _can_act(path: str, monitor: Monitors) -> bool:
    """A paused machine goes on, to shut down; one whose disk fails cannot."""
    async with monitor(path) as qemu:
        if await qemu.status() in ("paused", "io-error"):
            await qemu.execute("cont")
            await asyncio.sleep(1)
        return await qemu.status() != "io-error"


async def _ask_agent(parent: Host, path: str, agent: str) -> bool:
    """By its guest agent, which few systems but nestlab's own have."""
    from nestlab.wire.qga import Agent

    limit = patience.allowed(15.0, parent.slowness)

    def ask(socket: str) -> None:
        with Agent(socket, timeout=limit, where=path) as door:
            door.shutdown()

    try:
        if not parent.level:
            await asyncio.to_thread(ask, agent)
        else:
            async with parent.unix(agent) as here:
                await asyncio.to_thread(ask, here)
    except LabError:
        return False
    return True


async def _power_button(path: str, monitor: Monitors) -> bool:
    try:
        async with monitor(path) as qemu:
            await qemu.powerdown()
    except LabError:
        return False
    return True
