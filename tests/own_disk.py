"""A bootable disk of somebody's own: Debian with GRUB, cloud-init and sshd on a partition, made without mounting; and
a bootable CD."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

SECTOR, START = 512, 2048  # the partition begins at 1 MiB; GRUB lies between it and the first sector
SIZE = 2 << 30
SENTENCE = "GRUB"  # of its greeting
PACKAGES = (
    "linux-image-cloud-amd64 initramfs-tools systemd-sysv udev dbus cloud-init netplan.io openssh-server sudo iproute2"
    " iputils-ping grub-pc-bin grub-common kmod"
)

# The boot loader knows the partition by its number, the kernel the file system by its label.
_GRUB = """
set -eu
cd "$1"
cat >boot/grub.cfg <<END
linux (hd0,msdos1)/vmlinuz root=LABEL=own ro console=ttyS0
initrd (hd0,msdos1)/initrd.img
boot
END
chroot . grub-mkimage -O i386-pc -o /boot/core.img -p '(hd0,msdos1)/boot' -c /boot/grub.cfg \\
    biosdisk part_msdos ext2 linux normal
chroot . grub-mkimage -O i386-pc-eltorito -o /boot/cd.img -p '(cd)/boot' biosdisk iso9660 normal
cp boot/core.img usr/lib/grub/i386-pc/boot.img boot/cd.img "$OUT"
"""

_OWN = """
echo 'LABEL=own / ext4 defaults 0 1' >etc/fstab
rm -f etc/ssh/ssh_host_* etc/machine-id
: >etc/machine-id
"""


def build(folder: Path) -> Path:
    """The disk, raw. About a minute, and packages from Debian's default mirror."""
    disk = folder / "own.raw"
    part = partition(folder, PACKAGES, _GRUB)
    _assemble(disk, part, (folder / "boot.img").read_bytes(), (folder / "core.img").read_bytes())
    part.unlink()
    return disk


def partition(folder: Path, packages: str, script: str) -> Path:
    """An ext4 file system called `own` with a Debian of these packages in it, as the script leaves it: it gets the
    Debian's root as its argument, and in OUT the folder for what else there is to have."""
    root, part, hook = (folder / name for name in ("root", "part.img", "hook.sh"))
    hook.write_text(script + _OWN)
    subprocess.run(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(packages.split())}",
            '--aptopt=Acquire::Languages "none"',
            f'--customize-hook=OUT={folder} sh {hook} "$1"',
            "trixie",
            str(root),
        ],
        check=True,
        capture_output=True,
    )
    with part.open("wb") as made:
        made.truncate(SIZE)
    features = "^metadata_csum,^orphan_file,^64bit"
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "own", "-O", features, "-d", str(root), str(part)], check=True
    )
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    return part


def _assemble(disk: Path, part: Path, boot: bytes, core: bytes) -> None:
    """boot.img loads sector 1, where core.img begins; the partition table's one entry is active."""
    assert len(core) <= (START - 1) * SECTOR, "GRUB does not fit before the partition"
    entry = bytes([0x80, 0, 2, 0, 0x83, 0xFE, 0xFF, 0xFF]) + START.to_bytes(4, "little")
    entry += (SIZE // SECTOR).to_bytes(4, "little")
    with disk.open("wb") as made:
        made.write(boot[:440] + bytes(6) + entry + bytes(48) + b"\x55\xaa")
        made.write(core)
    subprocess.run(["cp", "--sparse=always", str(part), f"{disk}.part"], check=True)
    subprocess.run(
        ["dd", f"if={disk}.part", f"of={disk}", "bs=1M", "seek=1", "conv=sparse,notrunc", "status=none"], check=True
    )
    with disk.open("r+b") as made:
        made.truncate(START * SECTOR + SIZE)
    Path(f"{disk}.part").unlink()


def cd(folder: Path) -> Path:
    """A CD with the GRUB that `build` left in the folder; it greets with SENTENCE."""
    import pycdlib

    data, image, path = (folder / "cd.img").read_bytes(), pycdlib.PyCdlib(), folder / "own.iso"
    image.new(interchange_level=3, vol_ident="cd")
    image.add_fp(BytesIO(data), len(data), "/BOOT.IMG;1")
    image.add_eltorito("/BOOT.IMG;1", bootcatfile="/BOOT.CAT;1", boot_info_table=True)
    image.write(str(path))
    image.close()
    return path
