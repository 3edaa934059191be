"""What the kernel's KVM, and the tools that ask for it, say of the processor and of what a guest does with it."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

NESTED = "Linux documentation: virt/kvm/x86/running-nested-guests"
ADMIN = "Linux documentation: admin-guide/kernel-parameters (kvm.*, kvm-intel.*, kvm-amd.*)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "firmware-locks-vmx",
        r"VMX \(outside TXT\) disabled by BIOS|VMX not enabled \(by BIOS\)|VMX disabled by BIOS",
        "The firmware of this machine keeps Intel VT-x off and locked.",
        "Switch VT-x (Intel Virtualization Technology) on in the firmware setup, save, and power the machine off and "
        "on. In a virtual machine it is the outer host that must give vmx: `nestlab doctor` says how.",
        "linux: arch/x86/kernel/cpu/feat_ctl.c; " + NESTED,
        "[    0.084301] x86/cpu: VMX (outside TXT) disabled by BIOS",
        Rank.CAUSE,
    ),
    Signature(
        "firmware-locks-svm",
        r"SVM disabled \(by BIOS\)",
        "The firmware of this machine keeps AMD-V (SVM) off.",
        "Switch SVM Mode on in the firmware setup, save, and power the machine off and on. In a virtual machine it is "
        "the outer host that must give svm: `nestlab doctor` says how.",
        "linux: arch/x86/kernel/cpu/amd.c; " + NESTED,
        "[    2.310562] kvm_amd: SVM disabled (by BIOS) in MSR_VM_CR on CPU 3",
        Rank.CAUSE,
    ),
    Signature(
        "firmware-locks",
        r"kvm.{0,40}disabled by (?:your )?bios",
        "The firmware of this machine keeps hardware virtualization off. A virtual machine has no such firmware: there "
        "its outer host does.",
        "On real hardware switch VT-x or SVM Mode on in the firmware setup, save, and power the machine off and on.",
        NESTED + "; kvm-ok(1)",
        "kvm: disabled by bios",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "sev-guest",
        r"KVM is unsupported when running as an SEV guest",
        "This machine is a guest with encrypted memory (AMD SEV), and such guests cannot run KVM.",
        "Run the lab in a guest without SEV, or let nestlab emulate: `accel: tcg`.",
        "linux: arch/x86/kvm/svm/svm.c",
        "[    3.911840] kvm_amd: KVM is unsupported when running as an SEV guest",
        Rank.CAUSE,
    ),
    Signature(
        "cpu-without-virtualization",
        r"(?:VMX|SVM) not supported by CPU|kvm: no hardware support|CPU does not support KVM extensions",
        "The kernel sees no vmx or svm on this CPU: the firmware has it off, or this is a virtual machine whose host "
        "does not pass it on.",
        "On real hardware switch VT-x or SVM on in the firmware, in a virtual machine at the level below; `nestlab "
        "doctor` there says which it is.",
        NESTED,
        "[    2.288160] kvm_amd: SVM not supported by CPU 0, not amd or hygon",
        Rank.CAUSE,
        told=Sure.LIKELY,
        below=True,
    ),
    Signature(
        "cannot-enable",
        r"enabling virtualization on CPU\d{1,4} failed",
        "KVM cannot have the CPU's virtualization: another hypervisor on this machine already uses it (VirtualBox, "
        "VMware).",
        "End its guests and unload it (VirtualBox: `sudo modprobe -r vboxnetadp vboxnetflt vboxdrv`), then "
        "`sudo modprobe kvm_intel` or `sudo modprobe kvm_amd`. VirtualBox 7.2.10 and newer can be loaded beside KVM.",
        "linux: virt/kvm/kvm_main.c; VirtualBox/virtualbox#711",
        "kvm: enabling virtualization on CPU0 failed",
        Rank.CAUSE,
    ),
    Signature(
        "create-vm-busy",
        r"KVM_CREATE_VM.{0,20}failed: .{0,6}Device or resource busy",
        "Another hypervisor on this machine (VirtualBox, VMware) holds the CPU's virtualization.",
        "End its guests and unload its modules: `sudo modprobe -r vboxnetadp vboxnetflt vboxdrv`. Guests of both at "
        "once do not work; that both are loaded does with VirtualBox 7.2.10 or newer, with older ones on Linux 6.12 "
        "and newer by kvm.enable_virt_at_load=0.",
        "linux: virt/kvm/kvm_main.c; VirtualBox/virtualbox#711; " + ADMIN,
        "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
        Rank.CAUSE,
    ),
    Signature(
        "nested-off",
        r"(?P<module>kvm_intel|kvm_amd)/parameters/nested\s{0,3}[:=]\s{0,3}[N0]\b",
        "Nesting is switched off in {module}: guests of this host see no vmx or svm.",
        "`nestlab doctor --fix` switches it on, and tells first if it is off for a reason.",
        NESTED,
        "/sys/module/kvm_intel/parameters/nested:N",
        Rank.CAUSE,
    ),
    Signature(
        "evmcs-field",
        r"unsupported EVMCS field (?P<field>[0-9a-f]{1,8})",
        "KVM runs inside of Hyper-V here (Azure too), and uses a field (0x{field}) that Hyper-V's enlightened VMCS "
        "does not have: this kernel is too old for that CPU, and its guests may crash or not start.",
        "Update this machine's kernel. Until then put `options kvm_intel enlightened_vmcs=0` in a file in "
        "/etc/modprobe.d, and reboot.",
        "microsoft/lisa#2607; linux: arch/x86/kvm/vmx/vmx.c (module_param enlightened_vmcs)",
        "[  259.760175] KVM: accessing unsupported EVMCS field 2032",
        Rank.CAUSE,
    ),
    Signature(
        "vendor-module-loaded",
        r"already loaded vendor module '(?P<module>[\w.-]+)'|kvm: already loaded the other module",
        "KVM already works with another vendor's module here, and only one can be loaded.",
        "Nothing, if the module that is loaded fits the CPU: see `lsmod | grep ^kvm`. If kvm_pvm holds it, guests run "
        "but cannot nest.",
        "linux: arch/x86/kvm/x86.c (__kvm_x86_vendor_init)",
        "[    0.912263] kvm: already loaded vendor module 'kvm_intel'",
    ),
    Signature(
        "kvm-ok-cannot",
        r"KVM acceleration can NOT be used",
        "kvm-ok found that this machine cannot run guests with KVM.",
        "Run `nestlab doctor`: it names the layer that is missing and how to mend it.",
        "kvm-ok(1)",
        "KVM acceleration can NOT be used",
        Rank.SYMPTOM,
        below=True,
    ),
    Signature(
        "unhandled-msr",
        r"unhandled (?:rd|wr)msr|unhandled: (?:rd|wr)msr|ignored (?:rd|wr)msr"
        r"|unimplemented (?:perfctr )?(?:rd|wr)msr|kvm_set_msr_common: MSR_\w{1,40} 0x[0-9a-f]{1,16}, nop",
        "A guest uses a model-specific register that KVM does not emulate. Windows, ESXi and macOS may crash on that; "
        "Linux does not mind.",
        "If the guest crashes: `echo 1 | sudo tee /sys/module/kvm/parameters/ignore_msrs`; for good, "
        "`options kvm ignore_msrs=1 report_ignored_msrs=0` in a file in /etc/modprobe.d. Else ignore it.",
        ADMIN + "; GNS3/gns3-server#1774",
        "[ 1042.774125] kvm [4112]: vcpu0, guest rIP: 0xfffff8054a2b1c5e unhandled rdmsr: 0x140",
        Rank.NOTE,
    ),
    Signature(
        "kvm-entry-beside-virtualbox",
        r"KVM: entry failed, hardware error 0x0\b(?!\w)",
        "The CPU's virtualization was taken from KVM while its guest ran: VirtualBox (7.2.10 and newer share KVM's "
        "switch) or VMware started a guest at the same time.",
        "Run guests of one hypervisor at a time: end VirtualBox's or VMware's, then start this one again.",
        "VirtualBox/virtualbox#711",
        "KVM: entry failed, hardware error 0x0",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "kvm-entry-failed",
        r"KVM: entry failed, hardware error 0x(?P<code>[0-9a-f]{1,16})",
        "The CPU refused to run the guest (0x{code}): the state that KVM prepared is not valid for it. In a nest this "
        "is mostly a fault of the hypervisor one level down.",
        "Update the kernel of the outer host, load kvm_intel with ept and unrestricted_guest on, and give the guest "
        "another CPU model. If only nested guests fail, emulate that level: `accel: tcg`.",
        "Intel SDM, volume 3, VM-entry failures; " + NESTED,
        "KVM: entry failed, hardware error 0x80000021",
    ),
    Signature(
        "kvm-internal-error",
        r"KVM internal error\. Suberror: (?P<code>\d+)",
        "KVM gave the guest up (suberror {code}). Suberror 1 is an instruction that it could not emulate: mostly "
        "firmware or an installer under shadow paging or inside another hypervisor.",
        "See that ept or npt is on (`cat /sys/module/kvm_*/parameters/*pt`), update the outer host's kernel, or "
        "emulate that machine: `accel: tcg`.",
        "Linux documentation: virt/kvm/api (KVM_EXIT_INTERNAL_ERROR)",
        "KVM internal error. Suberror: 1",
    ),
    Signature(
        "kvm-emulation-failure",
        r"\bemulation failure\b",
        "KVM gave the guest up at an instruction that it could not emulate: mostly firmware, an installer or old code "
        "in real mode, where nested paging is off or another hypervisor is below.",
        "See that ept or npt is on (`cat /sys/module/kvm_*/parameters/*pt`), update the outer host's kernel, or "
        "emulate that machine: `accel: tcg`.",
        "Linux documentation: virt/kvm/api (KVM_INTERNAL_ERROR_EMULATION)",
        "emulation failure",
        Rank.SYMPTOM,
        Sure.LIKELY,
    ),
    Signature(
        "nested-is-on",
        r"kvm.{0,20}Nested Virtualization enabled",
        "KVM says that nesting is on.",
        "Nothing: this is as it should be.",
        NESTED,
        "[    4.102233] kvm_amd: Nested Virtualization enabled",
        Rank.NOTE,
    ),
    Signature(
        "guest-escape-advisory",
        r"CVE-2026-(?P<number>53359|46113|64561)",
        "CVE-2026-{number} lets a guest that may nest break out to its host, where the host's kernel lacks the fix.",
        "Run `nestlab doctor`: it says whether this kernel has it. Until then nest only guests that you trust.",
        "cozystack/cozystack#3240; coreos/fedora-coreos-tracker#2203",
        "linux (6.12.95-1) trixie-security; urgency=high: KVM: x86: shadow MMU (CVE-2026-53359)",
        Rank.NOTE,
    ),
    Signature(
        "split-lock",
        r"split lock detection: #(?:AC|DB).{0,80}took a split_lock trap",
        "A guest uses split locks, and the host slows it down by 10 ms for each.",
        "Boot the host with split_lock_detect=off if you trust its guests.",
        "Linux documentation: arch/x86/buslock",
        "x86/split lock detection: #AC: CPU 0/KVM/2412 took a split_lock trap at address: 0xfffff80242e4aa5f",
        Rank.NOTE,
    ),
)
