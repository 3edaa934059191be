"""Parsed values to the hardware of a machine, with what contradicts itself or cannot be had where the machine runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from nestlab.base.did_you_mean import meant
from nestlab.base.frozen import frozen
from nestlab.lab import cpu_models
from nestlab.lab.hardware import (
    CPU_LIMIT,
    IOMMU_WORDS,
    UEFI_MEMORY,
    Firmware,
    Hardware,
    Smbios,
    Topology,
    emulates,
    flags_of,
    model_of,
    nests,
)
from nestlab.lab.model import Image, Link, format_size
from nestlab.labfile.hardware_fields import HARDWARE
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

KEYS = tuple(field.name for field in HARDWARE)


class Pick(Protocol):
    """What a machine or else `defaults` says, where, and under which key path."""

    def __call__(self, section: Section, name: str, *, own_only: bool = False) -> tuple[Any, Node | None, str]: ...


@frozen
class Asked:
    """What is asked of one machine. `by_pve`: a Proxmox VE makes it (False: QEMU of ours runs it)."""

    section: Section
    pick: Pick
    kind: str | None
    image: Image
    by_pve: bool
    container: bool

    def said(self, name: str) -> tuple[Any, Node | None, str]:
        return self.pick(self.section, name)

    def own(self, name: str) -> bool:
        """Whether the machine says it itself: what `defaults` says is passed over where it cannot be."""
        return name in self.section.at


def of_machine(asked: Asked) -> tuple[int, Hardware, tuple[Complaint, ...]]:
    """The number of CPUs, the hardware, and what is wrong with it."""
    complaints: list[Complaint] = []
    if asked.container:
        return asked.said("cpus")[0] or 1, Hardware(), tuple(_of_container(asked))
    cpus, topology = _cpus(asked, complaints)
    smbios = asked.said("smbios")[0]
    made = Hardware(
        firmware=asked.said("firmware")[0],
        tpm=bool(asked.said("tpm")[0]),
        cpu=_cpu(asked, complaints),
        topology=topology,
        board=asked.said("board")[0],
        iommu=bool(asked.said("iommu")[0]),
        watchdog=bool(asked.said("watchdog")[0]),
        display=bool(asked.said("display")[0]),
        smbios=_smbios(smbios) if isinstance(smbios, Section) else None,
    )
    made = _fitting(asked, made, complaints)
    return cpus, made, tuple(complaints)


def _fitting(asked: Asked, made: Hardware, complaints: list[Complaint]) -> Hardware:
    """Firmware and board that go together, and with the image. What `defaults` say is passed over where they do not."""
    if asked.image.install is not None:
        made = _as_installed(asked, made, asked.image.install.firmware, complaints)
    if asked.by_pve and made.uefi and asked.image.own:
        _, node, key = asked.said("firmware")
        if asked.own("firmware") and node is not None:
            what = f"on a Proxmox VE {asked.image.base} starts by BIOS: nestlab makes its boot disk for that"
            hint = "Leave `firmware` out, or take a disk of yours that starts by UEFI."
            complaints.append((node, key, what, hint))
        made = replace(made, firmware=None)
    if made.board == "pc" and made.needs_q35:
        _, node, key = asked.said("board")
        if asked.own("board") and node is not None:
            what = f"{'an IOMMU' if made.iommu else 'Secure Boot'} needs the board q35"
            complaints.append((node, key, what, "Say `board: q35`, or leave it out."))
        made = replace(made, board=None)
    return made


def _as_installed(asked: Asked, made: Hardware, firmware: Firmware | None, complaints: list[Complaint]) -> Hardware:
    """The firmware that the image was installed under: its boot loader is of one kind."""
    if made.firmware is None or made.uefi == (firmware in ("uefi", "secure")):
        return replace(made, firmware=made.firmware or firmware)
    _, node, key = asked.said("firmware")
    if asked.own("firmware") and node is not None:
        what = f"its image was installed under {firmware or 'bios'}, and does not start under {made.firmware}"
        complaints.append((node, key, what, "Leave it out, or say it in `install` of the image as well."))
    return replace(made, firmware=firmware)


def memory_for(asked: Asked, made: Hardware, memory: int) -> tuple[int, tuple[Complaint, ...]]:
    """The memory of a machine, which UEFI needs some of to start one of nestlab's kernels."""
    if not made.uefi or not asked.image.own or memory >= UEFI_MEMORY:
        return memory, ()
    _, node, key = asked.said("memory")
    if not asked.own("memory") or node is None:
        return UEFI_MEMORY, ()
    least = format_size(UEFI_MEMORY)
    what = f"{format_size(memory)} is too little for UEFI to start the kernel of {asked.image.base}"
    return memory, ((node, key, what, f"Give it at least {least}, or leave it out."),)


