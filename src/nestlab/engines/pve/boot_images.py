"""An image as disks that a Proxmox VE can import: whole, compressed, the first one bootable by a BIOS.

nestlab's own images have no boot loader: QEMU is handed their kernel. A Proxmox VE hands no kernels over, so there a
small disk with ISOLINUX starts it (`boot_disk.starting_disk`). ISOLINUX is Debian's, unpacked into the cache like
nestlab's own QEMU: without root, and only when it is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.cargo import BOOTED
from nestlab.engines.qemu.launch import ROOT_SERIAL
from nestlab.home.cache import making
from nestlab.images.boot_disk import Loader, starting_disk
from nestlab.images.image_files import ImageFiles
from nestlab.images.mmdebstrap import disk_errors, mmdebstrap
from nestlab.images.qemu_runtime import Tool, choose_qemu_img

Role = Literal["disk", "start", "root", "boot", "cdrom"]
"""What a file is. `disk`: what a machine runs from, `start`: what boots it, and for hypervisors, byte by byte what the
embedded engine would hand them: `root`, `boot`, `cdrom`."""

BOOT_SERIAL = "boot"
"""The serial number of the disk that starts a machine."""

FIRST_WORDS = ("console=ttyS0", "panic=-1")
"""As the embedded engine's. Words of a machine's own (`cmdline:`) are not possible: many share one disk."""

_SUITE = "trixie"
_PACKAGES = ("isolinux", "syslinux-common")
_FILES = {"isolinux.bin": "usr/lib/ISOLINUX/isolinux.bin", "ldlinux.c32": "usr/lib/syslinux/modules/bios/ldlinux.c32"}
_DISK = "disk.qcow2"
_WHAT = "The boot loader of machines on a Proxmox VE"


@frozen
class Shape:
    """The disks of a machine made from an image. `drives`: role and serial number of each disk, in order; `boots`: the
    number of the disk that it boots, None if it is a CD-ROM; `cargo`: the files for hypervisors."""

    drives: tuple[tuple[Role, str], ...]
    boots: int | None
    cargo: tuple[Role, ...]


def shape_of(artifacts: ImageFiles) -> Shape:
    """Of nestlab's own images (with a kernel), a disk of the user's, or a CD-ROM."""
    cargo: tuple[Role, ...] = tuple(role for role in _CARGO if role in artifacts.files and role not in BOOTED)
    if "kernel" in artifacts.files:
        root: tuple[tuple[Role, str], ...] = (("root", ROOT_SERIAL),) if "root" in artifacts.files else ()
        return Shape((*root, ("start", BOOT_SERIAL)), len(root), cargo)
    if "cdrom" in artifacts.files or not artifacts.files:
        return Shape((), None, cargo)
    # What a hypervisor is handed is the file itself: a qcow2 inside a disk. What boots is the disk inside the file.
    role: Role = "root" if artifacts.format == "raw" else "disk"
    return Shape(((role, ROOT_SERIAL),), 0, cargo)


_CARGO: tuple[Role, ...] = ("boot", "root", "cdrom")


@frozen
class Workshop:
    """Makes disks out of files, in the cache, each once (`nestlab images gc` removes them)."""

    cache: Path

    async def disk(self, artifacts: ImageFiles, role: Role, say: Say) -> Path:
        """A compressed qcow2 of it. LabError, and nothing left behind, when the disk is full or tools are missing."""
        folder = self.cache / "pve" / f"{artifacts.key}.{role}"
        with disk_errors(_WHAT if role == "start" else f"The disk {artifacts.key[:12]}", self.cache):
            async with making(folder, say) as partial:
                if partial is not None:
                    await self._make(artifacts, role, partial, say)
        return folder / _DISK

    async def packed(self, data: bytes, target: Path, say: Say) -> None:
        """A small disk with this at its start, as qcow2."""
        raw = target.with_suffix(".raw")
        handle = os.open(raw, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data.ljust(-(-len(data) // 512) * 512, b"\0"))
        await self._convert(raw, "raw", target, say)
        raw.unlink()

    async def loader(self, say: Say) -> Loader:
        """ISOLINUX, from the cache or unpacked into it (1 MB to download)."""
        text = json.dumps([_SUITE, _PACKAGES, _FILES])
        folder = self.cache / "loader" / hashlib.sha256(text.encode()).hexdigest()[:16]
        with disk_errors(_WHAT, self.cache):
            async with making(folder, say) as partial:
                if partial is not None:
                    say("unpacking the boot loader")
                    await _unpack(partial, say)
        return Loader(folder / "isolinux.bin", folder / "ldlinux.c32")

    async def _make(self, artifacts: ImageFiles, role: Role, partial: Path, say: Say) -> None:
        files = artifacts.files
        if role == "start":
            loader = await self.loader(say)
            raw = partial / "start.raw"
            if artifacts.bzimage is None:
                what = f"The image {artifacts.key[:12]} has no kernel for boot loaders."
                raise LabError(what, hint=f"Remove it, and it is built anew: nestlab images rm {artifacts.key[:12]}")
            words = (*FIRST_WORDS, *artifacts.cmdline)
            over = artifacts.agent
            await asyncio.to_thread(starting_disk, artifacts.bzimage, files["initrd"], words, loader, raw, over)
            await self._convert(raw, "raw", partial / _DISK, say)
            raw.unlink()
            return
        source = files["root" if role == "disk" else role]
        say(f"compressing {source.name}")
        await self._convert(source, artifacts.format if role == "disk" else "raw", partial / _DISK, say)

    async def _convert(self, source: Path, form: str, target: Path, say: Say) -> None:
        tool = await self._qemu_img(say)
        words = ("convert", "-q", "-c", "-W", "-m", "4", "-f", form, "-O", "qcow2", str(source), str(target))
        process = await asyncio.create_subprocess_exec(
            *tool.argv,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **tool.env},
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            said = output.decode(errors="replace").strip()
            full = "No space left" in said
            hint = "Make room there, then repeat." if full else "Look at the file with `qemu-img info`."
            raise LabError(f"{source} cannot be converted to {target.parent}.", hint=hint, detail=said[-500:])

    async def _qemu_img(self, say: Say) -> Tool:
        return await choose_qemu_img(self.cache, say)


async def _unpack(partial: Path, say: Say) -> None:
    archive = partial / "packages.tar"
    words = ["--variant=extract", f"--include={','.join(_PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    await mmdebstrap([*words, "--format=tar", _SUITE, str(archive)], what=_WHAT, folder=partial, say=say)
    await asyncio.to_thread(_pick, archive, partial, _FILES)
    archive.unlink()


def _pick(archive: Path, folder: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(archive) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
        for name, path in files.items():
            content = tar.extractfile(members[path]) if path in members else None
            if content is None:
                raise LabError(f"{_WHAT} is not in Debian's packages: {path} is missing.", hint="Report this.")
            (folder / name).write_bytes(content.read())


__all__ = ["BOOT_SERIAL", "Role", "Shape", "Workshop", "shape_of"]
