"""A kernel and its initrd as a read-only disk, for hypervisors that boot them and machines that boot from disks.

QEMU maps an ELF kernel into memory, which it can do with a file and not with a block device; so inside a hypervisor
the disk is mounted (ISO 9660, a file system every kernel knows), and nothing is copied. A machine that no kernel is
handed to, as on a Proxmox VE, finds it with a boot loader on the same kind of disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from nestlab.base.frozen import frozen

KERNEL, INITRD = "kernel", "initrd"
"""The names of the files on the mounted disk."""

WORDS_LIMIT = 2047
"""Bytes of a kernel's command line on x86 (COMMAND_LINE_SIZE, with its final zero)."""


@frozen
class Loader:
    """ISOLINUX, of Debian's packages `isolinux` and `syslinux-common`: itself, and the module it cannot do without."""

    isolinux: Path
    ldlinux: Path


def boot_disk(kernel: Path, initrd: Path, target: Path) -> None:
    """Write the disk; it is there whole or not at all. OSError if the files or the disk space are not there."""
    with _written(target) as image:
        image.add_file(str(kernel), "/KERNEL.;1")
        image.add_file(str(initrd), "/INITRD.;1")


def starting_disk(
    kernel: Path, initrd: Path, words: Sequence[str], loader: Loader, target: Path, over: Path | None = None
) -> None:
    """Write a disk from which a PC's firmware (BIOS) starts Linux, be it as a CD-ROM or as a hard disk.

    `kernel` is a bzImage, `words` its command line, `over` an archive that is unpacked over the initrd. ValueError if
    the command line is too long; else as `boot_disk`."""
    line = " ".join(words)
    if len(line.encode()) > WORDS_LIMIT:
        raise ValueError(f"a kernel takes {WORDS_LIMIT} bytes of command line, not {len(line.encode())}")
    settings = [
        "SERIAL 0 115200",
        "DEFAULT nestlab",
        "LABEL nestlab",
        "LINUX /kernel",
        "INITRD /initrd" + (",/over" if over else ""),
        f"APPEND {line}",
    ]
    text = "".join(f"{each}\n" for each in settings).encode()
    with _written(target) as image:
        image.add_file(str(loader.isolinux), "/ISOLINUX.BIN;1")
        image.add_eltorito("/ISOLINUX.BIN;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
        image.add_file(str(loader.ldlinux), "/LDLINUX.C32;1")
        image.add_fp(BytesIO(text), len(text), "/ISOLINUX.CFG;1")
        image.add_file(str(kernel), "/KERNEL.;1")
        image.add_file(str(initrd), "/INITRD.;1")
        if over is not None:
            image.add_file(str(over), "/OVER.;1")
        image.add_isohybrid()


@contextmanager
def _written(target: Path) -> Iterator[Any]:
    """An empty image, which becomes `target` when the context is left without an error."""
    import pycdlib

    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    image = pycdlib.PyCdlib()
    image.new(vol_ident="NESTLAB")
    try:
        yield image
        image.write(str(temporary))
        temporary.replace(target)
    finally:
        image.close()
        temporary.unlink(missing_ok=True)
