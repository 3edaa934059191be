"""What ARM hosts say of virtualization: there it is EL2, FEAT_NV2 and Apple's frameworks, not vmx and svm."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

NV = "Linux documentation: admin-guide/kernel-parameters (kvm-arm.mode)"
VIRT = "QEMU documentation: system/arm/virt (virtualization)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "arm-no-el2-for-guest",
        r"mach-virt: .{0,40}does not support providing Virtualization extensions to the guest CPU",
        "virtualization=on gives the guest EL2, so that it can run KVM itself; this host cannot: it needs FEAT_NV2 in "
        "the CPU, Linux 6.16 or newer with kvm-arm.mode=nested and QEMU 10.1. HVF, Lima's and Apple's guests have "
        "none of that.",
        "For one level leave virtualization=on out: KVM itself works. For two levels: a host with FEAT_NV2 booted with "
        "kvm-arm.mode=nested, or emulation: `-accel tcg -machine virt,virtualization=on -cpu max`.",
        "lima-vm/lima#4498; " + NV + "; " + VIRT,
        "qemu-system-aarch64: mach-virt: host kernel KVM does not support providing Virtualization extensions to the "
        "guest CPU",
        Rank.CAUSE,
    ),
    Signature(
        "arm-no-nv2",
        r"FEAT_NV2?.{0,60}not (?:supported|available|present)|kvm-arm\.mode=nested.{0,80}(?:not|ignored|unsupported)"
        r"|Nested Virtuali[sz]ation \(FEAT_NV",
        "This ARM CPU or host has no FEAT_NV2, without which its guests cannot have guests of their own.",
        "For one level nothing is missing. For two: a CPU with FEAT_NV2 (Armv8.4 or newer, as in newer Neoverse), "
        "Linux 6.16 booted with kvm-arm.mode=nested; else emulate the inner level: -accel tcg.",
        NV,
        "kvm [1]: Nested Virtualization (FEAT_NV2) not supported on this CPU",
        Rank.CAUSE,
    ),
    Signature(
        "arm-no-el3-for-guest",
        r"mach-virt: .{0,40}does not support providing Security extensions",
        "secure=on gives the guest EL3 (TrustZone), which neither KVM nor HVF can.",
        "Leave secure=on out, or emulate: -accel tcg.",
        VIRT,
        "qemu-system-aarch64: mach-virt: KVM does not support providing Security extensions (TrustZone) to the guest "
        "CPU",
        Rank.CAUSE,
    ),
    Signature(
        "arm-hyp-mode",
        r"HYP mode not available|All CPU\(s\) started at EL1"
        r"|EL2 not available|EL2 is not available",
        "This ARM kernel was started in EL1, so KVM has no hypervisor mode to run in: the firmware, or the hypervisor "
        "below, keeps EL2. On ARM that, not vmx or svm, is what guests need.",
        "On real hardware the boot firmware must start the kernel in EL2. In a virtual machine its host must give it "
        "EL2, which needs FEAT_NV2 and kvm-arm.mode=nested there, or an Apple M3 with macOS 15; cloud guests do not "
        "have it: take bare metal.",
        "linux: arch/arm64/kvm/arm.c; Linux documentation: arch/arm64/booting; " + NV,
        "[    0.115326] kvm [1]: HYP mode not available",
        Rank.CAUSE,
    ),
    Signature(
        "arm-no-such-module",
        r"Module kvm[-_](?:intel|amd) not found in directory \S{0,80}(?:aarch64|arm64|armv7|raspi|rpi)",
        "This is an ARM machine: kvm_intel and kvm_amd are for x86. On ARM, KVM is part of the kernel itself.",
        "`sudo dmesg | grep -i kvm` and `ls -l /dev/kvm` say whether it works: it needs a kernel that was started in "
        "EL2.",
        "Linux documentation: virt/kvm/arm",
        "modprobe: FATAL: Module kvm_intel not found in directory /lib/modules/6.12.48+deb13-arm64",
        Rank.CAUSE,
    ),
    Signature(
        "arm-foreign-guest",
        r"CPU Architecture 'x86(?:_64)?' is not supported by the QEMU2 emulator on a(?:arch|rm)64"
        r"|platform architecture x86 is not supported on ARM|VBOX_E_PLATFORM_ARCH_NOT_SUPPORTED|0x80bb0012"
        r"|requires the X86 machine architecture|incompatible with this Arm machine architecture"
        r"|is not supported on (?:darwin|linux|windows)/arm64|x86(?:_64)? (?:guests?|images?|emulation) (?:is"
        r"|are) not supported on a(?:rm|arch)64",
        "The guest is for x86, and this host is ARM: hardware virtualization runs guests of the host's own "
        "architecture only.",
        "Take an arm64 image (and box, AVD, ISO), or emulate x86: `qemu-system-x86_64 -accel tcg`, Lima `--arch "
        "x86_64`, UTM's Emulate.",
        "VirtualBox manual: Guest operating systems on ARM hosts; Lima documentation: multi-arch",
        "VBoxManage: error: Cannot run the machine because its platform architecture x86 is not supported on ARM",
        Rank.CAUSE,
    ),
    Signature(
        "container-other-platform",
        r"requested image's platform \((?P<image>[\w/]{1,30})\) does not match the detected host platform",
        "The container image is for {image}, not for this host's architecture: it runs by emulation, and KVM in it "
        "does not work at all.",
        "Take an image for this architecture: `docker pull --platform linux/$(uname -m) IMAGE`.",
        "docker-run(1) (--platform)",
        "WARNING: The requested image's platform (linux/amd64) does not match the detected host platform "
        "(linux/arm64/v8)",
        Rank.NOTE,
    ),
    Signature(
        "arm-gic",
        r"Unable to determine GIC version|GICv\d.{0,40}not (?:available|supported)"
        r"|does not support (?:in-kernel )?GICv\d|host does not support in-kernel GICv\d"
        r"|device kvm-arm-gic(?:v\d)? failed|error creating in-kernel VGIC",
        "The guest's interrupt controller is not one that this host's KVM can give.",
        "Take the host's own: `-machine virt,gic-version=host`; libvirt: <gic version='host'/>, or leave it out.",
        VIRT,
        "qemu-system-aarch64: Unable to determine GIC version supported by host",
        Rank.CAUSE,
    ),
    Signature(
        "arm-vcpu-init",
        r"kvm_arch_init_vcpu failed|Failed to retrieve host CPU features|kvm_arm_vcpu_init",
        "KVM on this ARM host refuses the guest's CPU: it asks for something the host has not (EL2, 32 bit, SVE, "
        "PMU), or for another model than the host's.",
        "Use `-cpu host` with virtualization=off; switch pmu and sve off if it stays: `-cpu host,pmu=off,sve=off`.",
        "QEMU documentation: system/arm/cpu-features",
        "qemu-system-aarch64: kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument",
        told=Sure.LIKELY,
    ),
    Signature(
        "vcpu-after-gic",
        r"(?:kvm_(?:get|create)_vcpu|KVM_CREATE_VCPU)\b.{0,40}Device or resource busy",
        "On ARM, KVM makes no further vCPU once the machine's interrupt controller is set up: a CPU was added to a "
        "running machine, or the VMM made the controller first.",
        "Give the machine all its CPUs at its start (`-smp N`, no maxcpus above it), and update QEMU or the VMM.",
        "linux: arch/arm64/kvm/arm.c (kvm_arch_vcpu_precreate: -EBUSY)",
        "qemu-system-aarch64: kvm_init_vcpu: kvm_get_vcpu failed (4): Device or resource busy",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vcpu-not-made",
        r"kvm_(?:get|create)_vcpu failed|KVM_CREATE_VCPU\b.{0,20}(?:fail|error)"
        r"|(?:failed to|cannot|can't|could not|error) creat(?:e|ing) (?:the )?(?:kvm )?vcpu",
        "KVM made no vCPU: the machine has more than this host's KVM gives one (8 on ARM with a GICv2), memory for it "
        "was short, or the level below lacks what KVM needs of it.",
        "Try `-smp 1`. If that starts: fewer CPUs, on ARM `gic-version=3`. If not: `nestlab doctor` here runs a guest "
        "of a few instructions (`runs`), and `sudo dmesg | tail` says what KVM missed.",
        "Linux documentation: virt/kvm/api (KVM_CREATE_VCPU, KVM_CAP_MAX_VCPUS)",
        "qemu-system-aarch64: kvm_init_vcpu: kvm_get_vcpu failed (9): Invalid argument",
    ),
    Signature(
        "apple-nested",
        r"nested ?virtuali[sz]ation requires macOS|nested ?virtuali[sz]ation\W? is only supported"
        r"|nested virtuali[sz]ation is (?:not )?supported on(?:ly)? "
        r"(?:this (?:device|mac)|macOS|on macOS)\b|isNestedVirtualizationSupported.{0,20}(?:false|0)"
        r"|nested virtuali[sz]ation (?:is not|isn['’]t|is un)[a-z]{0,9}(?: available)? (?:supported )?(?:on|for|with) "
        r".{0,40}?(?:Apple|\bMacs?\b|\bM[1-9]\b)",
        "Apple's Virtualization framework nests on an M3 or newer with macOS 15 or newer only, ARM guests only, one "
        "level.",
        "On an M3 with macOS 15: Lima `limactl start --vm-type=vz --set '.nestedVirtualization=true'`, Colima "
        "`--vm-type vz --nested-virtualization`, Tart `--nested`. Parallels nests on Intel Macs only. On M1 and M2 "
        "only emulation is left: QEMU -accel tcg.",
        "Apple: VZGenericPlatformConfiguration.isNestedVirtualizationSupported; Lima documentation: vz",
        'level=fatal msg="nested virtualization is not supported on this device"',
        Rank.CAUSE,
    ),
    Signature(
        "apple-no-framework",
        r"VZErrorDomain Code=\d{1,6}.{0,80}not available on this hardware|kern\.hv_support: 0|HV_UNSUPPORTED",
        "This Mac gives no hypervisor framework: it is a virtual machine itself (as hosted CI runners are), or too "
        "old.",
        "See `sysctl kern.hv_support kern.hv_vmm_present`: the second is 1 in a virtual machine. Run it on a real "
        "Mac, or nest on an M3 with macOS 15; else emulate: -accel tcg.",
        "Apple: Hypervisor framework; lima-vm/lima#4498",
        'Error Domain=VZErrorDomain Code=2 "Virtualization is not available on this hardware."',
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "apple-entitlement",
        r"\bHV_DENIED\b|com\.apple\.security\.(?:hypervisor|virtualization).{0,40}entitlement"
        r"|Ensure .{0,60}entitlement",
        "macOS lets only signed programs with the entitlement for hypervisors use them, and this binary has none.",
        "Sign it: `codesign --entitlements FILE --force -s - PROGRAM` with com.apple.security.hypervisor (HVF) or "
        ".virtualization in FILE; or install the packaged QEMU.",
        "Apple: com.apple.security.hypervisor",
        "qemu-system-aarch64: Error: ret = HV_DENIED (0xfae94007)",
        Rank.CAUSE,
    ),
    Signature(
        "hvf-refused",
        r"HV_ERROR\b|HV_BUSY\b|HV_BAD_ARGUMENT\b|HV_ILLEGAL_GUEST_STATE|HV_NO_RESOURCES|HV_NO_DEVICE"
        r"|\b0xfae9400[1-6]\b",
        "macOS's hypervisor refused the machine. HV_ERROR gives no reason: mostly this macOS is a virtual machine "
        "itself, or the guest has more memory than its addresses reach; HV_BUSY and HV_NO_RESOURCES: other machines "
        "hold it.",
        "`sysctl kern.hv_support kern.hv_vmm_present`: with 1 in the second, run it on a real Mac or emulate: -accel "
        "tcg. Else end other machines (Docker, UTM, Parallels), give this one less memory, and update QEMU.",
        "Apple: Hypervisor framework (hv_return_t); QEMU: accel/hvf",
        "qemu-system-aarch64: Error: ret = HV_ERROR (0xfae94001, at ../accel/hvf/hvf-accel-ops.c:334)",
        told=Sure.POSSIBLE,
    ),
    Signature(
        "arm-nested-works",
        r"CPU features: detected: Nested Virtualization Support|kvm .{0,20}nested virtualization.{0,20}enabled",
        "This ARM host can give its guests EL2 (FEAT_NV2, kvm-arm.mode=nested).",
        "Nothing: this is as it should be.",
        NV,
        "[    0.002130] CPU features: detected: Nested Virtualization Support",
        Rank.NOTE,
    ),
    Signature(
        "hvf-missing",
        r"invalid accelerator hvf|HVF is not (?:available|supported)",
        "This QEMU cannot use macOS's hypervisor: it was built without it, or is for another architecture than the "
        "Mac's (x86 guests on Apple silicon are only emulated).",
        "On Apple silicon use qemu-system-aarch64 with -accel hvf, for x86 guests -accel tcg; on an Intel Mac "
        "qemu-system-x86_64.",
        "QEMU documentation: system/introduction (accelerators)",
        "qemu-system-x86_64: -accel hvf: invalid accelerator hvf",
        Rank.CAUSE,
    ),
)
