"""UEFI and software TPMs on a host: on the lab's own they are used where they are, hypervisors are given copies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.environment import Uploads
from nestlab.engines.qemu.hardware_argv import Uefi
from nestlab.home.paths import GUEST_ROOT
from nestlab.hosts.host import Host
from nestlab.images.firmware_files import Pack, system_ovmf, system_swtpm
from nestlab.images.image_files import ImageFiles
from nestlab.lab.hardware import Firmware

Fetch = Callable[[Say], Awaitable[Pack]]

_PLACE = f"{GUEST_ROOT}/firmware"


@frozen
class FirmwareFiles:
    """`fetch`: gives nestlab's own, unpacked on the lab's host."""

    host: Host
    fetch: Fetch
    uploads: Uploads | None = None

    async def uefi(self, firmware: Firmware, say: Say) -> Uefi:
        """The UEFI of a machine on this host."""
        found = system_ovmf(firmware) or (await self.fetch(say)).ovmf(firmware)
        code, variables = [await self.carried(each, say) for each in (found.code, found.variables)]
        return Uefi(firmware, code, variables)

    async def swtpm(self, say: Say) -> tuple[str, ...]:
        """The command of a software TPM on this host."""
        if self.uploads is not None:
            return self.uploads.software_tpm()
        if not self.host.level:
            return system_swtpm() or (await self.fetch(say)).swtpm
        program, *libraries = [await self.carried(each, say) for each in (await self.fetch(say)).carried]
        paths = ":".join(dict.fromkeys(each.rpartition("/")[0] for each in libraries))
        return ("env", f"LD_LIBRARY_PATH={paths}", program)

    async def carried(self, source: Path, say: Say) -> str:
        """The path of a file of the lab's host on this one; it is copied there once."""
        if self.uploads is not None:
            return await self.uploads.file(source, say)
        if not self.host.level:
            return str(source)
        digest = await asyncio.to_thread(_digest, source)
        target = f"{_PLACE}/{digest}/{source.name}"
        if (await self.host.run(("test", "-f", target), check=False)).status != 0:
            say(f"copying {source.name} into {self.host.path}")
            await self.host.put(source, target, mode=0o700)
        return target


def _digest(source: Path) -> str:
    """16 hex digits of a file's content."""
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


async def equipped(launch: Launch, files: FirmwareFiles, artifacts: ImageFiles, say: Say) -> Launch:
    """A start with the UEFI and the TPM that its machine has. UEFI takes a kernel as boot loaders do; so does a BIOS
    where there is a TPM, whose log must not be in its way (`hardware_argv.lowered`)."""
    hardware = launch.spec.machine.hardware
    uefi = hardware.firmware if hardware.firmware in ("uefi", "secure") else None
    if hardware.tpm:
        launch = replace(launch, swtpm=await files.swtpm(say))
    if uefi:
        launch = replace(launch, uefi=await files.uefi(uefi, say))
    if launch.kernel is None or artifacts.bzimage is None or not (uefi or hardware.tpm):
        return launch
    file = await files.carried(artifacts.bzimage, say)
    return replace(launch, kernel=replace(launch.kernel, vmlinux=file, lowered=not uefi))
