"""What a lab file may say about disks, CD-ROMs and booting: the part of the table in `fields` that is about them."""

from __future__ import annotations

from nestlab.lab.disks import BOOTS, BUSES
from nestlab.lab.model import MIB, TIB
from nestlab.labfile.image_fields import DOWNLOADED
from nestlab.labfile.shapes import (
    Boolean,
    Choice,
    Either,
    Field,
    ListOf,
    LocalPath,
    MapOf,
    Name,
    Nothing,
    Record,
    Ref,
    Size,
    Text,
)

DISK_SIZE = Size(MIB, 64 * TIB)
SERIAL = Text("a serial number of at most 20 letters, digits, dots and dashes", r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")
_DISK = Either((DISK_SIZE, Ref("disk")))

DRIVES = (
    Field(
        "bus",
        Choice(BUSES),
        "What its own disk is on. Only for an image that boots by its own boot loader: nestlab's images look for it on"
        " `virtio`. A Proxmox VE has no `nvme`.",
        default="virtio",
        example="sata",
        misnomers=("disk_bus", "diskbus", "controller"),
    ),
    Field(
        "disks",
        Either((MapOf(Name("disk", 40), _DISK), ListOf(_DISK), Nothing())),
        "Disks beside its own: by name, each a size or a mapping; or a list, whose disks are called `disk1`, `disk2`, …"
        " The guest finds each by its serial number, in /dev/disk/by-id.",
        example="{data: 20G, fast: {size: 10G, bus: nvme}}",
        misnomers=("drives", "volumes", "extra_disks", "data_disks", "hard_disks", "additional_disks"),
    ),
    Field(
        "cdroms",
        Either((LocalPath(), Ref("medium"), ListOf(Either((LocalPath(), Ref("medium")))))),
        "ISO files in its CD-ROM drives: paths, or where they are downloaded from (`{url: …, sha256: …}`).",
        example="[./installer.iso]",
        misnomers=("cdrom", "iso", "isos", "cd", "dvd", "media"),
    ),
    Field(
        "boot",
        Either((Choice(BOOTS), ListOf(Choice(BOOTS)))),
        "What its firmware tries to boot from, in order. `disk` is its own disk, then its `disks`; `network` its cards"
        " on segments. Not for nestlab's images, whose kernel it is handed.",
        default="`[disk, cdrom, network]`, as far as it has them",
        example="[cdrom, disk]",
        misnomers=("boot_order", "bootorder", "boot_from"),
    ),
)

DISK_RECORD = Record(
    "disk",
    "a disk",
    "A disk beside the machine's own: empty and of a `size`, or a layer over a `file` of yours, or over what is"
    " downloaded (`url`), neither of which is ever written to. It takes only as much room as is written.",
    (
        Field(
            "size",
            DISK_SIZE,
            "Its size. Where it has a `file` or a `url`: at least that of the disk in it.",
            default="that of its `file`, or of what is at its `url`",
            example="20G",
            misnomers=("capacity", "length"),
        ),
        Field(
            "file", LocalPath(), "A disk image of yours.", example="./data.qcow2", misnomers=("path", "source", "image")
        ),
        Field(
            "format",
            Choice(("qcow2", "raw", "vmdk", "vhdx", "vdi", "ova")),
            "What the file is, or what is at `url`. Only what is downloaded is converted: the last four, once.",
            default="by the ending of its name",
            misnomers=("type",),
        ),
        *DOWNLOADED,
        Field(
            "bus",
            Choice(BUSES),
            "What it is connected to. `virtio`, `scsi` and `nvme` come and go while the machine runs; a disk on `sata`"
            " or `ide` is there from its next start on. A Proxmox VE has no `nvme`. `tiny` has no drivers for `scsi`,"
            " `sata` and `ide`.",
            default="virtio",
            example="scsi",
            misnomers=("interface", "controller", "if"),
        ),
        Field(
            "ssd",
            Boolean(),
            "Whether it says that nothing in it turns: on `scsi`, `sata` and `ide`.",
            default="false",
            misnomers=("rotational", "solid_state"),
        ),
        Field(
            "serial",
            SERIAL,
            "Its serial number, by which the guest knows it.",
            default="its name; where that has more than 20 letters its first 11 and a digest",
            example="S3CR-0042",
            misnomers=("id", "wwn", "serial_number"),
        ),
    ),
    example="""\
machines:
  store:
    disks:
      data: 20G
      fast: {size: 10G, bus: nvme}
      old: {file: ./old.qcow2, bus: sata, ssd: true, serial: WD-0815}
      set: {url: https://example.org/set.qcow2, sums: https://example.org/SHA256SUMS}
  osd:
    disks: [20G, 20G]
""",
)

MEDIUM_RECORD = Record(
    "medium",
    "an ISO that is downloaded",
    "An ISO for a CD-ROM drive, where it is downloaded from. `compression` says how it is packed; what is in it is an"
    " ISO whatever its name says.",
    DOWNLOADED,
    example="""\
machines:
  box:
    image: none
    disk: 20G
    cdroms:
      - url: https://example.org/installer.iso
        sums: https://example.org/SHA256SUMS
        signed_by: ./vendor.asc
""",
)
