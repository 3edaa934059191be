"""QEMU on a host that ssh reaches: the host's own if it is new enough, else nestlab's, which is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.base.events import Say
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.environment import OwnQemu, Programs
from nestlab.engines.ssh_host.uploads import Uploads
from nestlab.hosts.host import Host
from nestlab.images.qemu_runtime import DISK_TOOL, GOOD_ENOUGH, Tool

if TYPE_CHECKING:
    from nestlab.images.firmware_files import Pack


def programs(
    uploads: Uploads, firmware: Callable[[Say], Awaitable[Pack]], ipxe: Callable[[Say], Awaitable[Path]] | None
) -> Programs:
    """Those of the uploads's host. `firmware`, `ipxe`: see `Programs`; of this computer, from which they are sent."""

    async def qemu(accel: Accelerator, say: Say) -> Tool:
        found = await uploads.look()
        if found.qemu is not None and uploads.good(GOOD_ENOUGH[accel]):
            return Tool((found.qemu.path,), {}, found.qemu.version)
        return (await uploads.runtime(say)).qemu

    async def qemu_img(say: Say) -> Tool:
        found = await uploads.look()
        if found.qemu_img is not None and found.qemu_img.version >= DISK_TOOL:
            return Tool((found.qemu_img.path,), {}, found.qemu_img.version)
        return (await uploads.runtime(say)).qemu_img

    return Programs(qemu, qemu_img, firmware, ipxe)


def own_qemu(uploads: Uploads) -> OwnQemu:
    """nestlab's own QEMU there: whether it is needed and not there, and how it comes."""

    async def lacking(host: Host) -> bool:
        found = await uploads.look()
        if found.runtime:
            return False
        facts = await host.facts()
        return not uploads.good(GOOD_ENOUGH["kvm" if facts.hardware else "tcg"])

    async def install(say: Say) -> None:
        await uploads.runtime(say)

    return OwnQemu(lacking, install)
