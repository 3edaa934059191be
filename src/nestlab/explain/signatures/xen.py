"""What Xen, XCP-ng, bhyve and OpenBSD's vmm say of hardware virtualization and of nesting."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

XEN = "Xen wiki: Nested Virtualization in Xen; xl.cfg(5) (nestedhvm, hap)"
BHYVE = "FreeBSD handbook: bhyve; bhyve(8)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "xen-nested-needs-hap",
        r"Shadow Paging and Nested Virtuali[sz]ation are mutually exclusive|Nested virt not supported without HAP"
        r"|HAP requested but not available|nested.{0,30}requires (?:HAP|hardware assisted paging)"
        r"|hvm domain requires hap|requires hap=1|nested.{0,40}\bHAP (?:is )?(?:disabled|not available)",
        "Nested HVM needs hardware assisted paging (HAP): this host's CPU has no EPT or NPT, it is off in the "
        "firmware or not passed on to this Xen, or the machine is not HVM or has hap=0.",
        '`xl dmesg | grep -i hap` on the host must show EPT or NPT. Then type="hvm", hap=1 and nestedhvm=1 for the '
        "machine; if this Xen is itself a virtual machine, give it the host's CPU with nested paging.",
        XEN + "; vatesfr/xen-orchestra#3743",
        "Error from xenguesthelper: Shadow Paging and Nested Virtualisation are mutually exclusive",
        Rank.CAUSE,
    ),
    Signature(
        "xen-nested-unavailable",
        r"Nested virt requested but not available|nested HVM.{0,40}(?:not supported|not available|cannot)"
        r"|nestedhvm.{0,60}(?:not supported|invalid|cannot|altp2m)|feature_nested_virt"
        r"|nested-virt.{0,60}(?:not supported|restricted|not licensed)"
        r"|nestedhvm and PoD",
        "This Xen cannot give the machine nested HVM: it is PV or PVH, altp2m is on, or the CPU or this version has "
        "it off (it is experimental).",
        "Make the machine HVM with hap=1 and without altp2m; XCP-ng 8.3: `xe vm-param-set uuid=UUID "
        "platform:nested-virt=true`, before: exp-nested-hvm. For labs KVM below is the safer choice.",
        XEN + "; xcp-ng/xcp#562",
        "(XEN) arch/x86/domain.c:678: Nested virt requested but not available",
        Rank.CAUSE,
    ),
    Signature(
        "xen-cpu-features",
        r"VM_INCOMPATIBLE_WITH_THIS_HOST|VM is incompatible with the CPU features of this host",
        "The machine was started with CPU features (nested virtualization is one) that this host of the pool has not.",
        "Shut it down and start it on this host, instead of moving or resuming it: features are chosen at its start. "
        "A machine with nested virtualization is not moved live.",
        "Xen API: error codes (VM_INCOMPATIBLE_WITH_THIS_HOST); " + XEN,
        "VM_INCOMPATIBLE_WITH_THIS_HOST: The VM is incompatible with the CPU features of this host.",
        Rank.CAUSE,
    ),
    Signature(
        "xen-hvm-required",
        r"VM_HVM_REQUIRED|HVM is required for this operation|\(XEN\) (?:VMX|SVM).{0,60}(?:disabled|not supported"
        r"|failed|locked)|\(XEN\) HVM: .{0,40}(?:not|failed)|hvm_(?:capable|enabled).{0,20}false"
        r"|hvm building failed",
        "Xen has no VT-x or AMD-V on this host, and so no HVM: it is off in the firmware, or this Xen is a virtual "
        "machine that was not given it.",
        "`xl info | grep virt_caps` must show hvm. Switch it on in the firmware; in a virtual machine give it the "
        "host's CPU from outside, and stop and start it.",
        XEN,
        "Error code: VM_HVM_REQUIRED",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "linux-on-xen",
        r"Booting (?:paravirtualized|kernel) .{0,20}on Xen|Xen version: \d|Hypervisor detected: Xen PV|Xen: PVH",
        "This Linux runs on Xen. As dom0 or a PV guest it cannot load KVM: the CPU's virtualization is Xen's; as an "
        "HVM guest only with nestedhvm.",
        "For KVM boot this machine without Xen (choose the plain kernel in the boot menu), or run HVM guests of Xen "
        "itself.",
        XEN,
        "[    0.000000] Booting paravirtualized kernel on Xen PV",
        Rank.NOTE,
    ),
    Signature(
        "bhyve-no-vmx",
        r"vmx_(?:mod)?init: .{0,80}|(?:svm|amdv)_(?:mod)?init: .{0,80}|SVM: (?:disabled by BIOS|not available)"
        r"|SVM not available|vmm\.ko.{0,60}(?:not loaded|cannot|failed)|an error occurred while loading module vmm",
        "FreeBSD's vmm finds no VT-x (with EPT and unrestricted guest) or AMD-V (with NPT): off in the firmware, or "
        "not given to this virtual machine.",
        "`dmesg | grep -E 'vmx|svm|vmm'` and the flags VMX or SVM, POPCNT in /var/run/dmesg.boot. In a virtual "
        "machine give it the host's CPU from outside. bhyve itself never nests its guests.",
        BHYVE,
        "vmx_modinit: processor does not support VMX operation",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "bhyve-no-vmm",
        r"vm_create: Device not configured|/dev/vmm.{0,40}(?:no such file|not configured|not supported"
        r"|permission denied)|vm_open: .{0,60}(?:Device not configured|could not)|kernel module vmm.{0,30}not loaded"
        r"|vmm_open: Device not configured|does not support bhyve",
        "bhyve cannot make a machine: vmm.ko is not loaded, or it found no usable VT-x or AMD-V when it was.",
        '`sudo kldload vmm` and read `dmesg | tail`; for good vmm_load="YES" in /boot/loader.conf. A stale machine '
        "of that name: `sudo bhyvectl --destroy --vm=NAME`.",
        BHYVE,
        "vm_create: Device not configured",
        told=Sure.LIKELY,
        below=True,
    ),
    Signature(
        "openbsd-vmm",
        r"/dev/vmm: Operation not supported by device"
        r"|start vm command failed: Operation not supported",
        "OpenBSD's vmm has no VMX with EPT or SVM with RVI to use on this machine; it never nests its guests.",
        "`dmesg | grep -E '^vmm0|VMX/EPT|SVM/RVI'` must show it; switch it on in the firmware, or give it to this "
        "machine from outside.",
        "OpenBSD: vmm(4), vmd(8)",
        "vmctl: start vm command failed: Operation not supported by device",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "xen-nested-crash",
        r"\(XEN\).{0,80}(?:nvmx_|nsvm_|nestedhvm|vvmx)|domain_crash called from \S{0,40}(?:vmx|svm|hvm)"
        r"|\(XEN\).{0,40}Unhandled vmexit",
        "Xen ended the machine over an exit or a state in its code for hardware guests; with a hypervisor inside that "
        "is its nested HVM, which is experimental.",
        "Update Xen; give the inner hypervisor fewer CPUs and no memory ballooning; for labs put KVM at this level "
        "instead.",
        XEN,
        "(XEN) domain_crash called from arch/x86/hvm/vmx/vvmx.c:2713",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "bhyve-exit",
        r"exit_reason\s{1,4}\d{1,3}\b|VMX error: VMfail|vm_run error -?\d{1,3}",
        "bhyve gave the guest up at an exit that it does not handle: guests of bhyve cannot run hypervisors of their "
        "own.",
        "Leave VMX and SVM alone inside that guest (no KVM, Hyper-V or VBS), or use another machine for the lab.",
        BHYVE,
        "\texit_reason\t33 (VM entry failed)",
        told=Sure.LIKELY,
    ),
    Signature(
        "xen-not-dom0",
        r"Could not obtain handle on privileged command interface|xencall: error: Could not obtain handle",
        "Xen's tools were started where there is no Xen to talk to: this Linux was booted without it, or is no dom0.",
        "Choose the entry with Xen in the boot menu (package xen-hypervisor, then `update-grub`), then `xl info`; "
        "/proc/xen/capabilities of a dom0 says control_d.",
        "Xen wiki: Xen Project Beginners Guide",
        "xencall: error: Could not obtain handle on privileged command interface: No such file or directory",
        Rank.CAUSE,
    ),
    Signature(
        "xen-device-model",
        r"device model did not start",
        "The QEMU that Xen starts for an HVM machine ended at once; its own log says why.",
        "`tail /var/log/xen/qemu-dm-NAME.log`, and give that to `nestlab explain`; the package of Xen's QEMU "
        "(qemu-system-xen) may be missing.",
        "xl(1)",
        "libxl: error: libxl_dm.c:3148:device_model_spawn_outcome: Domain 3:domain 3 device model did not start: -1",
        Rank.SYMPTOM,
    ),
    Signature(
        "qubes-no-hvm",
        r"missing features: .{0,60}(?:HVM|IOMMU|Interrupt Remapping)",
        "The installer of Qubes OS finds no VT-x or AMD-V, no IOMMU, or no interrupt remapping; in a virtual machine "
        "it "
        "seldom finds all of them.",
        "On real hardware switch them on in the firmware. In a virtual machine: the host's CPU, and a virtual IOMMU "
        "with interrupt remapping (QEMU: -device intel-iommu,intremap=on, q35); Qubes does not support that.",
        "Qubes OS: System requirements",
        "Your hardware has missing features: HVM/VT-x/AMD-V, IOMMU/VT-d/AMD-Vi, Interrupt Remapping",
        Rank.CAUSE,
        below=True,
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
)
