"""Finds what the cache keeps and nothing needs: images and their disks, packages, older QEMUs, unfinished builds."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.home import cache as folders
from nestlab.images import (
    downloads,
    firmware_files,
    image_cache,
    installed,
    ipxe_files,
    package_cache,
    package_names,
    qemu_runtime,
)

PLACES = ("images", "downloads", "installed", "netboot", "pve", "runtime", "firmware", "ipxe", package_names.PLACE)
"""Folders of the cache in which entries are made, each whole or not at all."""


@frozen
class Unused:
    """Something that can go. `size`: bytes on the disk; `paths`: files and folders, all of them."""

    what: str
    size: int
    paths: tuple[Path, ...]


def unused(cache: Path, keep: Collection[str]) -> tuple[Unused, ...]:
    """Everything in the cache that is needed by none of the images and files of Debian's in `keep` (digests), and by no
    machine that runs."""
    return tuple(_each(cache, keep))


def remove(found: Unused) -> int:
    """Remove it, as far as it still is there and nobody has begun to work with it; the bytes freed."""
    for path in found.paths:
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif path.name.startswith("."):
            folders.sweep_one(path)
        else:
            folders.remove(path)
    return found.size


def _each(cache: Path, keep: Collection[str]) -> Iterator[Unused]:
    for image in image_cache.ls(cache):
        if image.digest not in keep:
            yield Unused(f"image {image.called or image.name} {image.digest[:12]}", image.disk_usage, (image.folder,))
    for key, fetched, folder in downloads.ls(cache):
        if key not in keep:
            yield Unused(f"image {fetched.name} {key[:12]}", _size(folder), (folder,))
    for made in installed.ls(cache):
        if made.key not in keep:
            yield Unused(f"image {made.called or made.family} {made.key[:12]}", made.disk_usage, (made.folder,))
    for folder in sorted((cache / "netboot").glob("[0-9a-f]*/")):
        yield Unused(f"Debian's netboot installer {folder.name[:12]}", _size(folder), (folder,))
    for folder in downloads.unfinished(cache):
        yield Unused(f"downloaded, and no image made of it: {folder.name[:19]}", _size(folder), (folder,))
    for disk in sorted((cache / "pve").glob("[0-9a-z]*.*/")):
        digest, _, kind = disk.name.rpartition(".")
        if digest not in keep:
            yield Unused(f"{kind} disk for a Proxmox VE, of image {digest[:12]}", _size(disk), (disk,))
    for runtime in sorted((cache / "runtime").glob("[0-9a-f]*/")):
        if runtime.name != qemu_runtime.digest() and not _runs_from(runtime):
            yield Unused(f"an older QEMU of nestlab's own, {runtime.name[:12]}", _size(runtime), (runtime,))
    for files in (firmware_files.FILES, ipxe_files.FILES):
        for folder in sorted((cache / files.place).glob("[0-9a-f]*/")):
            if not (folder.name == files.digest and files.digest in keep) and not _runs_from(folder):
                yield Unused(f"{files.what}, {folder.name[:12]}", _size(folder), (folder,))
    packages = package_cache.superseded(cache)
    if packages:
        many = f"{len(packages)} package{'s' * (len(packages) > 1)} of which a newer version is kept"
        yield Unused(many, sum(map(_size, packages)), packages)
    for folder in package_names.outdated(cache):
        yield Unused(f"names of packages that are out of date, {folder.name[:12]}", _size(folder), (folder,))
    half = package_cache.unfinished(cache)
    if half:
        yield Unused("unfinished: packages", sum(map(_size, half)), half)
    for parent in (cache / each for each in PLACES):
        for left in folders.left_behind(parent):
            place = folders.elsewhere(left)
            what = f"unfinished: {parent.name}/{left.name.strip('.')[:20]}{f', and {place}' if place else ''}"
            yield Unused(what, _size(left) + (_size(place) if place else 0), (left,))


def _size(path: Path) -> int:
    """Bytes that a file, or all in a folder, takes on the disk."""
    total = 0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(OSError):
            total += each.lstat().st_blocks * 512
    return total


def _runs_from(folder: Path) -> bool:
    """Whether a process was started from a program in the folder."""
    wanted = str(folder).encode() + b"/"
    for each in Path("/proc").iterdir():  # a pattern would be looked up in processes that end meanwhile
        with contextlib.suppress(OSError):
            if each.name.isdigit() and wanted in (each / "cmdline").read_bytes():
                return True
    return False
