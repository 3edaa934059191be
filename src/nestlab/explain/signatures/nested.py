"""What an inner hypervisor sees of the VMX or SVM that the level below gives it: what lacks, fails or is refused."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

NESTED = "Linux documentation: virt/kvm/x86/running-nested-guests"
API = "Linux documentation: virt/kvm/api"

TABLE: tuple[Signature, ...] = (
    Signature(
        "kvm-intel-lacks-vmx",
        r"(?:could not insert '?|can't load module )kvm[-_]intel\b.{0,80}Input/output error"
        r"|kvm_intel.{0,40}(?:failed|error) -5\b|setup_vmcs_config",
        "kvm_intel (EIO, not EBUSY) read the VMX capabilities and lacks one it needs. In a virtual machine the outer "
        "hypervisor emulates too little of VMX, or its CPU model hides a part; nobody else holds the CPU.",
        "At the level below: update its kernel or hypervisor, and give this machine its own CPU (libvirt "
        "host-passthrough, `-cpu host`) without vmx features left out by hand; then stop and start it. Here: a newer "
        "kernel may ask for less.",
        "linux: arch/x86/kvm/vmx/vmx.c (setup_vmcs_config: -EIO); NixOS/nixpkgs#27930; " + NESTED,
        "modprobe: ERROR: could not insert 'kvm_intel': Input/output error",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vmm-triple-fault",
        r"KVM_EXIT_SHUTDOWN(?! =)|VcpuExit::Shutdown|Unexpected VM[- ]?exit:? Shutdown|triple fault(?! (?:handler"
        r"|delivering))|TripleFault|TRIPLE_FAULT|causing a virtual CPU to enter the shutdown state",
        "The guest ended in a triple fault: at its first instructions that is mostly not its own fault but that of the "
        "VMX or SVM which the level below emulates (the same guest runs on bare metal).",
        "`nestlab doctor` here runs a guest of a few instructions (`runs`): if that fails too, update the outer "
        "hypervisor (ESXi, VirtualBox, its kernel) and give this machine the host's CPU. If not: a kernel that fits "
        "the microVM.",
        API + " (KVM_EXIT_SHUTDOWN); firecracker-microvm/firecracker#5437",
        "[anonymous-instance:fc_vcpu 0] Received KVM_EXIT_SHUTDOWN signal",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vmm-fail-entry",
        r"KVM_EXIT_FAIL_ENTRY|VM-?entry failed.{0,20}invalid guest state|\bFailEntry\b|hardware entry fail(?:ed|ure)"
        r"|unknown exit, hardware reason \d+",
        "The CPU refused to enter the guest: the state that the VMM or KVM prepared is not valid for the VMX or SVM "
        "that it sees, in a nest for that of the level below.",
        "Update the kernel of the outer level, and see that ept and unrestricted_guest (or npt) are on there; give "
        "this machine the host's CPU. If only nested guests fail, emulate that level: `accel: tcg`.",
        API + " (KVM_EXIT_FAIL_ENTRY); " + NESTED,
        "Received KVM_EXIT_FAIL_ENTRY signal. Reason: 0x80000021",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vmm-internal-error",
        r"KVM_EXIT_INTERNAL_ERROR|VcpuExit::InternalError|unexpected (?:KVM )?exit reason"
        r"|VcpuRun\(|EmulationFailed|Failed to run the VCPU|nested_(?:vmx|svm)_run.{0,40}fail",
        "KVM gave the guest up: it met an instruction that it could not emulate or an exit it does not know, in a "
        "nest mostly because the level below reports it wrongly.",
        "Update the outer level's kernel or hypervisor; see that ept or npt is on: `cat "
        "/sys/module/kvm_*/parameters/*pt`; or emulate that machine.",
        API + " (KVM_EXIT_INTERNAL_ERROR)",
        "Received KVM_EXIT_INTERNAL_ERROR signal",
        told=Sure.LIKELY,
    ),
    Signature(
        "vmx-instruction-failed",
        r"vmread failed|vmwrite failed|vmclear failed|vmptrld failed|vmxon failed|vmlaunch failed|VMWRITE error: reg"
        r"|vmread error|invept failed|invvpid failed",
        "An instruction of VMX failed here: the level below emulates VMX with a field or feature missing.",
        "Update the outer hypervisor and give this machine its own CPU (host-passthrough). With VirtualBox or an old "
        "ESXi below take another; until then `modprobe kvm_intel enable_shadow_vmcs=0` can help.",
        "Intel SDM, volume 3, VMX instructions; " + NESTED,
        "kvm_intel: vmread failed: field=4408",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "kvm-nested-warning",
        r"(?:WARNING: CPU: \d{1,4} PID: \d{1,8}|kernel BUG) at arch/x86/kvm|RIP: .{0,20}(?:nested_(?:vmx|svm)|vmx_"
        r"|svm_)\w{1,60}"
        r"|BUG: .{0,80}kvm_(?:intel|amd|mmu)",
        "The kernel's KVM stumbled over itself, mostly in its code for nested guests.",
        "Update this kernel (nesting is mended in nearly every release), and restart the machine: what ran may be "
        "damaged. Avoid moving or restoring machines while guests run in them.",
        NESTED,
        "WARNING: CPU: 3 PID: 4127 at arch/x86/kvm/vmx/nested.c:4877 nested_vmx_vmexit+0x1c2/0x900 [kvm_intel]",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "kvm-put-registers",
        r"Failed to (?:put|get) (?:registers|special registers|nested state)|kvm_(?:put|get)_nested_state.{0,20}failed"
        r"|Failed to load .{0,20}nested_state|guest-mode inconsistent with migrated kernel nested state",
        "KVM refuses the state that QEMU gives it: it was saved or moved while guests ran in the machine, or another "
        "kernel or CPU saved it.",
        "Start the machine anew instead of restoring it; shut its guests down before it is saved or moved, and use "
        "one kernel and QEMU at both ends.",
        NESTED + ", Migrating an L1 guest, with a live nested guest in it",
        "qemu-system-x86_64: error: failed to put registers after init: Invalid argument",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "ept-off",
        r"kvm_intel/parameters/(?:ept|unrestricted_guest)\s{0,3}[:=]\s{0,3}[N0]\b"
        r"|kvm_amd/parameters/npt\s{0,3}[:=]\s{0,3}[N0]\b|EPT not supported"
        r"|unrestricted guest capability not available|not support (?:VMX )?unrestricted guest|EPT is required"
        r"|nested paging (?:is )?(?:not available"
        r"|disabled)",
        "Nested paging (EPT, NPT or unrestricted guest) is off or missing: guests are slow, and those of many VMMs do "
        "not start at all.",
        "Remove ept=0, npt=0 and unrestricted_guest=0 from /etc/modprobe.d and reload the module; in a virtual "
        "machine the level below must give it: the host's CPU, nested paging on.",
        "Linux documentation: admin-guide/kernel-parameters (kvm-intel.ept, kvm-amd.npt)",
        "/sys/module/kvm_intel/parameters/ept:N",
        Rank.CAUSE,
    ),
    Signature(
        "kvm-run-failed",
        r"kvm run failed (?P<why>[A-Z][\w ]{3,40})",
        "KVM could not go on with the guest ({why}): it stumbled over an instruction or over memory that it cannot "
        "reach; in a nest often because the level below reports an exit wrongly.",
        "Read what the host's `dmesg` said at that time. Update the outer level's kernel, give this machine the "
        "host's CPU, and see that ept or npt is on; on ARM leave virtualization=on out.",
        API + " (KVM_RUN)",
        "error: kvm run failed Bad address",
        told=Sure.LIKELY,
    ),
)
