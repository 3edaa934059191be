"""What a lab file may say about booting from the network: the part of the table in `fields` that is about it."""

from __future__ import annotations

from nestlab.lab.netboot import OWN
from nestlab.labfile.shapes import Choice, Either, Field, LocalPath, Record, Ref, Text

_INSIDE = Text("the name of a file in `files`, such as pxelinux.0", r"[!-.0-~][!-~]*", limit=120)
WORDS = Text("kernel parameters in one line of ASCII", r"[ -~]*", limit=1024)

NETBOOT_OF_SEGMENT = Field(
    "netboot",
    Ref("netboot"),
    "What machines on it get that boot from the network (`boot: [network]`): by DHCP, TFTP and HTTP, at any level.",
    example="{kernel: ./vmlinuz, initrd: ./initrd.gz, cmdline: console=ttyS0}",
    misnomers=("pxe", "tftp", "dhcp", "boot", "ipxe", "network_boot"),
)

NETBOOT = Record(
    "netboot",
    "`netboot`",
    "What a segment serves to machines that boot from it: a Linux kernel, an image of nestlab's own, or a folder with"
    " boot loaders. It answers from the first address of the segment, and tells each machine the address that the lab"
    " file, or its lease, says; whoever is no machine of the lab gets none. For this computer's labs only.",
    (
        Field(
            "kernel",
            Either((LocalPath(), Ref("image"))),
            "A Linux kernel (a bzImage): a path, or where it is downloaded from (`{url: …, sha256: …}`). BIOS and UEFI"
            " both start it, by an iPXE script of nestlab's.",
            example="./vmlinuz",
            misnomers=("linux", "vmlinuz", "bzimage"),
        ),
        Field(
            "initrd",
            Either((LocalPath(), Ref("image"))),
            "The initramfs of `kernel`: a path, or where it is downloaded from.",
            example="./initrd.gz",
            misnomers=("initramfs",),
        ),
        Field(
            "cmdline",
            WORDS,
            "Kernel parameters for `kernel`, or beside those of `image`.",
            example="console=ttyS0",
            misnomers=("append", "kernel_args", "args", "options"),
        ),
        Field(
            "image",
            Choice(OWN),
            "An image of nestlab's own that lives in its initramfs.",
            example="tiny",
            misnomers=("from",),
        ),
        Field(
            "files",
            LocalPath(),
            "A folder. Every file in it is served, by TFTP and HTTP; hidden ones, and links that lead out of it, are"
            " not.",
            example="./tftpboot",
            misnomers=("root", "folder", "directory", "tftp_root", "path"),
        ),
        Field(
            "bios",
            _INSIDE,
            "What in `files` a BIOS loads.",
            example="pxelinux.0",
            misnomers=("pxe", "filename", "bootfile", "legacy"),
        ),
        Field("uefi", _INSIDE, "What in `files` a UEFI loads.", example="bootnetx64.efi", misnomers=("efi",)),
        Field(
            "ipxe",
            _INSIDE,
            "An iPXE script in `files`. A UEFI loads iPXE first where `uefi` is not said.",
            example="boot.ipxe",
            misnomers=("script", "menu"),
        ),
    ),
    example="""\
segments:
  wire:
    netboot:
      kernel: ./vmlinuz
      initrd: ./initrd.gz
      cmdline: console=ttyS0
  rescue:
    netboot: {files: ./tftpboot, bios: pxelinux.0, uefi: bootnetx64.efi}
""",
)
