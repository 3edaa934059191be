"""Attaches a disk to a running machine through its QEMU's monitor, and takes it away again.

On `pc` a device goes to the bus as it is, on `q35` to the port that is kept free for it (`argv.HOTPLUG_PORT`). The
monitor takes one conversation at a time, so each is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu.argv import HOTPLUG_PORT

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

PREFIX = "nestlab-disk-"
"""What the ids of such disks start with."""

GRACE = 20.0
"""Nominal seconds a machine has to let go of a disk."""

MOMENT = 1.0
"""Seconds for which the monitor is kept from others while a machine lets go of a disk; most take a tenth of it."""

Talk = Callable[[], AbstractAsyncContextManager["Monitor"]]


@asynccontextmanager
async def attached(talk: Talk, file: str, serial: str, *, writable: bool) -> AsyncIterator[None]:
    """The machine whose monitor `talk` opens has `file` (a raw image or a block device on its host) as a virtio disk
    of this serial while the context is open. Disks that an earlier one left behind are taken away first; the caller
    sees to it that there is one at a time. LabError where the machine cannot take a disk."""
    node = f"{PREFIX}{serial}"
    async with talk() as monitor:
        left = await _left(monitor)
        if not left:
            await _add(monitor, node, file, serial, writable=writable)
    if left:
        for old in left:
            await take(talk, old)
        async with talk() as monitor:
            await _add(monitor, node, file, serial, writable=writable)
    try:
        yield
    finally:
        await asyncio.shield(asyncio.ensure_future(_detach(talk, node)))


async def _add(monitor: Monitor, node: str, file: str, serial: str, *, writable: bool) -> None:
    await monitor.execute("blockdev-add", **blockdev(node, file, writable=writable))
    try:
        port = {"bus": HOTPLUG_PORT} if await _has_port(monitor) else {}
        device = {"driver": "virtio-blk-pci", "id": f"{node}-device", "drive": node, "serial": serial}
        await monitor.execute("device_add", **device, **port)
    except LabError:
        await monitor.execute("blockdev-del", node_name=node)
        raise


def blockdev(node: str, file: str, *, writable: bool) -> dict[str, object]:
    """The arguments of blockdev-add for a raw image or a block device."""
    kind = "host_device" if file.startswith("/dev/") else "file"
    below = {"driver": kind, "filename": file, "read-only": not writable}
    return {"driver": "raw", "node_name": node, "read_only": not writable, "file": below}


async def _detach(talk: Talk, node: str) -> None:
    """What cannot be taken away now is taken by the next who attaches one."""
    with contextlib.suppress(LabError, OSError):
        await take(talk, node)


async def _left(monitor: Monitor) -> list[str]:
    found = await monitor.execute("query-named-block-nodes", flat=True)
    return [each["node-name"] for each in found if each.get("node-name", "").startswith(PREFIX)]


async def take(talk: Talk, node: str) -> None:
    """Take a disk away; the guest has a say in it, and QEMU tells when it has let go. LabError if it does not."""
    until = time.monotonic() + patience.allowed(GRACE)
    while True:
        async with talk() as monitor:
            await _released(monitor, f"{node}-device")
            try:
                await monitor.execute("blockdev-del", node_name=node)
            except LabError:
                if time.monotonic() >= until:
                    raise
            else:
                return
        await asyncio.sleep(MOMENT / 2)


async def _released(monitor: Monitor, device: str) -> None:
    """Ask the guest to let go of a device, and wait a moment for it."""
    async with monitor.events("DEVICE_DELETED") as events:
        try:
            await monitor.execute("device_del", id=device)
        except LabError:
            return  # it is gone, or was asked before
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT):
                async for event in events:
                    data = event.get("data")
                    if isinstance(data, dict) and data.get("device") == device:
                        break


async def _has_port(monitor: Monitor) -> bool:
    """Whether the machine has the port: else its bus takes devices, or it cannot take one."""
    buses = await monitor.execute("query-pci")
    return any(device.get("qdev_id") == HOTPLUG_PORT for bus in buses for device in bus.get("devices", ()))
