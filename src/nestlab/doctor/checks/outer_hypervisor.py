"""The owner of the level below, and the way to have it give a machine's CPU virtualization: data with sources. Pure.

A provider's machines are its tenants' only in part: what can be done there is `explain.clouds`' to say. Everything here
is for hosts that somebody owns who may read this.
"""

from __future__ import annotations

from nestlab.base.frozen import frozen
from nestlab.explain import clouds
from nestlab.hosts.facts import Facts


@frozen
class Advice:
    """`do`: what to do, sentences; `commands`: what to type for it."""

    do: str
    commands: tuple[str, ...] = ()


NO_IOMMU = Advice("If you want that, see whether the outer hypervisor can give this machine a virtual IOMMU; few can.")
RENTED_IOMMU = Advice("If you want that, take a bare-metal machine: providers lend no IOMMU to virtual ones.")


@frozen
class Outer:
    """`name` for people; `do`: what to do on the outer host, sentences; `commands`: what to type there; `iommu`: how it
    lends a virtual IOMMU; `open`: how it is told not to encrypt this machine's memory; `rented`: it is a provider's,
    and `do` is for its tenant."""

    name: str
    do: str
    commands: tuple[str, ...] = ()
    iommu: Advice = NO_IOMMU
    open: Advice = Advice("On the outer host, switch memory encryption off for this machine, then stop and start it.")
    rented: bool = False


_QEMU_IOMMU = "-machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on"

# pve-docs qm.adoc, "CPU Type", "Machine Type"; a reboot from inside keeps the old QEMU, so stop and start.
PVE = Outer(
    "Proxmox VE",
    "On the outer Proxmox VE host, give this machine the host's CPU, then stop and start it (VMID: its number there).",
    ("qm set VMID --cpu host", "qm shutdown VMID && qm start VMID"),
    Advice(
        "If you want that: on the outer Proxmox VE give this machine a virtual IOMMU, and boot with intel_iommu=on.",
        ("qm set VMID --machine q35,viommu=intel", "qm shutdown VMID && qm start VMID"),
    ),
    Advice(
        "On the outer Proxmox VE host, switch memory encryption off for this machine, then stop and start it.",
        ("qm set VMID --delete amd_sev", "qm shutdown VMID && qm start VMID"),
    ),
)
# libvirt: formatdomain, "CPU model and topology", "IOMMU devices", "Launch Security".
LIBVIRT = Outer(
    "libvirt",
    "On the outer libvirt host, give this machine the host's CPU, then stop and start it (NAME as in `virsh list`).",
    ("virt-xml NAME --edit --cpu host-passthrough", "virsh shutdown NAME && virsh start NAME"),
    Advice(
        "If you want that: on the outer libvirt host give this machine (of type q35) a virtual IOMMU, and boot with"
        " intel_iommu=on.",
        (
            "virt-xml NAME --add-device --iommu model=intel,driver.intremap=on,driver.caching_mode=on",
            "virt-xml NAME --edit --features ioapic.driver=qemu",
        ),
    ),
    Advice(
        "On the outer libvirt host, remove <launchSecurity> from this machine, then stop and start it.",
        ("virsh edit NAME",),
    ),
)
KVM = Outer(
    "KVM",
    "If the outer host is yours: check nesting itself there (`nestlab doctor`), give this machine the host's CPU, then"
    " stop and start it: the first two commands where Proxmox VE runs it, the next two for libvirt, `-cpu host` for"
    " plain QEMU. If it is a provider's, only its support can say whether it lends that.",
    (*PVE.commands, *LIBVIRT.commands),
    Advice(
        "If you want that, and the outer host is yours: give this machine a virtual IOMMU there (this for plain QEMU;"
        " `viommu=intel` on Proxmox VE, <iommu model='intel'> in libvirt), and boot with intel_iommu=on.",
        (f"qemu-system-x86_64 {_QEMU_IOMMU} …",),
    ),
)
KUBEVIRT = Outer(
    "KubeVirt",
    "In the outer cluster, set `spec.template.spec.domain.cpu.model: host-passthrough` and restart the machine.",
    (
        "kubectl patch vm NAME --type merge -p"
        ' \'{"spec":{"template":{"spec":{"domain":{"cpu":{"model":"host-passthrough"}}}}}}\'',
        "virtctl restart NAME",
    ),
)
HYPERV = Outer(
    "Hyper-V",
    "On the outer Windows host, in an elevated PowerShell, with this machine switched off (dynamic memory off, too)."
    " For AMD it must be Windows 11 or Server 2022 or later, for Intel Windows 10 or Server 2016.",
    (
        "Stop-VM -Name NAME",
        "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
        "Set-VMMemory -VMName NAME -DynamicMemoryEnabled $false",
        "Start-VM -Name NAME",
    ),
)
# LXD and Incus give their virtual machines the host's CPU unless told otherwise (raw.qemu).
INCUS = Outer(
    "Incus or LXD",
    "Its virtual machines have the host's CPU, so nesting is off in the host's kernel: ask the doctor there. Where"
    " `raw.qemu` of this machine names another CPU, remove that.",
    ("nestlab doctor", "incus config get NAME raw.qemu"),
)
# oVirt: Administration Guide, "Hooks": nested virtualization; the host's cluster must pass its CPU through.
OVIRT = Outer(
    "oVirt",
    "In oVirt, switch nesting on for the host it runs on (host, Kernel, Nested Virtualization; then reinstall it), tick"
    " `Pass-Through Host CPU` for this machine, then stop and start it.",
)
# Nutanix: AHV Administration Guide, "Enabling nested virtualization".
NUTANIX = Outer(
    "Nutanix AHV",
    "On a controller VM, with this machine switched off; Nutanix supports it for some uses only.",
    ("acli vm.update NAME cpu_passthrough=true", "acli vm.on NAME"),
)

