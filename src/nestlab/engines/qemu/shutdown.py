"""Asking a machine to shut down: through ssh, else its guest agent, else by its power button."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu import records, scripts
from nestlab.home.paths import MachinePaths
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.wire.own_thread import own_thread

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

Monitors = Callable[[str], AbstractAsyncContextManager["Monitor"]]
"""The monitor of a machine's QEMU, by the machine's path."""


async def ask_to_end(
    parent: Host, path: str, paths: MachinePaths, host: Callable[[], Awaitable[SshHost]], monitor: Monitors
) -> bool:
    """Whether the machine `path` on `parent` was asked, in one of three ways. `paths`: its directory there; `host`: the
    machine as a host. Only one that nestlab logs in to, or whose agent it waited for, is asked by those."""
    by = await _known_by(parent, paths)
    try:
        if not await _can_act(path, monitor):
            return False
        if by not in ("ssh", "agent"):
            return await _power_button(path, monitor)
        if by == "ssh":
            asked = await (await host()).run(("sh", "-c", scripts.POWEROFF), check=False, timeout=20)
            if asked.status == 0:
                return True
    except LabError:
        pass  # also when it went down before it said so
    return await _ask_agent(parent, path, paths.agent) or await _power_button(path, monitor)


async def _known_by(parent: Host, paths: MachinePaths) -> str:
    """How it is known of a machine that it is up: see `lab.readiness`."""
    try:
        return records.started((await parent.read(paths.boot)).decode(errors="replace")).ready.by
    except LabError:
        return "ssh"


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
        async with parent.unix(agent) as here:
            await own_thread(lambda: ask(here))
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
