"""What a log shows of the level below, and what is to be done there. Pure.

A machine without vmx or svm is mended from below: by its own firmware if it is real, by the hypervisor it runs on if it
is not, and by the provider's own switch if that is a cloud, whose tenant can do nothing else.
"""

from __future__ import annotations

import re

from nestlab.base.frozen import frozen
from nestlab.explain.clouds import Way, by_log


@frozen
class Below:
    """The level below: `name` for people ("" if the log does not show it), and the way to mend it there."""

    name: str
    way: Way

    def data(self) -> dict[str, object]:
        """As JSON data."""
        return {"name": self.name, "do": self.way.do, "commands": list(self.way.commands)}


@frozen
class _Shown:
    """A hypervisor by the words with which a log of its guest shows it, in small letters."""

    name: str
    words: tuple[str, ...]
    way: Way


_PVE = ("qm set VMID --cpu host", "qm shutdown VMID && qm start VMID")
_LIBVIRT = ("virt-xml NAME --edit --cpu host-passthrough", "virsh shutdown NAME && virsh start NAME")

_ARM = Below(
    "ARM",
    Way(
        "On ARM there is no vmx or svm. Guests of this machine need its kernel to start in EL2, which real hardware "
        "does and a virtual machine only if it is given EL2: a CPU with FEAT_NV2, a host with Linux 6.16 or newer "
        "booted with kvm-arm.mode=nested, and a guest with EL2 (QEMU: -machine virt,virtualization=on); on a Mac an M3 "
        "or newer with macOS 15; in clouds bare-metal types only. /dev/kvm there runs ARM guests, never x86."
    ),
)
_NONE = Below(
    "",
    Way(
        "On real hardware switch VT-x or SVM on in the firmware setup. In a virtual machine there is no such setup: "
        "the outer host must give its CPU vmx or svm: Proxmox VE `qm set VMID --cpu host`, libvirt host-passthrough, "
        "VMware vhv.enable, Hyper-V ExposeVirtualizationExtensions, VirtualBox --nested-hw-virt; then stop and start "
        "it. In a cloud the type or an option of the machine decides. `nestlab doctor` in it names which."
    ),
)
_SHOWN = (
    _Shown(
        "WSL 2",
        ("-microsoft-standard", "wsl2 #", "\nwsl: ", "wsl.exe"),
        Way(
            "WSL 2 nests on Windows 11 only, where nestedVirtualization under [wsl2] in %UserProfile%\\.wslconfig is "
            "on by default: remove a line that sets it to false, then restart WSL. On Windows 10 nothing switches it "
            "on. If Windows is itself a virtual machine, its host must give it vmx or svm first.",
            ("wsl --version", "wsl --shutdown"),
        ),
    ),
    _Shown(
        "Hyper-V",
        (
            "hypervisor detected: microsoft hyper-v",
            "dmi: microsoft corporation virtual machine",
            "detect-virt\nmicrosoft",
        ),
        Way(
            "On the Windows host (Intel: Windows 10, Server 2016 or newer; AMD: Windows 11, Server 2022 or newer), "
            "with this machine off and without dynamic memory, in an elevated PowerShell:",
            (
                "Stop-VM -Name NAME",
                "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
                "Set-VMMemory -VMName NAME -DynamicMemoryEnabled $false",
                "Start-VM -Name NAME",
            ),
        ),
    ),
    _Shown(
        "VMware",
        ("hypervisor detected: vmware", "vmware virtual platform", "vmware20,1", "vmware7,1", "detect-virt\nvmware"),
        Way(
            "On its host, with this machine off: tick `Expose hardware assisted virtualization to the guest OS` "
            "(ESXi) or `Virtualize Intel VT-x/EPT or AMD-V/RVI` (Workstation, Fusion); in its .vmx that is this line:",
            ('vhv.enable = "TRUE"',),
        ),
    ),
    _Shown(
        "VirtualBox",
        ("innotek gmbh", "detect-virt\noracle"),
        Way("On its host, with this machine off:", ("VBoxManage modifyvm NAME --nested-hw-virt on",)),
    ),
    _Shown(
        "Xen",
        ("hypervisor detected: xen", "xen hvm domu", "detect-virt\nxen"),
        Way(
            "On the outer Xen host, switch nested HVM on for this machine: the first line in xl's configuration, the "
            "second on XCP-ng 8.3. It is experimental there; KVM in a Xen guest is not reliable.",
            ("nestedhvm = 1", "xe vm-param-set uuid=UUID platform:nested-virt=true"),
        ),
    ),
    _Shown(
        "bhyve",
        ("freebsd bhyve", "bhyve, bios", "detect-virt\nbhyve"),
        Way("bhyve gives its guests neither VMX nor SVM, and has no switch for it: use another machine."),
    ),
    _Shown(
        "Parallels",
        ("parallels virtual platform", "detect-virt\nparallels", "prlctl "),
        Way("On the Mac (Intel only), with this machine off:", ("prlctl set NAME --nested-virt on",)),
    ),
    _Shown(
        "Proxmox VE",
        ("+pve",),
        Way("On the outer node (VMID is this machine's number there):", _PVE),
    ),
    _Shown(
        "KVM",
        ("hypervisor detected: kvm", "qemu standard pc", "booting paravirtualized kernel on kvm", "detect-virt\nkvm"),
        Way(
            "On its host, see that nesting is on (`nestlab doctor` there), then give this machine the host's CPU, and "
            "stop and start it: the first two commands where Proxmox VE runs it, the next two for libvirt, `-cpu "
            "host` for plain QEMU.",
            (*_PVE, *_LIBVIRT),
        ),
    ),
)
_ARMS = re.compile(rb"qemu-system-aarch64|\b(?:aarch64|arm64|armv8)\b|kvm-arm|\bkvm \[1\]: |\bhyp mode\b")
_X86 = re.compile(rb"qemu-system-x86_64|\bx86_64\b|\bvmx\b|\bsvm\b|kvm_intel|kvm_amd|vt-x|amd-v\b")


def level_below(lowered: bytes) -> Below:
    """Who is to mend a machine without virtualization, by its log in small letters: a cloud before a hypervisor."""
    if _ARMS.search(lowered) and not _X86.search(lowered):
        return _ARM
    cloud = by_log(lowered)
    if cloud is not None:
        return Below(cloud.name, cloud.below())
    for shown in _SHOWN:
        if any(word.encode() in lowered for word in shown.words):
            return Below(shown.name, shown.way)
    return _NONE
