"""The hardware of a machine beside its CPUs, memory, disk and cards: what a lab file may choose. Pure.

Words are QEMU's, which Proxmox VE shares. What is None, or false, is nestlab's choice.
"""

from __future__ import annotations

from typing import Literal

from nestlab.base.frozen import frozen

Board = Literal["q35", "pc"]
Firmware = Literal["bios", "uefi", "secure"]
Card = Literal["virtio", "e1000e", "vmxnet3", "rtl8139"]

CARDS: tuple[Card, ...] = ("virtio", "e1000e", "vmxnet3", "rtl8139")

UEFI_MEMORY = 256 << 20
"""Bytes with which UEFI starts one of nestlab's kernels: with 128M the kernel finds no room to unpack itself."""

IOMMU_WORDS = ("intel_iommu=on", "iommu=pt")
"""What a kernel is told to use a virtual IOMMU (Linux, kernel-parameters.txt)."""

HOST_MODELS = frozenset({"host", "max"})
"""CPUs that have all that the host, or the emulation, has."""

CPU_LIMIT = 255
"""The most CPUs of one machine: more need an x2APIC with interrupt remapping, which no machine here is given."""


@frozen
class Topology:
    """How the CPUs of a machine are arranged: their product is their number."""

    sockets: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def cpus(self) -> int:
        return self.sockets * self.cores * self.threads


@frozen
class Smbios:
    """What the firmware tells of the machine (SMBIOS type 1)."""

    serial: str | None = None
    uuid: str | None = None
    product: str | None = None


@frozen
class Hardware:
    """The hardware of a machine. `firmware`: None is a BIOS, `secure` UEFI with Secure Boot on. `tpm`: one of version
    2.0, whose state stays with the machine. `cpu`: a model with flags, as QEMU's -cpu takes it. `iommu`: a virtual
    IOMMU, behind which devices can be handed on. `watchdog`: an i6300esb that resets. `display`: a VGA, though nothing
    shows it."""

    firmware: Firmware | None = None
    tpm: bool = False
    cpu: str | None = None
    topology: Topology | None = None
    board: Board | None = None
    iommu: bool = False
    watchdog: bool = False
    display: bool = False
    smbios: Smbios | None = None

    @property
    def uefi(self) -> bool:
        return self.firmware in ("uefi", "secure")

    @property
    def needs_q35(self) -> bool:
        """Secure Boot keeps its variables in system management mode, and a virtual IOMMU is for PCI Express."""
        return self.iommu or self.firmware == "secure"


def model_of(cpu: str) -> str:
    """`Haswell-noTSX` of `Haswell-noTSX,+invtsc`."""
    return cpu.partition(",")[0]


def flags_of(cpu: str) -> dict[str, str]:
    """The properties that a CPU is given, by name: `{"invtsc": "on", "vendor": "GenuineIntel"}`. A later one wins."""
    found = {}
    for word in cpu.split(",")[1:]:
        name, is_, value = word.partition("=")
        if is_:
            found[name] = value
        else:
            found[name.lstrip("+-")] = "off" if name.startswith("-") else "on"
    return found


def emulates(cpu: str) -> bool:
    """Whether a hypervisor of that CPU can run machines where it is emulated itself: QEMU emulates svm, and no vmx."""
    flags = flags_of(cpu)
    return flags.get("svm") == "on" or (model_of(cpu) in HOST_MODELS and flags.get("svm") != "off")


def nests(cpu: str) -> bool:
    """Whether a CPU has vmx or svm where its host can give it. Other models than these lack both under KVM: QEMU
    switches svm off, and no model of Intel's has vmx (target/i386/kvm/kvm-cpu.c, cpu.c)."""
    flags = flags_of(cpu)
    said = [flags[flag] for flag in ("vmx", "svm") if flag in flags]
    return "on" in said or (model_of(cpu) in HOST_MODELS and "off" not in said)
