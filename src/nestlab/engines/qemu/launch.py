"""The drives and the kernel that a machine starts with, from its image's files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nestlab.engines.qemu.argv import Drive, Kernel
from nestlab.engines.qemu.cargo import serial_of
from nestlab.home.paths import MachinePaths
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Spec

ID_SERIAL = "nestlab-id"
ROOT_SERIAL = "root"

MOST_CARGO = 16
"""Cargo disks of a machine: a PCI bus has 32 slots. Images beyond that are copied over ssh when they are needed."""


def needs_disk(spec: Spec, artifacts: ImageFiles) -> bool:
    """Whether the machine has a disk of its own."""
    return "root" in artifacts.files or spec.machine.disk is not None


def disk_size(spec: Spec, artifacts: ImageFiles) -> int:
    """Bytes of the machine's disk: what the lab file says, never less than the image's."""
    return max(spec.machine.disk or 0, artifacts.size)


def kernel_of(artifacts: ImageFiles, files: Mapping[str, str]) -> Kernel | None:
    """None: the machine boots by firmware, from its disk or CD-ROM."""
    if "kernel" not in files:
        return None
    return Kernel(files["kernel"], files["initrd"], artifacts.cmdline)


def drives_of(
    spec: Spec,
    paths: MachinePaths,
    artifacts: ImageFiles,
    cargo: Sequence[tuple[ImageFiles, Mapping[str, str]]],
) -> tuple[Drive, ...]:
    """The machine's disk first (firmware boots the first), then its identity, then image files for its guests."""
    drives = []
    if needs_disk(spec, artifacts):
        drives.append(Drive(paths.disk, "qcow2", ROOT_SERIAL))
    if "kernel" in artifacts.files:
        drives.append(Drive(paths.identity, "raw", ID_SERIAL, readonly=True))
    boxes = [
        Drive(path, "raw", serial_of(image.key, role), readonly=True)
        for image, files in cargo
        for role, path in files.items()
    ]
    return (*drives, *boxes[:MOST_CARGO])


def cdroms_of(paths: MachinePaths, artifacts: ImageFiles, files: Mapping[str, str]) -> tuple[str, ...]:
    """The installer or live medium if the image is one; the seed for cloud-init if it is a disk of the user's."""
    if "kernel" in files:
        return ()
    if "cdrom" in files:
        return (files["cdrom"],)
    return (paths.seed,)


def larger_argv(qemu_img: Sequence[str], paths: MachinePaths, size: int) -> list[str]:
    """Makes the disk of a machine that does not run larger; it is an error if it is larger already."""
    return [*qemu_img, "resize", "-q", "-f", "qcow2", paths.disk, str(size)]


def overlay_argv(
    qemu_img: Sequence[str], paths: MachinePaths, artifacts: ImageFiles, root: str | None, size: int
) -> list[str]:
    """Makes the machine's disk: a copy-on-write layer over the image's, or an empty one."""
    backing = ["-b", root, "-F", artifacts.format] if root else []
    return [*qemu_img, "create", "-q", "-f", "qcow2", *backing, paths.disk, *([str(size)] if size else [])]
