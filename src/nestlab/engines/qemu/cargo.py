"""Image files on a host: on the lab's own they are in the cache, or kept there by their content; inside a hypervisor
they are its cargo disks.

A hypervisor is started with the image files that its guests need as read-only disks, which it hands on in the same
way, so nothing is copied at any depth. What was not on board (a guest added later) is copied over ssh.
"""

from __future__ import annotations

import asyncio
import hashlib
import re

from nestlab.base.events import Say
from nestlab.engines.qemu import sparse_copy
from nestlab.engines.qemu.environment import Uploads
from nestlab.engines.qemu.scripts import CARGO, alone
from nestlab.home.paths import GUEST_ROOT
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageFiles, ImageStore

BOOTED = ("kernel", "initrd")
CARGO_PLACE = "/run/nestlab-cargo"
"""Where boot disks are mounted inside a hypervisor."""


_DISK = re.compile(r"([0-9a-f]{20}) (/dev/vd[a-z]{1,3}) (.*)")
"""A disk with a serial number of nestlab's."""

PRESENT = '[ -f "$1" ] && echo file; command -v python3 >/dev/null && echo python'


def serial_of(key: str, role: str) -> str:
    """20 hex digits: the serial number (virtio allows 20 characters) of the cargo disk with this file."""
    return hashlib.sha256(f"{key}/{role}".encode()).hexdigest()[:20]


class Cargo:
    """Where an image's files are on one host."""

    def __init__(self, host: Host, library: ImageStore, uploads: Uploads | None = None) -> None:
        self._host = host
        self._library = library
        self._uploads = uploads
        self._lock = asyncio.Lock()
        self._devices: dict[str, str] = {}
        self._mounted: dict[str, str] = {}
        self._looked: set[str] = set()

    async def files(self, artifacts: ImageFiles, say: Say) -> dict[str, str]:
        """By role, the path on the host, to boot from: `kernel` and `initrd`, `root`, `cdrom`."""
        async with self._lock:
            await self._look(artifacts)
            place = self._mounted.get(serial_of(artifacts.key, "boot"))
            found = {}
            for role in artifacts.files:
                if place and role in BOOTED:
                    found[role] = f"{place}/{role}"
                elif role != "boot":
                    found[role] = await self._file(artifacts, role, say)
            return found

    async def cargo(self, artifacts: ImageFiles, say: Say) -> dict[str, str]:
        """By role, the path on the host of what a hypervisor is given as disks: `boot`, `root`, `cdrom`."""
        async with self._lock:
            await self._look(artifacts)
            roles = [role for role in artifacts.files if role not in BOOTED]
            return {role: await self._file(artifacts, role, say) for role in roles}

    def question(self, artifacts: ImageFiles) -> tuple[str, tuple[str, ...]]:
        """The script, with its arguments, that mounts an image's boot disk and tells which disks there are."""
        return CARGO, (CARGO_PLACE, serial_of(artifacts.key, "boot"))

    def learn(self, artifacts: ImageFiles, answer: str) -> None:
        """Takes the output of the script; what is no line of it tells of no disk."""
        for line in answer.splitlines():
            found = _DISK.fullmatch(line)
            if found is None:
                continue
            serial, device, place = found.groups()
            self._devices[serial] = device
            if place == f"{CARGO_PLACE}/{serial}":
                self._mounted[serial] = place
        self._looked.add(artifacts.key)

    async def _look(self, artifacts: ImageFiles) -> None:
        if self._host.level == 0 or artifacts.key in self._looked:
            return
        script, words = self.question(artifacts)
        result = await self._host.run(("sh", "-c", alone(script), "cargo", *words))
        self.learn(artifacts, result.text)

    async def _file(self, artifacts: ImageFiles, role: str, say: Say) -> str:
        source, serial = artifacts.files[role], serial_of(artifacts.key, role)
        if self._uploads is not None:
            return await self._uploads.file(source, say)
        if self._host.level == 0:
            return str(source)
        if serial not in self._devices:
            target = f"{GUEST_ROOT}/images/{serial}"
            there = (await self._host.run(("sh", "-c", PRESENT, "present", target), check=False)).text.split()
            if "file" not in there:
                say(f"copying {source.name} into {self._host.path}, which does not have it on board")
                if "python" in there:
                    await sparse_copy.copy(source, self._host, target)
                else:
                    await self._host.put(source, target)
            self._devices[serial] = target
        return self._devices[serial]
