"""What a lab file may say about the hardware of a machine: the part of the table in `fields` that is about it."""

from __future__ import annotations

from nestlab.lab.hardware import CARDS
from nestlab.labfile.shapes import Boolean, Choice, Field, Integer, Record, Ref, Text

CPU = Text(
    "a CPU as QEMU writes it",
    r"[A-Za-z0-9][A-Za-z0-9._-]*(,([+-][A-Za-z0-9][A-Za-z0-9._-]*|[A-Za-z0-9][A-Za-z0-9._-]*=[ -+.-~-]+))*",
    limit=400,
)
UUID = Text("a UUID", r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
TOLD = Text("text of printable ASCII", r"[ -~]+", limit=64)

HARDWARE = (
    Field(
        "firmware",
        Choice(("bios", "uefi", "secure")),
        "What starts it: a BIOS, UEFI (OVMF), or UEFI with Secure Boot on and Microsoft's keys, which have signed what"
        " Debian, Windows and others start with. Its variables stay with the machine, those of `uefi` and `secure`"
        " apart. QEMU hands the kernel of one of nestlab's own images to UEFI, which does not check it, on a Proxmox VE"
        " they start by `bios` only: what `secure` lets start is what is on a disk of yours.",
        default="bios",
        example="uefi",
        misnomers=("bios", "uefi", "efi", "ovmf", "secureboot", "secure_boot"),
    ),
    Field(
        "tpm",
        Boolean(),
        "Whether it has a TPM 2.0 (swtpm). What it keeps stays with the machine.",
        default="false",
        misnomers=("tpm2", "vtpm", "swtpm", "tpmstate0"),
    ),
    Field(
        "cpu",
        CPU,
        "Its CPU: a model of QEMU's, with flags. A hypervisor's must have vmx or svm. Where the machine is emulated,"
        " `host` stands for all that can be emulated.",
        default="all that the host has; on a Proxmox VE chosen for its nodes",
        example='"Haswell-noTSX,vendor=GenuineIntel,+invtsc"',
        misnomers=("cputype", "cpu_type", "cpu_model", "cpu-model", "cpu_mode"),
    ),
    Field(
        "topology",
        Ref("topology"),
        "How its CPUs are arranged. `cpus` may be left out then.",
        default="one socket for each CPU by QEMU, one socket on a Proxmox VE",
        example="{sockets: 2, cores: 2}",
        misnomers=("numa", "sockets"),
    ),
    Field(
        "board",
        Choice(("q35", "pc")),
        "Its chipset: `q35` has PCI Express, `pc` is an i440FX of 1996.",
        default="`q35`; `pc` for a plain guest on a Proxmox VE or under KVM in a hypervisor, if nothing needs q35",
        example="q35",
        misnomers=("chipset", "machine", "machine_type"),
    ),
    Field(
        "iommu",
        Boolean(),
        "Whether it has a virtual IOMMU (Intel's, with caching mode and interrupt remapping), behind which its devices"
        " can be handed to machines inside it. Its board is then `q35`. The kernel of nestlab's images is told to use"
        " it; any other needs `intel_iommu=on`.",
        default="false",
        misnomers=("viommu", "vtd", "vt-d"),
    ),
    Field(
        "watchdog",
        Boolean(),
        "Whether it has a watchdog (i6300esb) that resets it when nothing in it feeds it any more.",
        default="false",
        misnomers=("wdt",),
    ),
    Field(
        "display",
        Boolean(),
        "Whether it has a graphics card (VGA) and a keyboard. An image that boots by firmware has them anyway, and so"
        " has every machine on a Proxmox VE.",
        default="false",
        misnomers=("vga", "graphics", "video", "gpu"),
    ),
    Field(
        "smbios",
        Ref("smbios"),
        "What its firmware tells of it (dmidecode, /sys/class/dmi/id).",
        example="{serial: LAB-0001}",
        misnomers=("dmi", "smbios1"),
    ),
)

CARD = Field(
    "card",
    Choice(CARDS),
    "What kind of card it is. nestlab's own images have a driver for `virtio`; `kernel: generic` brings the others.",
    default="virtio",
    example="e1000e",
    misnomers=("model", "nic", "driver", "type"),
)

TOPOLOGY = Record(
    "topology",
    "`topology`",
    "How the CPUs of a machine are arranged. Their number is the product; where `cpus` says it too, it must be the"
    " same.",
    (
        Field("sockets", Integer(1, 64), "Sockets.", default="1", example="2", misnomers=("packages",)),
        Field("cores", Integer(1, 512), "Cores of each socket.", default="1", example="4"),
        Field("threads", Integer(1, 2), "Threads of each core. On a Proxmox VE: 1.", default="1", example="2"),
    ),
    example="""\
machines:
  db:
    topology: {sockets: 2, cores: 2}
""",
)

SMBIOS = Record(
    "smbios",
    "`smbios`",
    "What the firmware of a machine tells of it.",
    (
        Field("serial", TOLD, "The serial number.", example="LAB-0001"),
        Field("uuid", UUID, "The UUID of the machine.", example="6f3ca5a4-4f53-4b0c-9d6e-4a5a3a4c1d20"),
        Field("product", TOLD, "The name of the product.", example="ThinkServer", misnomers=("model", "name")),
    ),
    example="""\
machines:
  win:
    smbios: {serial: LAB-0001, product: ThinkServer}
""",
)
