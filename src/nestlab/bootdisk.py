"""A kernel and its initrd as a read-only disk, for hypervisors that boot them.

QEMU maps an ELF kernel into memory, which it can do with a file and not with a block device; so inside a hypervisor
the disk is mounted (ISO 9660, a file system every kernel knows), and nothing is copied.
"""

from __future__ import annotations

import os
from pathlib import Path

KERNEL, INITRD = "kernel", "initrd"
"""The names of the files on the mounted disk."""


def boot_disk(kernel: Path, initrd: Path, target: Path) -> None:
    """Write the disk; it is there whole or not at all. OSError if the files or the disk space are not there."""
    import pycdlib

    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    image = pycdlib.PyCdlib()
    image.new(vol_ident="NESTLAB")
    try:
        image.add_file(str(kernel), "/KERNEL.;1")
        image.add_file(str(initrd), "/INITRD.;1")
        image.write(str(temporary))
        temporary.replace(target)
    finally:
        image.close()
        temporary.unlink(missing_ok=True)
