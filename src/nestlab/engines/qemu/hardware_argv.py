"""What of QEMU's command line the hardware of a machine decides (`lab.hardware`). Pure; golden files as for `argv`."""

from __future__ import annotations

import hashlib
import shlex
import uuid
from collections.abc import Sequence

from nestlab.base.frozen import frozen
from nestlab.engines.qemu.accel import Accelerator
from nestlab.home.paths import MachinePaths
from nestlab.lab.blueprint import Nic
from nestlab.lab.hardware import IOMMU_WORDS, Card, Firmware, Hardware, flags_of, model_of
from nestlab.lab.model import Machine, plain

NESTING = "EPYC,+svm,+npt"
"""The CPU of an emulated hypervisor: QEMU emulates AMD's svm, and no vmx."""

DEVICES: dict[Card, str] = {"virtio": "virtio-net-pci", "e1000e": "e1000e", "vmxnet3": "vmxnet3", "rtl8139": "rtl8139"}


def cpu_of(machine: Machine, accel: Accelerator) -> str:
    """QEMU's -cpu. There is no `host` where a machine is emulated: it is then all that is emulated, and what the lab
    file says beside it."""
    said = machine.hardware.cpu
    if accel == "kvm":
        return said or "host"
    emulated = NESTING if machine.hypervisor else "max"
    if said is None:
        return emulated
    if model_of(said) != "host":
        nested = machine.hypervisor and "npt" not in flags_of(said) and "svm" in flags_of(said)
        return f"{said},+npt" if nested else said
    words = [word for word in said.split(",")[1:] if word.strip("+-").partition("=")[0] not in ("vmx", "svm")]
    return ",".join([emulated, *words])


@frozen
class Uefi:
    """OVMF's files on the host that runs QEMU: its code, and what a machine's own variables are copied from once."""

    firmware: Firmware
    code: str
    variables: str


def board_words(hardware: Hardware, accel: Accelerator) -> list[str]:
    """What -machine is told beside the board. Interrupts are remapped by QEMU: it must have the I/O APIC then."""
    words = ["smm=on"] if hardware.firmware == "secure" else []
    return words + (["kernel-irqchip=split"] if hardware.iommu and accel == "kvm" else [])


def first_devices(hardware: Hardware) -> list[str]:
    """The IOMMU is before all that is to be behind it. Intel's, whatever the CPU: Linux looks for its table alone, and
    Debian's kernel for virtual machines has no driver of AMD's. Caching mode tells QEMU of mappings that are new, which
    handing a device on depends on."""
    return ["-device", "intel-iommu,intremap=on,caching-mode=on"] if hardware.iommu else []


def emulation_words(accel: Accelerator) -> tuple[str, ...]:
    """What the kernel of an image of nestlab's is told where it is emulated. It gives its timer ten ticks of real time
    to interrupt; on a busy host it seems not to, and the kernel panics ("IO-APIC + timer doesn't work"). Under KVM
    Linux does not look (arch/x86/kernel/kvm.c)."""
    return () if accel == "kvm" else ("no_timer_check",)


def iommu_words(hardware: Hardware) -> tuple[str, ...]:
    """What the kernel of an image of nestlab's is told of it."""
    return IOMMU_WORDS if hardware.iommu else ()


def firmware(uefi: Uefi | None, paths: MachinePaths) -> list[str]:
    """UEFI, with the machine's own variables."""
    if uefi is None:
        return []
    options = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={escaped(uefi.code)}"]
    options += ["-drive", f"if=pflash,unit=1,format=raw,file={escaped(paths.variables(uefi.firmware))}"]
    # Only the firmware itself writes its variables.
    return options + (["-global", "driver=cfi.pflash01,property=secure,value=on"] if uefi.firmware == "secure" else [])


