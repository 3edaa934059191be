"""Disks as distributions make them for Secure Boot: Debian with shim, GRUB and a kernel, all signed; and the same with
a boot loader that nobody signed, in the place of shim or behind it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from struct import pack

from own_disk import PACKAGES, SECTOR, SIZE, START, partition

ESP = 64 << 20
_SIGNED = "shim-signed grub-efi-amd64-signed grub-efi-amd64-bin mokutil mtools"

_LOADERS = """
set -eu
cd "$1"
cat >boot/grub.cfg <<END
search --no-floppy --label own --set=root
linux /vmlinuz root=LABEL=own ro console=ttyS0
initrd /initrd.img
boot
END
esp() { # NAME FIRST SECOND: a file system with the loader that the firmware starts, and what shim starts
    rm -f boot/esp.img
    truncate -s 64M boot/esp.img
    chroot . mformat -i /boot/esp.img -F ::
    chroot . mmd -i /boot/esp.img ::EFI ::EFI/BOOT ::EFI/debian
    chroot . mcopy -i /boot/esp.img "$2" ::EFI/BOOT/BOOTX64.EFI
    chroot . mcopy -i /boot/esp.img "$3" ::EFI/BOOT/grubx64.efi
    chroot . mcopy -i /boot/esp.img /usr/lib/shim/mmx64.efi.signed ::EFI/BOOT/mmx64.efi
    chroot . mcopy -i /boot/esp.img /boot/grub.cfg ::EFI/debian/grub.cfg
    mv boot/esp.img "$OUT/$1.esp"
}
shim=/usr/lib/shim/shimx64.efi.signed
unsigned=/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi
esp signed $shim /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed
esp first $unsigned $unsigned
esp second $shim $unsigned
"""


@dataclass(frozen=True)
class Disks:
    """Raw. `first`: GRUB without a signature instead of shim; `second`: behind it."""

    signed: Path
    first: Path
    second: Path


def build(folder: Path) -> Disks:
    """About two minutes, and packages from Debian's default mirror."""
    packages = PACKAGES.replace("grub-pc-bin grub-common", _SIGNED)
    part = partition(folder, packages, _LOADERS)
    made = Disks(_assembled(folder, "signed", part), _assembled(folder, "first"), _assembled(folder, "second"))
    part.unlink()
    return made


def _assembled(folder: Path, name: str, part: Path | None = None) -> Path:
    """The EFI system partition, and Debian's behind it."""
    disk, second = folder / f"{name}.raw", START + ESP // SECTOR
    table = _entry(0xEF, START, ESP) + (_entry(0x83, second, SIZE) if part else bytes(16))
    with disk.open("wb") as made:
        made.write(bytes(446) + table + bytes(32) + b"\x55\xaa")
        made.seek(START * SECTOR)
        made.write((folder / f"{name}.esp").read_bytes())
        made.truncate(second * SECTOR + (SIZE if part else 0))
    if part:
        place = f"seek={second * SECTOR >> 20}"
        words = ["dd", f"if={part}", f"of={disk}", "bs=1M", place, "conv=sparse,notrunc", "status=none"]
        subprocess.run(words, check=True)
    return disk


def _entry(kind: int, start: int, size: int) -> bytes:
    """Of a partition table."""
    return bytes([0, 0, 2, 0, kind, 0xFE, 0xFF, 0xFF]) + pack("<II", start, size // SECTOR)