def of_cards(links: tuple[Link, ...], image: Image, uses: list[Use]) -> Iterator[Complaint]:
    """Cards that one of nestlab's images has no driver for. `uses`: where the links are said."""
    if not image.own or image.kernel not in (None, "cloud"):
        return
    for link in links:
        if link.card in _NOT_IN_CLOUD:
            place = next((use.place("card") for use in uses if use.link is link), None)
            if place is None:  # its segment is a mistake, told already
                continue
            node, key = place
            what = f"the kernel of {image.base} has no driver for {link.card}"
            hint = f"Say `image: {{from: {image.base}, kernel: generic}}`, or take `virtio` or `vmxnet3`."
            yield node, key, what, hint


def image_for(asked: Asked, links: tuple[Link, ...], made: Hardware) -> Image:
    """One of nestlab's images, which loads the drivers of a machine's cards too. On a Proxmox VE the words for its
    kernel are on its boot disk."""
    if not asked.image.own:
        return asked.image
    drivers = {driver for link in links if (driver := _DRIVERS.get(link.card))}
    words = IOMMU_WORDS if made.iommu and asked.by_pve else ()
    return replace(asked.image, drivers=tuple(sorted(drivers)), words=words)


_DRIVERS = {"e1000e": "e1000e", "vmxnet3": "vmxnet3", "rtl8139": "8139cp"}
"""By card, the kernel's module; every image loads that of virtio."""

_NOT_IN_CLOUD = ("e1000e", "rtl8139")
"""Cards that Debian's kernel for virtual machines has no driver for."""


def _of_container(asked: Asked) -> Iterator[Complaint]:
    for name in KEYS:
        if asked.own(name) and asked.section.values.get(name):
            what = f"`{name}` means nothing here: a container has no hardware of its own"
            yield asked.section.keys[name], f"{asked.section.key}.{name}", what, "Leave it out."


def _cpus(asked: Asked, complaints: list[Complaint]) -> tuple[int, Topology | None]:
    """What the machine itself says counts before what `defaults` say; in one place both must agree."""
    cpus, at, where = asked.said("cpus")
    if at is not None and (cpus or 1) > CPU_LIMIT and not asked.by_pve:
        complaints.append((at, where, f"a machine has at most {CPU_LIMIT} CPUs here", "Give it fewer."))
    given, node, key = asked.said("topology")
    if not isinstance(given, Section) or node is None:
        return cpus or 1, None
    topology = Topology(**given.values)
    if topology.cpus == (cpus or topology.cpus):
        cpus = topology.cpus
    elif asked.own("topology") == asked.own("cpus"):
        parts = f"{topology.sockets} x {topology.cores} x {topology.threads}"
        what = f"{parts} are {topology.cpus} CPUs, and `cpus` says {cpus}"
        complaints.append((node, key, what, f"Leave `cpus` out, or say `cpus: {topology.cpus}`."))
    elif asked.own("cpus"):
        return cpus, None
    most = _MOST_CPUS if asked.by_pve else CPU_LIMIT
    if topology.cpus > most:
        what = f"{topology.cpus} CPUs are more than any machine has"
        complaints.append((node, key, what, f"At most {most}."))
    if topology.threads > 1 and asked.by_pve:
        what = "Proxmox VE gives a machine cores of one thread"
        complaints.append((node, key, what, "Leave `threads` out, and say twice the cores."))
    return topology.cpus, topology


_MOST_CPUS = 512


def _cpu(asked: Asked, complaints: list[Complaint]) -> str | None:
    cpu, node, key = asked.said("cpu")
    if cpu is None or node is None:
        return None
    model = model_of(cpu)
    wrong: tuple[str, str] | None = None
    if not cpu_models.known(model):
        wrong = f"QEMU has no CPU model `{model}`", meant(model, sorted(cpu_models.MODELS)) or "See `qemu -cpu help`."
    elif asked.kind is not None and not nests(cpu):
        if not asked.own("cpu"):
            return None
        wrong = _hidden(cpu)
    elif asked.kind is not None and asked.said("accel")[0] == "tcg" and not emulates(cpu):
        what = f"emulated, {model} has no vmx: of both, QEMU emulates AMD's svm only"
        wrong = what, "Say `cpu: EPYC,+svm`, or leave `cpu` out."
    elif asked.by_pve:
        try:
            cpu_models.on_pve(cpu)
        except ValueError as error:
            wrong = str(error), "Leave it out, or choose another model."
    if wrong is not None:
        complaints.append((node, key, *wrong))
    return str(cpu)


def _hidden(cpu: str) -> tuple[str, str]:
    """Why a hypervisor cannot have it, and what to do."""
    flags = flags_of(cpu)
    off = next((flag for flag in ("vmx", "svm") if flags.get(flag) == "off"), None)
    if off is not None:
        return f"it hides {off}, without which KVM does not work inside the machine", f"Leave `-{off}` out."
    model = model_of(cpu)
    flag = "svm" if model.startswith(("EPYC", "Opteron", "Dhyana", "phenom", "athlon")) else "vmx"
    what = f"{model} has no {flag} unless that is said, and without it KVM does not work inside the machine"
    return what, f'Say `cpu: "{cpu},+{flag}"`, or `cpu: host`.'


def _smbios(section: Section) -> Smbios | None:
    said = dict(section.values)
    if "uuid" in said:
        said["uuid"] = said["uuid"].lower()
    return Smbios(**said) if said else None
