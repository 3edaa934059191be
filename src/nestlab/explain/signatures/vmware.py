"""What VMware Workstation, Fusion, Player and ESXi say of nesting, as the level below and as a guest."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

ADMIN = "Linux documentation: admin-guide/kernel-parameters (kvm.enable_virt_at_load)"

TABLE: tuple[Signature, ...] = (
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
        "vmware-no-nesting",
        r"does not support nested virtuali[sz]ation on this host|Module '?\"?HV'?\"? power on failed"
        r"|Feature 'hv\.capable' was|\bhv\.capable\b.{0,60}(?:absent|0)",
        "VMware cannot give its machine VT-x or AMD-V here: on Windows its Hyper-V is running (WSL 2, memory "
        "integrity, Credential Guard), on ESXi or Linux the CPU, or the hypervisor below, does not give them.",
        "Windows: `bcdedit /set hypervisorlaunchtype off`, memory integrity off, restart. ESXi in a machine: "
        'vhv.enable = "TRUE" for that. Or untick virtualized VT-x/EPT for this machine if it need not nest.',
        "VMware: Running Nested VMs (doc-8970); Broadcom knowledge base 2146361",
        "VMware Workstation does not support nested virtualization on this host.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "vmware-hyperv",
        r"VMware (?:Workstation|Player) and Hyper-V are not compatible",
        "Windows runs Hyper-V, beside which this VMware cannot run.",
        "Update VMware (15.5.5 and newer run beside Hyper-V, without nesting), or `bcdedit /set hypervisorlaunchtype "
        "off` and restart.",
        "Broadcom knowledge base 2146361",
        "VMware Workstation and Hyper-V are not compatible. Remove the Hyper-V role from the system before running.",
        Rank.CAUSE,
    ),
    Signature(
        "vmware-monitor-panic",
        r"MONITOR PANIC|VMware \w{2,20} unrecoverable error|vcpu-\d{1,3}:VERIFY",
        "VMware's monitor failed while it ran this machine: with a hypervisor inside mostly in its own code for "
        "nesting.",
        "Update VMware and the virtual hardware version; give the inner hypervisor fewer CPUs; keep vmware.log for "
        "the report.",
        "VMware: Running Nested VMs (doc-8970)",
        "vmx| E1: PANIC: MONITOR PANIC: vcpu-0:VERIFY vmcore/vmm/intr/apic.c:1130",
        told=Sure.LIKELY,
    ),
    Signature(
        "vmware-monitor-mode",
        r"Monitor mode: (?:VMX|SVM) already in use|(?:VT-x|AMD-V) implementation is incompatible with"
        r"|Module '?\"?MonitorMode'?\"? power on failed|Failed to initialize monitor device|vmmon.{0,60}(?:not loaded"
        r"|no such file)|Could not open /dev/vmmon",
        "VMware's kernel module vmmon is not loaded or cannot have the CPU: it is not built for this kernel, Secure "
        "Boot refuses it, or KVM holds VT-x since Linux 6.12.",
        "`sudo vmware-modconfig --console --install-all`; sign it under Secure Boot; and `sudo modprobe -r kvm_intel` "
        "(or kvm_amd), or boot with kvm.enable_virt_at_load=0.",
        "VMware Workstation documentation; " + ADMIN,
        "Could not open /dev/vmmon: No such file or directory.",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vmware-long-mode",
        r"longmodeincompat|noLongmode|64-bit (?:guest|operation) .{0,40}not (?:supported|possible)"
        r"|Binary translation is incompatible",
        "VMware cannot run a 64-bit guest here: it sees no VT-x or AMD-V, off in the firmware or not given to this "
        "virtual machine.",
        "On real hardware switch VT-x on in the firmware; under Hyper-V switch that off; in a virtual machine the "
        'level below must give vmx or svm (vhv.enable = "TRUE" on VMware).',
        "VMware: Running Nested VMs (doc-8970)",
        "Msg_Post: Error: msg.cpuid.noLongmodeQuestionFmt This virtual machine is configured for 64-bit guest systems.",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "esxi-pcpu-locked-up",
        r"PCPU \d{1,4}:? (?:locked up\. Failed to ack TLB invalidate|no heartbeat)",
        "A CPU of this ESXi did nothing for seconds. Of a nested one that is a virtual CPU that waited for a real one.",
        "Give it no more CPUs than the host has free ones (at least 2), start fewer machines at once, and look at the "
        "host's steal time (`vmstat 1`). On real hardware: its firmware.",
        "VMware KB 1020214",
        "PCPU 1 locked up. Failed to ack TLB invalidate (total of 1 locked up, PCPU(s): 1).",
        Rank.CAUSE,
    ),
)
