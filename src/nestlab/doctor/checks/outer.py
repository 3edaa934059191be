"""How each outer hypervisor exposes vmx or svm to a machine: data with sources. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nestlab.hosts.facts import Facts


@dataclass(frozen=True)
class Outer:
    """`name` for people; `do`: what to do on the outer host, a sentence; `commands`: what to type there."""

    name: str
    do: str
    commands: tuple[str, ...] = ()


# pve-docs qm.adoc, "CPU Type"; a reboot from inside keeps the old QEMU, so stop and start.
PVE = Outer(
    "Proxmox VE",
    "On the outer Proxmox VE host, give this machine the host's CPU and start it anew (VMID is its number there).",
    ("qm set VMID --cpu host", "qm shutdown VMID && qm start VMID"),
)
LIBVIRT = Outer(
    "libvirt",
    "On the outer libvirt host, give this machine the host's CPU and start it anew (NAME as in `virsh list`).",
    ("virt-xml NAME --edit --cpu host-passthrough", "virsh shutdown NAME && virsh start NAME"),
)
KVM = Outer(
    "KVM",
    "On the outer host, check nesting itself (`nestlab doctor` there), then give this machine the host's CPU and start"
    " it anew: the first two commands where Proxmox VE runs it, the next two for libvirt, `-cpu host` for plain QEMU.",
    (*PVE.commands, *LIBVIRT.commands),
)
OPENSTACK = Outer(
    "OpenStack",
    "On the compute node, set the CPU mode in nova.conf and restart nova-compute; then stop and start this instance.",
    ("crudini --set /etc/nova/nova.conf libvirt cpu_mode host-passthrough", "systemctl restart nova-compute"),
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
    "On the outer Windows host, in an elevated PowerShell, with this machine switched off (dynamic memory off, too).",
    (
        "Stop-VM -Name NAME",
        "Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true",
        "Set-VMMemory -VMName NAME -DynamicMemoryEnabled $false",
        "Start-VM -Name NAME",
    ),
)
AZURE = Outer(
    "Azure",
    "Move this machine to a size that nests (Dv3, Ev3 and later general-purpose sizes) with security type Standard:"
    " Trusted Launch and confidential machines may not nest.",
    ("az vm resize --resource-group GROUP --name NAME --size Standard_D4s_v5",),
)

# Names as systemd-detect-virt(1) gives them.
OUTERS: dict[str, Outer] = {
    "kvm": KVM,
    "qemu": Outer(
        "QEMU without KVM",
        "Start the outer QEMU with a CPU that emulates SVM, or on a host with KVM with `-cpu host`.",
        ("qemu-system-x86_64 -cpu max …",),
    ),
    "vmware": Outer(
        "VMware",
        "On the outer host, with this machine switched off, tick `Expose hardware assisted virtualization to the guest"
        " OS` (ESXi) or `Virtualize Intel VT-x/EPT or AMD-V/RVI` (Workstation, Fusion); it is this line of the .vmx.",
        ('vhv.enable = "TRUE"', "govc vm.change -vm NAME -nested-hv-enabled=true"),
    ),
    "microsoft": HYPERV,
    "oracle": Outer(
        "VirtualBox",
        "On the outer host, with this machine switched off.",
        ("VBoxManage modifyvm NAME --nested-hw-virt on",),
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
    "amazon": Outer(
        "Amazon EC2",
        "Launch it anew: a bare-metal type, or an Intel type of the generations that nest (c8i, m8i, r8i and their"
        " kin) with the CPU option for it; the option is set at launch.",
        ("aws ec2 run-instances --instance-type m8i.xlarge --cpu-options NestedVirtualization=enabled …",),
    ),
    "google": Outer(
        "Google Compute Engine",
        "Use an Intel type (Haswell or later; not E2, AMD or Arm) and switch nesting on: for a new machine the first"
        " command; for this one, export, set `advancedMachineFeatures.enableNestedVirtualization: true`, update.",
        (
            'gcloud compute instances create NAME --enable-nested-virtualization --min-cpu-platform="Intel Haswell"',
            "gcloud compute instances export NAME --destination=NAME.yaml",
            "gcloud compute instances update-from-file NAME --source=NAME.yaml"
            " --most-disruptive-allowed-action=RESTART",
        ),
    ),
    "apple": Outer("Apple's Virtualization framework", "It nests only ARM guests: use another machine for x86-64."),
}

OTHER = Outer(
    "another hypervisor",
    "Ask who runs the outer host to expose hardware virtualization to this machine, or use a bare-metal one.",
)

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure machine (cloud-init, DataSourceAzure.py)."""


def outer(facts: Facts, machine: str) -> Outer:
    """Who runs this machine, as exactly as its DMI tells."""
    dmi = " ".join(facts.dmi.values())
    if AZURE_TAG in dmi:
        return AZURE
    if "OpenStack" in dmi:
        return OPENSTACK
    if "KubeVirt" in dmi:
        return KUBEVIRT
    if machine in ("kvm", "qemu") and ("Proxmox" in dmi or "pve" in facts.dmi.get("product_version", "").lower()):
        return PVE
    if machine == "kvm" and "Red Hat" in dmi:
        return LIBVIRT
    return OUTERS.get(machine, OTHER)
