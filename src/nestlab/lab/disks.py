"""Disks of a machine beside the one that its image is on, and what it boots from. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from nestlab.base.frozen import frozen

if TYPE_CHECKING:
    from nestlab.lab.model import Image

Bus = Literal["virtio", "scsi", "sata", "nvme", "ide"]
BootFrom = Literal["disk", "cdrom", "network"]

BUSES: tuple[Bus, ...] = get_args(Bus)
BOOTS: tuple[BootFrom, ...] = get_args(BootFrom)

MOST: Mapping[Bus, int] = {"virtio": 12, "scsi": 30, "sata": 6, "nvme": 8, "ide": 4}
"""Disks of a machine on each bus. A Proxmox VE has virtio0-15, of which nestlab's own are at most four, scsi0-30,
sata0-5 and ide0-3 (qemu-server, Drive.pm); an AHCI controller has 6 ports, two IDE channels 4 drives. CD-ROM drives
count as `ide`."""

SERIAL_LIMIT = 20
"""Characters of a serial number: those of virtio-blk (VIRTIO_BLK_ID_BYTES), ATA and NVMe."""

SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")

_OWN = ("root", "boot", "nestlab-id")
_CARGO = re.compile(r"[0-9a-f]{20}")

ROTATES = frozenset[Bus]({"scsi", "sata", "ide"})
"""The buses on which a disk tells how fast it turns: `ssd` is no word for the others."""


@frozen
class Disk:
    """A disk beside a machine's own. `size`: bytes that the guest sees, 0: those of its `file` (an absolute path), or
    of its `image`, which is downloaded. Neither is ever written to: what the machine writes goes to a layer over it."""

    name: str
    size: int = 0
    file: str | None = None
    format: Literal["qcow2", "raw"] | None = None
    bus: Bus = "virtio"
    ssd: bool = False
    serial: str = ""
    image: Image | None = None

    @property
    def is_layer(self) -> bool:
        """Whether it is one over something that is there."""
        return self.file is not None or self.image is not None

    def made(self, key: str = "") -> MadeDisk:
        """It as it is made. `key`: of what it is a layer over (`image_files.key_of`)."""
        return MadeDisk(self.name, self.size, key, self.bus, self.ssd, self.serial)


@frozen
class MadeDisk:
    """A disk as a machine has it. `source`: the key of the file that it is a layer over; "": it began empty."""

    name: str
    size: int = 0
    source: str = ""
    bus: Bus = "virtio"
    ssd: bool = False
    serial: str = ""

    @property
    def id(self) -> str:
        """`disk-` and 8 hex digits, another for another name or file: QEMU's name for it (at most 31 characters), and
        that of its file."""
        return "disk-" + hashlib.sha256(f"{self.name}\0{self.source}".encode()).hexdigest()[:8]

    @property
    def where(self) -> tuple[str, bool, str]:
        """How the guest gets it: what changes of this takes a start."""
        return self.bus, self.ssd, self.serial


FILE = re.compile(r"disk-[0-9a-f]{8}")
"""What `MadeDisk.id` gives."""


def is_own(serial: str) -> bool:
    """Whether a serial number is one of those that nestlab gives its own disks: the machine's, its identity, what
    starts it, and the images that it is handed (`engines.qemu.cargo`)."""
    return serial in _OWN or _CARGO.fullmatch(serial) is not None


def serial_of(name: str) -> str:
    """The serial number that a disk of this name has where none is said: the name, with a digest where that is too long
    or a serial of nestlab's."""
    if len(name) <= SERIAL_LIMIT and not is_own(name):
        return name
    return f"{name[:11]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def made_disks(rows: object) -> tuple[MadeDisk, ...]:
    """Disks from JSON data, as `plain` gives them. ValueError for what it does not give: somebody else may have written
    it."""
    if not isinstance(rows, list) or len(rows) > sum(MOST.values()):
        raise ValueError("these are no disks")
    return tuple(map(_made_disk, rows))


def _made_disk(row: object) -> MadeDisk:
    if not isinstance(row, dict) or not row.keys() <= _READ.keys() or "name" not in row:
        raise ValueError("it is no disk")
    if not all(_READ[key](value) for key, value in row.items()):
        raise ValueError("it is no disk of nestlab's")
    return MadeDisk(**row)


def _text(pattern: str) -> Callable[[object], bool]:
    known = re.compile(pattern)
    return lambda value: isinstance(value, str) and known.fullmatch(value) is not None


_READ: Mapping[str, Callable[[object], bool]] = {
    "name": _text(r"[a-z][a-z0-9-]{0,62}"),
    "size": lambda value: type(value) is int and 0 <= value < 1 << 62,
    "source": _text(r"(file-[0-9a-f]{40})?"),
    "bus": lambda value: value in BUSES,
    "ssd": lambda value: isinstance(value, bool),
    "serial": _text(SERIAL.pattern),
}


def by_name(disks: Iterable[MadeDisk]) -> dict[str, MadeDisk]:
    return {disk.name: disk for disk in disks}
