"""Image files on a host: on the lab's own they are in the cache; inside a hypervisor they are its cargo disks.

A hypervisor is started with the image files that its guests need as read-only disks, which it hands on in the same
way, so nothing is copied at any depth. What was not on board (a guest added later) is copied over ssh.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nestlab.engines import Say
from nestlab.engines.qemu import sparse
from nestlab.engines.qemu.paths import GUEST_ROOT
from nestlab.engines.qemu.scripts import CARGO, alone
from nestlab.host import Host
from nestlab.model import Image

BOOTED = ("kernel", "initrd")
CARGO_PLACE = "/run/nestlab-cargo"
"""Where boot disks are mounted inside a hypervisor."""


PRESENT = '[ -f "$1" ] && echo file; command -v python3 >/dev/null && echo python'


@dataclass(frozen=True)
class Artifacts:
    """An image's files on the lab's host, by role: `kernel`, `initrd` and `boot` (a disk with both), `root` (a disk of
    `format`), or `cdrom`. `size`: bytes of the root disk as the guest sees it, 0 without one. `bzimage`: the kernel as
    boot loaders want it, which no QEMU of ours is given."""

    key: str
    files: Mapping[str, Path]
    format: str = "raw"
    cmdline: tuple[str, ...] = ()
    size: int = 0
    bzimage: Path | None = None


class Library(Protocol):
    """The images of the lab's host."""

    async def artifacts(self, key: str, image: Image) -> Artifacts:
        """The files of a built image; LabError if it is not built or its file is gone."""

    async def build(self, key: str, image: Image, say: Say) -> None: ...

    def present(self) -> frozenset[str]:
        """Keys of images that are built."""


def serial_of(key: str, role: str) -> str:
    """20 hex digits: the serial number (virtio allows 20 characters) of the cargo disk with this file."""
    return hashlib.sha256(f"{key}/{role}".encode()).hexdigest()[:20]


class Stock:
    """Where an image's files are on one host."""

    def __init__(self, host: Host, library: Library) -> None:
        self._host = host
        self._library = library
        self._lock = asyncio.Lock()
        self._devices: dict[str, str] = {}
        self._mounted: dict[str, str] = {}
        self._looked: set[str] = set()

    async def files(self, artifacts: Artifacts, say: Say) -> dict[str, str]:
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

    async def cargo(self, artifacts: Artifacts, say: Say) -> dict[str, str]:
        """By role, the path on the host of what a hypervisor is given as disks: `boot`, `root`, `cdrom`."""
        async with self._lock:
            await self._look(artifacts)
            roles = [role for role in artifacts.files if role not in BOOTED]
            return {role: await self._file(artifacts, role, say) for role in roles}

    def question(self, artifacts: Artifacts) -> tuple[str, tuple[str, ...]]:
        """The script, with its arguments, that mounts an image's boot disk and tells which disks there are."""
        return CARGO, (CARGO_PLACE, serial_of(artifacts.key, "boot"))

    def learn(self, artifacts: Artifacts, answer: str) -> None:
        """What the script printed."""
        for line in answer.splitlines():
            serial, device, place = line.split(" ", 2)
            self._devices[serial] = device
            if place:
                self._mounted[serial] = place
        self._looked.add(artifacts.key)

    async def _look(self, artifacts: Artifacts) -> None:
        if self._host.level == 0 or artifacts.key in self._looked:
            return
        script, words = self.question(artifacts)
        result = await self._host.run(("sh", "-c", alone(script), "cargo", *words))
        self.learn(artifacts, result.text)

    async def _file(self, artifacts: Artifacts, role: str, say: Say) -> str:
        source, serial = artifacts.files[role], serial_of(artifacts.key, role)
        if self._host.level == 0:
            return str(source)
        if serial not in self._devices:
            target = f"{GUEST_ROOT}/images/{serial}"
            there = (await self._host.run(("sh", "-c", PRESENT, "present", target), check=False)).text.split()
            if "file" not in there:
                say(f"copying {source.name} into {self._host.path}, which does not have it on board")
                if "python" in there:
                    await sparse.copy(source, self._host, target)
                else:
                    await self._host.put(source, target)
            self._devices[serial] = target
        return self._devices[serial]
