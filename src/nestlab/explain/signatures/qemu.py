"""What QEMU says when it does not start: KVM, CPU models, memory, boards."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

CPU = "QEMU documentation: system/qemu-cpu-models"
INVOCATION = "qemu-system-x86_64(1)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "kvm-device-missing",
        r"Could not access KVM kernel module: No such file or directory"
        r"|failed to initialize kvm: No such file or directory|INFO: /dev/kvm does not exist"
        r"|Checking if device '?/dev/kvm'? exists\s{0,80}: FAIL",
        "There is no /dev/kvm: no KVM module is loaded here, or this container was not given the device.",
        "Run `sudo modprobe kvm_intel` or `sudo modprobe kvm_amd` and read what it says; `nestlab doctor` finds the "
        "reason. For a container: `--device /dev/kvm`.",
        INVOCATION + " (-accel), kvm-ok(1), virt-host-validate(1); libbpf/libbpf#747",
        "Could not access KVM kernel module: No such file or directory",
        below=True,
    ),
    Signature(
        "kvm-device-forbidden",
        r"Could not access KVM kernel module: Permission denied|failed to initialize kvm: Permission denied"
        r"|Checking if device '?/dev/kvm'? is accessible\s{0,80}: FAIL",
        "/dev/kvm is there, but this user may not open it.",
        "`sudo usermod -aG kvm $USER`, then log in anew. In a container give it the device and its group. On a CI "
        "runner, which cannot log in anew: `sudo chmod 666 /dev/kvm` in a step before.",
        "libbpf/libbpf#747; actions/runner-images#8542",
        "Could not access KVM kernel module: Permission denied",
        Rank.CAUSE,
    ),
    Signature(
        "kvm-initialize",
        r"failed to initialize kvm: (?P<why>[\w ,./-]{1,60})",
        "QEMU cannot use KVM here ({why}).",
        "Run `nestlab doctor`: it names the layer that is missing. Without KVM: `accel: tcg`.",
        INVOCATION + " (-accel)",
        "qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not supported",
        below=True,
    ),
    Signature(
        "kvm-refused",
        r"accel=kvm: No accelerator found|KVM_CREATE_VM.{0,20}(?:Inappropriate ioctl|Invalid argument)"
        r"|Could not access KVM kernel module: (?!Permission denied|No such file or directory)",
        "QEMU cannot use KVM here: /dev/kvm is missing or is no KVM, or it refuses this kind of machine.",
        "`ls -l /dev/kvm`, `sudo dmesg | grep -i kvm`; `nestlab doctor` names the layer that is missing. Without KVM: "
        "`accel: tcg`.",
        INVOCATION + " (-accel)",
        "qemu-system-x86_64: -machine accel=kvm: No accelerator found",
        below=True,
    ),
    Signature(
        "pvm-msr",
        r"failed to set MSR 0x10a\b",
        "KVM here takes no IA32_ARCH_CAPABILITIES: it is mostly no real kvm_intel or kvm_amd but a provider in "
        "software (kvm_pvm), which runs guests but cannot nest.",
        "See `lsmod | grep ^kvm` and `nestlab doctor`. nestlab emulates there by itself; elsewhere: `accel: tcg`.",
        "linux: Documentation/virt/kvm/api (KVM_SET_MSRS); virt-pvm/linux",
        "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0",
    ),
    Signature(
        "set-msr",
        r"failed to set MSR (?P<msr>0x[0-9a-f]+)",
        "KVM refuses a value of register {msr}, so QEMU gives up: QEMU, this kernel and the outer hypervisor do not "
        "agree on what the CPU has.",
        "Update the kernel of the host or of the level below, or choose a named CPU model instead of host. Registers "
        "0x480-0x491 are VMX: leave vmx out if that machine need not nest. ignore_msrs does not help.",
        "kubernetes/minikube#2968; " + CPU,
        "qemu-system-x86_64: error: failed to set MSR 0x48f to 0x7fffff00036dfb",
    ),
    Signature(
        "msr-assertion",
        r"kvm_(?:buf_set|put|get)_msrs?: Assertion",
        "QEMU stopped, because KVM refused one of the CPU's registers; the line before names it.",
        "Update the host's kernel, or choose a named CPU model instead of host; ignore_msrs does not help here.",
        "kubernetes/minikube#2968",
        "qemu-system-x86_64: ../target/i386/kvm/kvm.c:3888: kvm_buf_set_msrs: Assertion `ret == "
        "cpu->kvm_msr_buf->nmsrs' failed.",
        Rank.SYMPTOM,
    ),
    Signature(
        "cpu-host-needs-kvm",
        r"CPU model '(?:host|max)' requires KVM|unable to find CPU model 'host'",
        "The CPU model host is that of the real CPU, which only KVM can give; this machine is emulated.",
        "Use KVM (`nestlab doctor` says what is missing), or the model max for emulation.",
        CPU,
        "qemu-system-x86_64: CPU model 'host' requires KVM or HVF",
    ),
    Signature(
        "tcg-lacks-feature",
        r"TCG doesn't support requested feature: (?P<feature>\S{1,120})",
        "Emulation does not know the CPU's feature {feature}; the guest runs without it. TCG emulates svm, not vmx.",
        "Nothing, unless the guest needs it. To nest under emulation give the guest an AMD model: EPYC with svm.",
        CPU,
        "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.pcid [bit 17]",
        Rank.NOTE,
    ),
    Signature(
        "host-lacks-vmx-feature",
        r"host doesn't support requested feature: (?P<feature>(?:MSR\(\w+\)|CPUID)\S{0,80}\.(?:vmx|svm)\S{0,80})",
        "This host cannot give its guests {feature}: virtualization is off below, or the CPU model lists more of it "
        "than a nested host has.",
        "Use the model host (libvirt: host-passthrough) instead of a named model, and do not list vmx features by "
        "hand. `nestlab doctor` says whether this host can nest.",
        "virt-manager/virt-manager#234; vagrant-libvirt/vagrant-libvirt#98; " + CPU,
        "qemu-system-x86_64: warning: host doesn't support requested feature: MSR(48DH).vmx-posted-intr [bit 7]",
    ),
    Signature(
        "host-lacks-feature",
        r"host doesn't support requested feature(?:: (?P<feature>\S{1,120}))?",
        "The CPU model asks for what this host's CPU, or the level below, does not have.",
        "Choose an older model or host. Proxmox VE starts named models with enforce, so they fail for one missing "
        "flag: `qm set VMID --cpu host`.",
        CPU,
        "kvm: warning: host doesn't support requested feature: CPUID.07H:EBX.erms [bit 9]",
    ),
    Signature(
        "unknown-cpu-model",
        r"unable to find CPU model '(?!host')(?P<model>[\w.-]+)'",
        "This QEMU has no CPU model {model}: it is misspelled, or newer than this QEMU.",
        "List them: `qemu-system-x86_64 -cpu help`.",
        CPU,
        "qemu-system-x86_64: unable to find CPU model 'EPYC-Turin'",
        Rank.CAUSE,
    ),
    Signature(
        "memory-mlock",
        r"cannot set up guest memory '(?P<block>[\w.-]+)': Cannot allocate memory",
        "The host has not enough memory for the guest.",
        "Give the machine less memory, stop others, or add swap; `free -m` shows what is left. Also look at "
        "`ulimit -v` and /proc/sys/vm/overcommit_memory.",
        INVOCATION + " (-m); proc_sys_vm(5)",
        "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
        Rank.CAUSE,
    ),
    Signature(
        "hugepages-missing",
        r"unable to map backing store for guest RAM|hugepage allocation failed",
        "There are not enough free huge pages for the guest's memory.",
        "Reserve more (`sudo sysctl vm.nr_hugepages=N`, of 2 MiB each), best at boot, or leave huge pages off.",
        "Linux documentation: admin-guide/mm/hugetlbpage",
        "qemu-system-x86_64: unable to map backing store for guest RAM: Cannot allocate memory",
        Rank.CAUSE,
    ),
    Signature(
        "unsupported-machine-type",
        r"unsupported machine type",
        "This QEMU has no such board: it was asked for by a newer QEMU, or by another distribution's.",
        "List them: `qemu-system-x86_64 -machine help`. On Proxmox VE: `qm set VMID --machine q35`.",
        INVOCATION + " (-machine)",
        "qemu-system-x86_64: -machine pc-q35-11.0: unsupported machine type",
        Rank.CAUSE,
    ),
    Signature(
        "invalid-parameter",
        r"Invalid parameter '(?P<parameter>[\w.-]+)'|Property '[\w.-]{1,60}\.(?P<property>[\w-]+)' not found",
        "This QEMU does not know an option that it is given: it is older or newer than its command line is made for.",
        "Compare `qemu-system-x86_64 --version` with what made the command line. nestlab takes its own QEMU where the "
        "installed one is too old.",
        INVOCATION + "; QEMU documentation: about/removed-features",
        "qemu-system-x86_64: -machine q35,hpet=off: Invalid parameter 'hpet'",
        Rank.CAUSE,
    ),
    Signature(
        "backend-not-compiled",
        r"network backend '(?P<backend>[\w-]+)' is not compiled into this (?:QEMU|binary)",
        "This QEMU was built without the network backend {backend}.",
        "Install the distribution's full QEMU (Debian: qemu-system-x86), or build it with libslirp for user.",
        "QEMU 7.2 release notes (libslirp); " + INVOCATION,
        "qemu-system-x86_64: -netdev user,id=n0: network backend 'user' is not compiled into this QEMU",
        Rank.CAUSE,
    ),
    Signature(
        "firmware-file-missing",
        r"could not load PC BIOS '(?P<file>[\w./-]+)'|failed to find romfile \"(?P<rom>[\w./-]+)\"",
        "QEMU does not find its firmware or a ROM for a network or video card.",
        "Install it: seabios, ovmf and ipxe-qemu on Debian; or name the directory with -L.",
        INVOCATION + " (-L)",
        "qemu: could not load PC BIOS 'bios-256k.bin'",
        Rank.CAUSE,
    ),
    Signature(
        "qemu-killed",
        r"terminating on signal (?P<number>\d+) from pid (?P<pid>\d+)",
        "QEMU was told to end (signal {number}) by the process {pid}.",
        "Nothing, if you or nestlab stopped it; else look at what that process is.",
        INVOCATION,
        "qemu-system-x86_64: terminating on signal 15 from pid 2101 (/usr/sbin/libvirtd)",
        Rank.NOTE,
    ),
)