# Names as systemd-detect-virt(1) gives them.
OUTERS: dict[str, Outer] = {
    "kvm": KVM,
    "qemu": Outer(
        "QEMU without KVM",
        "Start the outer QEMU with a CPU that emulates SVM, or on a host with KVM with `-cpu host`.",
        ("qemu-system-x86_64 -cpu max …",),
        KVM.iommu,
    ),
    "vmware": Outer(
        "VMware",
        "On the outer host, with this machine switched off, tick `Expose hardware assisted virtualization to the guest"
        " OS` (ESXi) or `Virtualize Intel VT-x/EPT or AMD-V/RVI` (Workstation, Fusion); it is this line of the .vmx."
        " Workstation on Windows cannot while Hyper-V, VBS or memory integrity is on there.",
        ('vhv.enable = "TRUE"', "govc vm.change -vm NAME -nested-hv-enabled=true"),
        Advice(
            "If you want that: with this machine switched off, tick `Expose IOMMU to the guest OS` (this line of the"
            " .vmx), and boot with intel_iommu=on.",
            ('vvtd.enable = "TRUE"',),
        ),
    ),
    "microsoft": HYPERV,
    "oracle": Outer(
        "VirtualBox",
        "On the outer host, with this machine switched off. On Windows it cannot while Hyper-V, VBS or memory integrity"
        " is on there.",
        ("VBoxManage modifyvm NAME --nested-hw-virt on",),
        Advice(
            "If you want that: on the outer host, with this machine switched off, give it a virtual IOMMU.",
            ("VBoxManage modifyvm NAME --chipset ich9 --iommu automatic",),
        ),
    ),
    "xen": Outer(
        "Xen",
        "On the outer Xen host, switch on nested HVM for this machine (the first line for xl's configuration, the"
        " second for XCP-ng 8.3; before, the key is exp-nested-hvm); a Linux that is itself Xen's dom0"
        " needs to boot without Xen.",
        ("nestedhvm = 1", "xe vm-param-set uuid=UUID platform:nested-virt=true"),
    ),
    "parallels": Outer(
        "Parallels",
        "On the outer Mac, with this machine switched off (Intel Macs).",
        ("prlctl set NAME --nested-virt on",),
    ),
    "bhyve": Outer("bhyve", "bhyve gives its guests neither VMX nor SVM: use another machine."),
    "apple": Outer("Apple's Virtualization framework", "It nests only ARM guests: use another machine for x86-64."),
}

OTHER = Outer(
    "another hypervisor",
    "Ask who runs the outer host to expose hardware virtualization to this machine, or use a bare-metal one.",
)

_ADVICE_BY_DMI = (
    ("KubeVirt", KUBEVIRT),
    ("LinuxContainers", INCUS),
    ("Incus", INCUS),
    ("Canonical", INCUS),
    ("oVirt", OVIRT),
    ("RHEV", OVIRT),
    ("Nutanix", NUTANIX),
    ("Proxmox", PVE),
    ("Red Hat", LIBVIRT),
)
"""A word of DMI -> who says so, of machines on KVM; the first counts."""


def outer(facts: Facts, machine: str) -> Outer:
    """The outer hypervisor, as exactly as DMI names it."""
    if cloud := clouds.by_dmi(facts.dmi.values(), machine):
        way = cloud.below(facts.dmi.get("product_name", ""))
        if cloud is clouds.GCE and facts.family == "amd":
            way = clouds.Way(f"This is an AMD machine. {cloud.types} {cloud.move.do}", cloud.move.commands)
        anew = Advice("Memory encryption is chosen when a machine is created there: create another without it.")
        return Outer(cloud.name, way.do, way.commands, RENTED_IOMMU, anew, rented=True)
    if machine in ("kvm", "qemu"):
        told = "\n".join(facts.dmi.values())
        found = next((each for word, each in _ADVICE_BY_DMI if word in told), None)
        if found is None and "pve" in facts.dmi.get("product_version", "").lower():
            found = PVE
        if found is not None and (machine == "kvm" or found is PVE):
            return found
    return OUTERS.get(machine, OTHER)
