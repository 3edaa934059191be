"""What VirtualBox says: who owns VMX and SVM beside KVM, and faults of its own as the level below."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

ADMIN = "Linux documentation: admin-guide/kernel-parameters (kvm.enable_virt_at_load)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "virtualbox-host-switch",
        r"VERR_(?:SVM|VMX)_HOST_\w{2,12}_NOT_ENABLED|Host API has not enabled (?:SVME|VMXE)",
        "VirtualBox 7.2.10 and newer let KVM switch the CPU's virtualization on. Here kvm is loaded with "
        "enable_virt_at_load=0, as was right for older VirtualBox, so nobody does.",
        "Remove that setting: `grep -rs enable_virt_at_load /etc/modprobe.d /proc/cmdline`, delete the line, `sudo "
        "modprobe -r kvm_amd kvm_intel kvm` and load it again, or reboot. Or keep KVM unloaded while VirtualBox runs.",
        "VirtualBox/virtualbox#711, #713; void-linux/void-packages#61332; " + ADMIN,
        "VBoxManage: error: Host API has not enabled SVME bit in EFER MSR. (VERR_SVM_HOST_SVME_NOT_ENABLED)",
        Rank.CAUSE,
    ),
    Signature(
        "virtualbox-in-use",
        r"VERR_VMX_IN_VMX_ROOT_MODE|VERR_SVM_IN_USE|disable the KVM kernel extension, recompile your kernel"
        r"|(?<!Monitor mode: )(?:VMX|SVM) already in use",
        "Another hypervisor holds the CPU's virtualization, mostly KVM: since Linux 6.12 as soon as its module is "
        "loaded, not only while guests run, which VirtualBox before 7.2.10 cannot share.",
        "`VBoxManage --version`. Before 7.2.10: update it (then without enable_virt_at_load=0), or `sudo modprobe -r "
        "kvm_intel` or `kvm_amd`, or boot with kvm.enable_virt_at_load=0. From 7.2.10 on a guest of KVM or VMware runs "
        "right now: end it, as guests of both at once do not work.",
        "VirtualBox/virtualbox#81, #188, #711; " + ADMIN,
        "VT-x is being used by another hypervisor (VERR_VMX_IN_VMX_ROOT_MODE).",
        Rank.CAUSE,
    ),
    Signature(
        "virtualbox-machine-locked",
        r"is already locked (?:for a session|by a session)|VBOX_E_INVALID_OBJECT_STATE",
        "VirtualBox changes a machine's processor and hardware, nesting among them, only while it is powered off; it "
        "runs, is saved, or a process of VirtualBox still holds it.",
        "`VBoxManage showvminfo NAME | grep State`; power it off (`VBoxManage controlvm NAME acpipowerbutton`; "
        "`VBoxManage discardstate NAME` if it is saved), then set it again. If it is off: `VBoxManage startvm NAME "
        "--type emergencystop`.",
        "VirtualBox manual: VBoxManage modifyvm, startvm",
        "VBoxManage: error: The machine 'hv1' is already locked for a session (or being unlocked)",
        Rank.CAUSE,
    ),
    Signature(
        "virt-at-load-off",
        r"enable_virt_at_load\s{0,3}[=:]\s{0,3}[0Nn]\b",
        "KVM is told to take the CPU's virtualization only while guests run. VirtualBox before 7.2.10 needs that on "
        "Linux 6.12 and newer; VirtualBox from 7.2.10 on fails with it (VERR_SVM_HOST_SVME_NOT_ENABLED).",
        "`VBoxManage --version`: from 7.2.10 on remove the setting from /etc/modprobe.d and the kernel's command "
        "line, and reload kvm; before, keep it. Without VirtualBox or VMware it is not needed.",
        "VirtualBox/virtualbox#711; " + ADMIN,
        "options kvm enable_virt_at_load=0",
        Rank.NOTE,
    ),
    Signature(
        "virtualbox-driver",
        r"VERR_VM_DRIVER_NOT_(?:INSTALLED|ACCESSIBLE)|Kernel driver not installed \(rc=-1908\)"
        r"|vboxdrv kernel module is not loaded|modprobe vboxdrv failed|VERR_SUPLIB_\w{3,40}",
        "VirtualBox's kernel module is not loaded: it was not built for this kernel, or Secure Boot refuses it "
        "unsigned.",
        "Install this kernel's headers, `sudo /sbin/vboxconfig`, and read what it says; under Secure Boot sign the "
        "modules and enrol the key (`sudo mokutil --import KEY.der`).",
        "VirtualBox manual: The VirtualBox kernel modules",
        "WARNING: The vboxdrv kernel module is not loaded.",
        Rank.CAUSE,
    ),
    Signature(
        "virtualbox-nested-paging-fault",
        r"VERR_PGM_\w{0,40}IPE|pgmR0Bth\w{0,40}(?:Nested|Trap)|VERR_(?:VMX|SVM|HM|IEM|EM)_\w{0,40}(?:IPE|INVALID"
        r"|UNEXPECTED|UNKNOWN)\w{0,40}|VERR_VMX_(?:INVALID_GUEST_STATE|UNABLE_TO_START_VM)",
        "VirtualBox, as the outer hypervisor, failed in its own code for nested guests (IPE: internal processing "
        "error): it is not the fault of the guest, nor of the system inside of it.",
        "Update VirtualBox; give the inner hypervisor's machine one CPU (`VBoxManage modifyvm NAME --cpus 1`), or "
        "leave --nested-hw-virt off. For labs use another outer hypervisor (KVM, Hyper-V, VMware).",
        "VirtualBox/virtualbox#450; VirtualBox manual: Nested virtualization",
        "Power up failed: VERR_PGM_MAPPING_IPE",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "virtualbox-guru",
        r"guru meditation",
        "VirtualBox stopped the machine at a fault in its own virtualization: with a nested hypervisor inside mostly "
        "in its code for that.",
        "The code in VBox.log (`grep -n 'Guru\\|VERR_' VBox.log`) says which. Update VirtualBox, try one CPU, or take "
        "another outer hypervisor.",
        "VirtualBox manual: Troubleshooting",
        "00:01:12.401 !!         VCPU1: Guru Meditation -1607 (VERR_VMM_RING0_ASSERTION)",
        told=Sure.LIKELY,
    ),
    Signature(
        "virtualbox-nested-option",
        r"nested-hw-virt.{0,80}(?:not supported|cannot|invalid)|(?:Enabling|Cannot enable) nested (?:VT-x|AMD-V"
        r"|HW virt)",
        "VirtualBox cannot give the machine VT-x or AMD-V: nested paging is off for it, or the CPU or VirtualBox's "
        "way through Hyper-V or KVM does not allow it.",
        "With the machine off: `VBoxManage modifyvm NAME --nested-paging on --nested-hw-virt on`. While Windows runs "
        "Hyper-V: `bcdedit /set hypervisorlaunchtype off`, and restart.",
        "VirtualBox manual: Nested virtualization",
        "VBoxManage: error: --nested-hw-virt: nested virtualization is not supported by this host",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "virtualbox-on-hyperv",
        r"Snail execution mode is active|disabled because execution is through the native API"
        r"|nested.{0,60}(?:not (?:supported|available)|unavailable|disabled).{0,40}\b(?:NEM|native API)\b",
        "VirtualBox runs this machine by Windows' own hypervisor, which holds VT-x or AMD-V (Hyper-V, WSL 2, memory "
        "integrity, Credential Guard): slowly, and its guests get neither.",
        "To nest: memory integrity off, `bcdedit /set hypervisorlaunchtype off`, restart Windows (WSL 2 and Docker "
        "then do not run). Or make the outer machine in Hyper-V, which nests: `Set-VMProcessor NAME "
        "-ExposeVirtualizationExtensions $true`.",
        "VirtualBox manual: Using Hyper-V with VirtualBox, Nested virtualization",
        "00:00:02.810 NEM: NEMR3Init: Snail execution mode is active!",
        Rank.CAUSE,
    ),
    Signature(
        "virtualbox-falls-back",
        r"Attempting fall back to NEM",
        "VirtualBox has no VT-x or AMD-V of its own here and tries the way through Windows' hypervisor: something else "
        "holds them, or they are off or not there.",
        "Read on in VBox.log for `NEM:`. If that fails: `Enable-WindowsOptionalFeature -Online -FeatureName "
        "HypervisorPlatform` and a restart, or free the CPU: `bcdedit /set hypervisorlaunchtype off`. In a virtual "
        "machine its host must nest.",
        "VirtualBox manual: Using Hyper-V with VirtualBox",
        "00:00:02.318 HM: HMR3Init: Attempting fall back to NEM: VT-x is not available",
        told=Sure.POSSIBLE,
        unless=("hypervisorpresent is true", "snail execution mode", "native api"),
    ),
    Signature(
        "virtualbox-catch-up",
        r"TM: Giving up catch-up attempt at a",
        "VirtualBox's guest lost time: the host was suspended or overloaded, and its clock jumps now.",
        "Set the time in the guest (`sudo chronyc makestep`), and run fewer virtual CPUs than the host has.",
        "VirtualBox manual: Guest time synchronization",
        "00:12:44.113 TM: Giving up catch-up attempt at a 60 010 521 340 ns lag; new total: 60 010 521 340 ns",
        Rank.SYMPTOM,
    ),
    Signature(
        "virtualbox-no-virtualization",
        r"VERR_(?:VMX_NO_VMX|SVM_NO_SVM|VMX_MSR_ALL_VMX_DISABLED|VMX_MSR_VMXON_DISABLED|SVM_DISABLED)",
        "VirtualBox sees no VT-x or AMD-V: it is off in the firmware, or not given to this virtual machine.",
        "Switch it on in the firmware; for a machine of VirtualBox: `VBoxManage modifyvm NAME --nested-hw-virt on`.",
        "VirtualBox manual: Nested Virtualization",
        "VT-x is not available (VERR_VMX_NO_VMX).",
        Rank.CAUSE,
    ),
)