def tpm(paths: MachinePaths) -> list[str]:
    """A TPM that a process beside QEMU is, which ends when QEMU does."""
    chardev = ["-chardev", f"socket,id=tpm,path={escaped(paths.tpm_socket)}"]
    return [*chardev, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0"]


_BEFORE = """\
umask 077
fail() { echo "$1" >&2; exit 1; }
"""


_INITRD_MAX, _LOAD_FLAGS = 0x22C, 0x236
"""Where a bzImage says the highest address of its initramfs, and how it may be loaded (the kernel's
Documentation/arch/x86/boot.rst)."""

_TABLES = 1 << 20
"""Bytes at the end of memory that are left to a BIOS's tables; SeaBIOS needs some 200 kB of them."""


def lowered(kernel: str, paths: MachinePaths, memory: int) -> str:
    """A line of a script: copies a bzImage and says in its head that its initramfs is loaded no higher than 1 MiB below
    the end of memory (or below 2 GiB, where PCI may begin).

    QEMU leaves 160 KiB to the tables of ACPI (hw/i386/pc.c: acpi_data_size). The log of a TPM takes 64 KiB of them, the
    tables have 128: the end of the initramfs would overwrite their beginning, the DSDT. QEMU knows no option for it,
    and obeys a kernel that cannot be loaded anywhere; of an ELF kernel it asks nothing.
    """
    most = min(memory, 2 << 30) - _TABLES - 1
    words = "".join(f"\\{byte:03o}" for byte in most.to_bytes(4, "little"))
    mine = shlex.quote(paths.kernel)
    patch = f"dd of={mine} bs=1 conv=notrunc"
    head = f"printf '{words}' | {patch} seek={_INITRD_MAX} && printf '\\001' | {patch} seek={_LOAD_FLAGS}"
    return f"{{ cat {shlex.quote(kernel)} >{mine} && {head}; }} 2>/dev/null || fail 'its kernel cannot be copied'"


def before(uefi: Uefi | None, swtpm: Sequence[str], paths: MachinePaths, kernel: str = "") -> str:
    """A script that is run before QEMU in its process: the machine has its variables, and its TPM listens. "" where
    there is nothing to do. `kernel`: see `lowered`."""
    lines = [kernel] if kernel else []
    if uefi is not None:
        mine, given = shlex.quote(paths.variables(uefi.firmware)), shlex.quote(uefi.variables)
        lines.append(f"[ -s {mine} ] || {{ cat {given} >{mine}.new && mv -f {mine}.new {mine}; }} || exit 1")
    if swtpm:
        words = [*swtpm, "socket", "--tpm2", "--tpmstate", f"dir={paths.tpm},mode=0600", "--ctrl"]
        words += [f"type=unixio,path={paths.tpm_socket},mode=0600", "--pid", f"file={paths.tpm_pid}"]
        words += ["--terminate", "--daemon"]
        lines.append(f"mkdir -p {shlex.quote(paths.tpm)} && rm -f {shlex.quote(paths.tpm_socket)} || exit 1")
        lines.append(f"{shlex.join(words)} || fail 'its TPM does not start: swtpm failed'")
    return _BEFORE + "\n".join([*lines, 'exec "$@"']) if lines else ""


def escaped(path: str) -> str:
    """QEMU's option syntax doubles a comma that is meant."""
    return path.replace(",", ",,")


def smp_of(machine: Machine) -> str:
    """QEMU's -smp."""
    topology = machine.hardware.topology
    if topology is None:
        return str(machine.cpus)
    return f"{machine.cpus},sockets={topology.sockets},cores={topology.cores},threads={topology.threads}"


def card(nic: Nic, netdev: str, hardware: Hardware) -> list[str]:
    """The words of a card. Virtio alone can tell its guest how large packets may be (nestlab's images are told by their
    identity), and goes past an IOMMU unless it is told: what goes past it cannot be handed on."""
    words = [DEVICES[nic.card], f"netdev={netdev}", f"mac={nic.mac}"]
    if nic.card != "virtio":
        return words
    return [*words, f"host_mtu={nic.mtu}", *(["disable-legacy=on", "iommu_platform=on"] if hardware.iommu else [])]


def display(hardware: Hardware, vnc: str, *, by_firmware: bool) -> list[str]:
    """A machine that boots by firmware has a VGA anyway. Its VNC server is a unix socket, without a password that lets
    anybody in (`screen.admit` sets one), and costs nothing while nobody looks."""
    return ["-vga", "std", "-vnc", f"unix:{vnc},password=on"] if by_firmware or hardware.display else []


def devices(hardware: Hardware) -> list[str]:
    """The devices beside disks, cards and VGA."""
    options: list[str] = []
    if hardware.watchdog:
        options += ["-device", "i6300esb", "-action", "watchdog=reset"]
    if hardware.smbios is not None:
        words = [f"{name}={value.replace(',', ',,')}" for name, value in sorted(plain(hardware.smbios).items())]
        options += ["-smbios", ",".join(["type=1", *words])]
    return options


def generation(public_key: str) -> str:
    """The VM generation ID of a machine: a UUID that is its own, made from its public host key, and kept with that."""
    return str(uuid.UUID(bytes=hashlib.sha256(f"vmgenid {public_key}".encode()).digest()[:16], version=4))
