"""What VirtualBox, VMware, ESXi, Hyper-V, WSL, Windows and Xen say of nesting."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "virtualbox-no-virtualization",
        r"VERR_(?:VMX_NO_VMX|SVM_NO_SVM|VMX_MSR_ALL_VMX_DISABLED|VMX_MSR_VMXON_DISABLED|SVM_DISABLED)",
        "VirtualBox sees no VT-x or AMD-V: it is off in the firmware, or not given to this virtual machine.",
        "Switch it on in the firmware; for a machine of VirtualBox: `VBoxManage modifyvm NAME --nested-hw-virt on`.",
        "VirtualBox manual: Nested Virtualization",
        "VT-x is not available (VERR_VMX_NO_VMX).",
        Rank.CAUSE,
    ),
    Signature(
        "vmware-vhv",
        r"Virtualized (?P<what>Intel VT-x/EPT|AMD-V/RVI) is not supported on this platform",
        "VMware cannot give its guests {what} here: Hyper-V runs on this Windows (also for WSL2 and memory "
        "integrity), or the CPU lacks it.",
        "Switch Hyper-V, Virtual Machine Platform and memory integrity off (`bcdedit /set hypervisorlaunchtype off`) "
        "and restart Windows; on ESXi tick Expose hardware assisted virtualization.",
        "VMware: Running Nested VMs (doc-8970)",
        "Virtualized Intel VT-x/EPT is not supported on this platform.",
        Rank.CAUSE,
    ),
    Signature(
        "vmware-disabled",
        r"host supports (?P<what>Intel VT-x|AMD-V), but (?:Intel VT-x|AMD-V) is disabled",
        "{what} is off in the firmware of this machine.",
        "Switch it on there, and power off and on.",
        "VMware Workstation documentation",
        "This host supports Intel VT-x, but Intel VT-x is disabled.",
        Rank.CAUSE,
    ),
    Signature(
        "vmware-device-guard",
        r"(?:Device/)?Credential Guard are not compatible",
        "Windows runs its own hypervisor for Device or Credential Guard, next to which VMware cannot nest.",
        "Switch them off (group policy, or `bcdedit /set hypervisorlaunchtype off`) and restart.",
        "Microsoft: Configure Credential Guard",
        "VMware Workstation and Device/Credential Guard are not compatible.",
        Rank.CAUSE,
    ),
    Signature(
        "esxi-no-hv",
        r"Hardware virtualization is not a feature of the CPU, or is not enabled in the BIOS",
        "The ESXi installer sees no VT-x or AMD-V: this machine was not given it.",
        "Give it vmx or svm at the level below, and nesting on there; then stop and start it.",
        "VMware: Running Nested VMs (doc-8970); PVE wiki: Nested Virtualization",
        "HARDWARE_VIRTUALIZATION WARNING: Hardware virtualization is not a feature of the CPU, or is not enabled in "
        "the BIOS",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "esxi-no-network-adapter",
        r"No Network Adapters",
        "ESXi has no driver for this machine's network card: it knows vmxnet3 and e1000e, not virtio.",
        "`qm set VMID --net0 vmxnet3,bridge=vmbr0`, and its disk on SATA.",
        "qm.conf(5); PVE wiki: Nested Virtualization",
        "No Network Adapters: No network adapters were detected.",
        Rank.CAUSE,
    ),
    Signature(
        "esxi-cpu-mismatch",
        r"Fatal CPU mismatch",
        "ESXi stops on CPUs with two kinds of cores (performance and efficient).",
        "Add cpuUniformityHardCheckPanic=FALSE to its boot options (Shift+O), or keep the machine on one kind of "
        "cores: `qm set VMID --affinity 0-7`.",
        "williamlam.com: ESXi on CPUs with hybrid cores; qm.conf(5)",
        'Fatal CPU mismatch on feature "Hyperthreads per core"',
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-already-running",
        r"Hyper-V cannot be installed: A hypervisor is already running",
        "Windows sees that it runs in a virtual machine whose CPU has no vmx or svm.",
        "Give it one at the level below, then stop and start it; no setting of this Windows helps.",
        "Microsoft: Nested Virtualization in Hyper-V",
        "Hyper-V cannot be installed: A hypervisor is already running.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "hyperv-processor",
        r"Hyper-V cannot be installed: The processor does not have required virtualization capabilities",
        "Windows sees no VT-x or AMD-V, or not what Hyper-V needs of it (SLAT).",
        "Give the machine host, or a real vendor's model with nested-virt, and keep ept or npt on below; then stop and "
        "start it.",
        "Microsoft: Hyper-V requirements; PVE wiki: Nested Virtualization",
        "Hyper-V cannot be installed: The processor does not have required virtualization capabilities.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "wsl2-no-virtualization",
        r"ensure virtualization is enabled in the BIOS|WSL2 is not supported with your current machine configuration"
        r"|WSL2 is unable to start because virtualization is not enabled|HCS_E_HYPERV_NOT_INSTALLED|\b0x80370102\b",
        "WSL2 needs a hypervisor of its own, and this Windows has no virtualization to start one.",
        "Switch it on in the firmware, or give this virtual machine vmx or svm (CPU host); then `wsl --install "
        "--no-distribution` and restart.",
        "Microsoft: Troubleshooting WSL",
        "Please enable the Virtual Machine Platform Windows feature and ensure virtualization is enabled in the BIOS.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "windows-msr-stop",
        r"SYSTEM_THREAD_EXCEPTION_NOT_HANDLED|KMODE_EXCEPTION_NOT_HANDLED",
        "Windows 10 1803 and later stop like this on a host CPU when KVM refuses a register that they read.",
        "On the host: `echo 1 | sudo tee /sys/module/kvm/parameters/ignore_msrs`, and `options kvm ignore_msrs=1` in "
        "/etc/modprobe.d.",
        "PVE wiki: Nested Virtualization; quickemu-project/quickemu#88",
        "Stop code: SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
    ),
    Signature(
        "windows-hypervisor-error",
        r"\bHYPERVISOR_ERROR\b",
        "The Hyper-V inside of this machine stopped: it does not agree with the CPU or the enlightenments it is given.",
        "Intel: `qm set VMID --cpu 'host,flags=+hv-evmcs'`, or `--cpu host,level=30`; AMD: host without hv-evmcs. "
        "Update the host's kernel, and take a snapshot before you enable the role.",
        "QEMU documentation: system/i386/hyperv; microsoft/openvmm#3646",
        "Stop code: HYPERVISOR_ERROR",
    ),
    Signature(
        "windows-vbs",
        r"virtualization-based security\s{1,40}(?:status:\s{1,20})?running",
        "This Windows runs on a hypervisor of its own (VBS), which makes it slow in a virtual machine.",
        "If it need not nest: CPU x86-64-v3, or `bcdedit /set hypervisorlaunchtype off`. Else on Intel hv-evmcs.",
        "QEMU documentation: system/i386/hyperv; qm.conf(5)",
        "Virtualization-based security    Running",
        Rank.NOTE,
    ),
    Signature(
        "xen-hvm",
        r"HVM not supported|HVM is not (?:supported|available)|HVM not available",
        "Xen sees no VT-x or AMD-V, so only paravirtual guests run. KVM inside of a Xen guest is not supported at all.",
        "Give the machine that runs Xen the CPU host, and stop and start it; put KVM labs on KVM, not on Xen.",
        "Xen wiki: Nested Virtualization in Xen; xcp-ng/xcp#562",
        "libxl: error: HVM not supported on this host",
        Rank.CAUSE,
    ),
    Signature(
        "windows-clock-watchdog",
        r"CLOCK_WATCHDOG_TIMEOUT|SECURE_KERNEL_ERROR",
        "Windows stopped, because a virtual CPU did not answer in time: the host is overloaded, or Windows' own "
        "hypervisor (VBS, Hyper-V, WSL 2) in it does not get on with the level below.",
        "Give it fewer CPUs than the host has, with the hv- enlightenments (Intel: hv-evmcs); if it need not nest, "
        "`bcdedit /set hypervisorlaunchtype off` and memory integrity off.",
        "QEMU documentation: system/i386/hyperv",
        "Stop code: CLOCK_WATCHDOG_TIMEOUT",
    ),
)
