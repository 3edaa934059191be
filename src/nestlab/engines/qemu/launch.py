"""The drives and the kernel that a machine starts with, from its image's files. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.base.paint import human
from nestlab.engines.qemu.argv import Drive, Kernel
from nestlab.engines.qemu.cargo import serial_of
from nestlab.engines.qemu.disk_devices import ON_PCI, file_of
from nestlab.home.paths import MachinePaths
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Spec
from nestlab.lab.disks import MadeDisk
from nestlab.labfile.image_size import readable

ID_SERIAL = "nestlab-id"
ROOT_SERIAL = "root"

MOST_CARGO = 16
"""Cargo disks of a machine: a PCI bus has 32 slots. Images beyond that are copied over ssh when they are needed."""


def needs_disk(spec: Spec, artifacts: ImageFiles) -> bool:
    """Whether the machine has a disk of its own. What a container writes is in files of its hypervisor."""
    return not spec.machine.container and ("root" in artifacts.files or spec.machine.disk is not None)


def disk_size(spec: Spec, artifacts: ImageFiles) -> int:
    """Bytes of the machine's disk: what the lab file says, never less than the image's. LabError where it says less
    than an image has that was not there when it was read."""
    if spec.machine.image.url is not None and 0 < (spec.machine.disk or 0) < artifacts.size:
        least = readable(artifacts.size)
        what = f"{spec.path} is to have a disk of {human(spec.machine.disk or 0)}, and its image has {least}."
        raise LabError(what, hint=f"Say `disk: {least}` or more of it, or leave it out.")
    return max(spec.machine.disk or 0, artifacts.size)


def holds(spec: Spec, key: str, artifacts: ImageFiles) -> None:
    """LabError where a disk over this file is to be smaller than it is, which a lab file cannot tell of a download."""
    for disk in spec.disks:
        if disk.source == key and 0 < disk.size < artifacts.size:
            least = readable(artifacts.size)
            what = f"The disk {disk.name} of {spec.path} is to have {human(disk.size)}, and what it is a layer over has"
            raise LabError(f"{what} {least}.", hint=f"Say `size: {least}` or more, or leave it out.")


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
    room = max(0, MOST_CARGO - sum(disk.bus in ON_PCI for disk in spec.disks))
    return (*drives, *boxes[:room])


def cdroms_of(paths: MachinePaths, artifacts: ImageFiles, files: Mapping[str, str]) -> tuple[str, ...]:
    """The installer or live medium if the image is one; the seed for cloud-init if it is a disk of the user's."""
    if "kernel" in files or not files:
        return ()
    if "cdrom" in files:
        return (files["cdrom"],)
    return (paths.seed,)


def answers_ssh(files: Mapping[str, str]) -> bool:
    """Whether it is up when it answers ssh: not a CD-ROM's system, nor what an empty disk will have."""
    return bool(files) and "cdrom" not in files


def over(spec: Spec, files: Mapping[str, tuple[str, str]]) -> list[tuple[MadeDisk, tuple[str, str] | None]]:
    """The disks beside its own, each with the place and the format of the file that it is a layer over. `files`: by
    key."""
    return [(disk, files[disk.source] if disk.source else None) for disk in spec.disks]


def disks_script(
    qemu_img: Sequence[str],
    paths: MachinePaths,
    disks: Sequence[tuple[MadeDisk, tuple[str, str] | None]],
    own: Sequence[str] = (),
    *,
    grow: bool = True,
) -> str:
    """A script that makes the disks that are not there, each whole or not at all, and makes larger those that are too
    small, unless a QEMU has them (`grow`). `own`: the command that makes the machine's own disk."""
    lines = [f"{shlex.join(own)} || exit 1"] if own else []
    for disk, below in disks:
        file, size = file_of(paths, disk), [str(disk.size)] if disk.size else []
        backing = ["-b", below[0], "-F", below[1]] if below else []
        create = shlex.join([*qemu_img, "create", "-q", "-f", "qcow2", *backing, f"{file}.new", *size])
        resize = shlex.join([*qemu_img, "resize", "-q", "-f", "qcow2", file, *size]) if size and grow else ":"
        make = f"{{ rm -f {file}.new; {create} && mv -f {file}.new {file}; }}"
        lines.append(f"if [ -s {file} ]; then {resize}; else {make}; fi || exit 1")
    return "\n".join(lines)


def larger_argv(qemu_img: Sequence[str], paths: MachinePaths, size: int) -> list[str]:
    """Makes the disk of a machine that does not run larger; it is an error if it is larger already."""
    return [*qemu_img, "resize", "-q", "-f", "qcow2", paths.disk, str(size)]


def overlay_argv(
    qemu_img: Sequence[str], paths: MachinePaths, artifacts: ImageFiles, root: str | None, size: int
) -> list[str]:
    """Makes the machine's disk: a copy-on-write layer over the image's, or an empty one."""
    backing = ["-b", root, "-F", artifacts.format] if root else []
    return [*qemu_img, "create", "-q", "-f", "qcow2", *backing, paths.disk, *([str(size)] if size else [])]
