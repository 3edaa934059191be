"""What looks like a failure in many logs of virtual machines and is none."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "mitigation-notice",
        r"CPU bug present and SMT on|Spectre V\d : |Speculative Store Bypass:",
        "The kernel says which flaws of the CPU it mitigates: no failure, and no reason why virtualization would not "
        "work.",
        "Nothing, unless you run guests that you do not trust: then read the page it names.",
        "Linux documentation: admin-guide/hw-vuln",
        "[    3.120441] kvm_intel: L1TF CPU bug present and SMT on, data leak possible. See CVE-2018-3646",
        Rank.NOTE,
    ),
    Signature(
        "virtual-hardware-notice",
        r"SMBus (?:Host Controller|base address) (?:not enabled|uninitialized)|Cannot allocate resource for EISA slot"
        r"|no PMU driver, software events only|no valid rapl domains found|SGX disabled by BIOS"
        r"|SGX disabled or unsupported by BIOS|i8042: No controller found|unchecked MSR access error|can't claim BAR"
        r"|BAR \d{1,2}.{0,60}(?:can't assign|no space for)|ACPI BIOS (?:Error|Warning) \(bug\)"
        r"|VPMU disabled by hypervisor|Perf event create on CPU \d{1,4} failed|ENERGY_PERF_BIAS"
        r"|Failed to open drm device|platform pcspkr|fail to (?:add MMCONFIG|initialize ptp_kvm)"
        r"|disabled perfctr wrmsr|preemption timer not supported|HPET dysfunctional in PC10"
        r"|Invalid PCI ROM header signature|VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL does not work properly",
        "The kernel looked for hardware that this virtual machine does not have. Guests print that at every boot; it "
        "is harmless.",
        "Nothing. Look for another line as the cause.",
        "Linux documentation: admin-guide/bug-hunting",
        "[    1.410020] piix4_smbus 0000:00:01.3: SMBus Host Controller not enabled!",
        Rank.NOTE,
    ),
    Signature(
        "vmware-mitigations-notice",
        r"with side channel mitigations enabled",
        "VMware says that it protects this machine against side channels, which costs speed: no failure.",
        "Nothing. If it is too slow and runs only what you trust: switch the mitigations off in its advanced options.",
        "Broadcom knowledge base: Side channel mitigations in Workstation and Fusion",
        "You are running this virtual machine with side channel mitigations enabled.",
        Rank.NOTE,
    ),
    Signature(
        "tainted-module-notice",
        r"module verification failed: signature and/or required key missing|loading out-of-tree module taints kernel",
        "A module from outside of the kernel was loaded (VirtualBox, VMware, ZFS, NVIDIA). The kernel only notes it.",
        "Nothing; only if the module is refused (`Key was rejected`) is it Secure Boot.",
        "Linux documentation: admin-guide/tainted-kernels",
        "vboxdrv: loading out-of-tree module taints kernel.",
        Rank.NOTE,
    ),
)
