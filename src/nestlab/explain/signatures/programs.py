"""What programs that need KVM say when there is none: emulators, orchestrators, lab tools, microVMs."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

DOCTOR = "`nestlab doctor` on that machine names the layer that is missing and the command that mends it."
NESTED = "Linux documentation: virt/kvm/x86/running-nested-guests"

TABLE: tuple[Signature, ...] = (
    Signature(
        "multipass-no-kvm",
        r"KVM support is not enabled on this machine",
        "Multipass found no usable /dev/kvm: the CPU shows no vmx or svm, or the KVM module is not loaded. A virtual "
        "machine has no BIOS in which that could be switched on.",
        DOCTOR + " Multipass itself needs no change.",
        "canonical/multipass#3722",
        "launch failed: KVM support is not enabled on this machine.",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "nix-no-kvm",
        r"with features \{.{0,120}\bkvm\b.{0,120}is required to build"
        r"|required \(system, features\): .{0,80}\bkvm\b",
        "Nix knows of no builder with KVM: a machine offers the feature `kvm` only where nix-daemon found /dev/kvm "
        "when it started.",
        DOCTOR + " Then `sudo systemctl restart nix-daemon`; for a remote builder write `kvm` among the features of "
        "its line in `builders`. `system-features = kvm` without a /dev/kvm only moves the failure.",
        "Nix manual: nix.conf (system-features), Remote builds",
        "error: a 'x86_64-linux' with features {kvm, nixos-test} is required to build '/nix/store/0a-vm-test-run.drv'",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "user-not-in-kvm-group",
        r"user doesn't have permissions to use KVM|\bnot (?:a )?member of (?:the )?'?kvm'? group"
        r"|user is not in (?:the )?'?kvm'? group",
        "/dev/kvm is there, but this user may not open it.",
        '`sudo usermod -aG kvm $USER`, then log in anew. On a CI runner: a udev rule `KERNEL=="kvm", GROUP="kvm", '
        'MODE="0666"` in /etc/udev/rules.d, then `sudo udevadm trigger --name-match=kvm`.',
        "developer.android.com: Configure hardware acceleration; actions/runner-images#8542",
        "CPU acceleration status: This user doesn't have permissions to use KVM (/dev/kvm).",
        Rank.CAUSE,
    ),
    Signature(
        "kvm-device-is-a-directory",
        r"/dev/kvm ?:? ?(?:is a directory|not a character device)",
        "/dev/kvm is an empty directory: a container was started with -v /dev/kvm on a host that has no such device.",
        "Remove the directory (`sudo rmdir /dev/kvm`), get KVM on the host itself (`nestlab doctor` there), then "
        "start the container with `--device /dev/kvm`.",
        "agoda-com/docker-emulator-android#4; docker-run(1) (--device)",
        "CPU acceleration status: Could not open /dev/kvm : Is a directory",
        Rank.CAUSE,
    ),
    Signature(
        "needs-cpu-virtualization",
        r"KVM requires a CPU that supports vmx or svm|(?:n?either|no) Intel VT-x (?:n?or) AMD-V found"
        r"|CPU property not found|This computer doesn't have VT-X/AMD-v enabled|\bHOST_VIRT_UNAVAILABLE\b"
        r"|CPU virtuali[sz]ation support is required|Virtuali[sz]ation extensions are unavailable on your system"
        r"|The CPU is capable of virtuali[sz]ation: no"
        r"|does not support (?:KVM )?virtuali[sz]ation extensions"
        r"|No support for (?:hardware-accelerated )?KVM virtuali[sz]ation detected|\bHVM: Not Available"
        r"|virtuali[sz]ation is not available for your CPU|does not support hardware virtuali[sz]ation|KVM: CPU has no"
        r"|(?:CPU|processor) does not support (?:VMX|SVM|AMD-V|(?:Intel )?VT-x)\b(?! unrestricted)"
        r"|HVM support is not available"
        r"|capable of running Kata Containers",
        "The program sees neither vmx nor svm in /proc/cpuinfo. On a virtual machine that means: the outer hypervisor "
        "does not give them to it.",
        "Give this machine vmx or svm from the level below; "
        + DOCTOR
        + " Without them the program runs, if at all, by slow "
        "emulation.",
        "gitpod-io/gitpod#523; kata-runtime check; minikube: reason HOST_VIRT_UNAVAILABLE; " + NESTED,
        "CPU acceleration status: KVM requires a CPU that supports vmx or svm",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "android-emulator-no-acceleration",
        r"emulation currently requires hardware acceleration|emulation may not work without hardware acceleration"
        r"|KVM is not installed on this machine|VT disabled in BIOS or KVM kernel module not loaded",
        "The Android emulator runs x86 images with KVM only, and this machine has no usable /dev/kvm.",
        "Read its line `CPU acceleration status`. In a virtual machine the outer one must give vmx or svm. Without "
        "KVM: `emulator -accel off` (very slow), or an ARM image on an ARM host.",
        "developer.android.com: Configure hardware acceleration; gitpod-io/gitpod#523",
        "emulator: ERROR: x86_64 emulation currently requires hardware acceleration!",
        below=True,
    ),
    Signature(
        "kubevirt-no-kvm",
        r"Insufficient devices\.kubevirt\.io/kvm|hardware emulation device '/dev/kvm' not present"
        r"|devices\.kubevirt\.io/kvm:\s{0,20}\"?0",
        "No node of the cluster offers /dev/kvm to KubeVirt: its device plugin counts 0. Nodes that are virtual "
        "machines need vmx or svm from the level below.",
        "`kubectl get nodes -o jsonpath='{.items[*].status.allocatable}'`, and `nestlab doctor` on a node. For a trial "
        "without KVM set useEmulation: true in developerConfiguration of the KubeVirt resource.",
        "kubevirt/kubevirt#1128, #7779; KubeVirt: docs/software-emulation.md",
        "0/1 nodes are available: 1 Insufficient devices.kubevirt.io/kvm, 1 Insufficient devices.kubevirt.io/tun.",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "kvm-group",
        r"/dev/kvm(?:(?!/dev/kvm).){0,80}?(?:permission denied|operation not permitted|access denied|EACCES"
        r"|not (?:readable|writable|accessible))|(?:permission|access) (?:denied|to).{0,40}/dev/kvm"
        r"|Error creating (?:the )?KVM object.{0,20}Permission denied|\bKvm\(Error\(13\)\)|PR_KVM_USER_PERMISSION",
        "/dev/kvm is there, but this user or container may not open it.",
        "`sudo usermod -aG kvm $USER`, then log in anew; for one user: `sudo setfacl -m u:$USER:rw /dev/kvm`. In a "
        "container: `--device /dev/kvm` and `--group-add` of its group.",
        "firecracker: docs/getting-started.md; setfacl(1)",
        "Error: Could not open /dev/kvm: Permission denied (os error 13)",
        Rank.CAUSE,
    ),
    Signature(
        "kvm-device-busy",
        r"/dev/kvm(?:(?!/dev/kvm).){0,60}?(?:resource busy|EBUSY)",
        "/dev/kvm cannot be used: another hypervisor holds the CPU's virtualization.",
        "End VirtualBox's or VMware's guests and unload their modules: `lsmod | grep -E 'vbox|vmmon'`.",
        "linux: virt/kvm/kvm_main.c",
        "failed to open /dev/kvm: Device or resource busy",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "kvm-device-absent",
        r"/dev/kvm(?:(?!/dev/kvm).){0,60}?(?:no such (?:file|device)|not found|not available|missing"
        r"|does(?:n't| not) exist|is not present|ENOENT|ENODEV|unavailable|not detected)"
        r"|(?:no|missing|without|find|needs?|requires?|expects?|access|open"
        r"|stat) (?:the )?(?:device )?'?\"?/dev/kvm\b|KVM support is missing|KVM acceleration cannot be used"
        r"|Error creating (?:the )?KVM object|\bKvm\(Error\(2\)\)|KVM support available: False"
        r"|The KVM module is loaded: no|HypervisorCreate\(|does not support accel kvm|kernel module kvm(?:_intel"
        r"|_amd)? (?:is )?not (?:available|found|loaded)|kvm_(?:intel|amd) kernel module not found"
        r"|kernel property not found|Failed to access virtuali[sz]ation technologies|PR_KVM_UNAVAILABLE",
        "The program finds no /dev/kvm: this CPU has no vmx or svm, the KVM module is not loaded, or this container "
        "was not given the device.",
        "`ls -l /dev/kvm`, then `sudo modprobe kvm_intel` or `kvm_amd` and read what it says; "
        + DOCTOR
        + " For a container: "
        "`--device /dev/kvm`.",
        "firecracker: docs/getting-started.md; GNS3 documentation; Incus: instance types; " + NESTED,
        'Error: instance type "virtual-machine" is not supported: KVM support is missing (no /dev/kvm)',
        below=True,
    ),
    Signature(
        "qemu-built-without-kvm",
        r"invalid accelerator kvm|KVM not supported for this target",
        "This QEMU has no KVM: it is for another architecture than this machine's, or was built without it.",
        "Compare `uname -m` with the program's name (qemu-system-x86_64, qemu-system-aarch64). A guest of another "
        "architecture can only be emulated: -accel tcg.",
        "qemu-system-x86_64(1) (-accel)",
        "qemu-system-x86_64: -accel kvm: invalid accelerator kvm",
        Rank.CAUSE,
    ),
    Signature(
        "kvm-falls-back",
        r"KVM acceleration not available, using 'qemu'|KVM is not available\. This may mean|falling back to (?:tcg"
        r"|software)|Using software emulation|using TCG (?:instead|emulation)|running without KVM|(?:disabled"
        r"|without) KVM acceleration",
        "KVM was not usable here, so the program emulates: the guest runs, ten to twenty times slower.",
        DOCTOR + " If /dev/kvm is there now, restart the program (libvirt looks at its start only).",
        "virt-install(1); libguestfs(3) (LIBGUESTFS_BACKEND_SETTINGS)",
        "WARNING  KVM acceleration not available, using 'qemu'",
        below=True,
    ),
    Signature(
        "firmware-says-off",
        r"Virtualization Enabled In Firmware:\s{1,40}No|VM Monitor Mode Extensions:\s{1,40}No"
        r"|Virtuali[sz]ation(?: is)? disabled in (?:the )?(?:firmware|BIOS|UEFI)"
        r"|enable virtuali[sz]ation in (?:the )?(?:your )?(?:BIOS|UEFI|firmware)"
        r"|hardware assisted virtuali[sz]ation and data execution protection must be enabled"
        r"|virtuali[sz]ation support (?:was |wasn't |is )?not (?:detected|enabled)"
        r"|virtuali[sz]ation (?:technology |extensions? )?(?:\(\w{2,8}\) )?(?:must be|needs to be|should be"
        r"|has to be|to be) (?:enabled|turned on|switched on|activated)",
        "The program sees no VT-x or AMD-V: it is off in the firmware of a real machine, or not given to a virtual "
        "one.",
        "On real hardware switch Intel Virtualization Technology or SVM Mode on in the firmware setup, and power off "
        "and on. In a virtual machine the outer host must give it.",
        "Microsoft: Hyper-V system requirements; Docker Desktop: troubleshooting",
        "                           Virtualization Enabled In Firmware: No",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "no-kvm-in-general",
        r"\bKVM (?:acceleration |support |virtuali[sz]ation |extensions? |kernel modules? )?(?:is |are "
        r"|was )?(?:currently )?(?:not |un|dis)(?:available|supported|enabled|abled|usable|installed|present|found"
        r"|detected|loaded|accessible)|hardware (?:virtuali[sz]ation|acceleration) (?:support |extensions? )?(?:is "
        r"|are )?(?:not |un|dis)(?:available|enabled|abled|supported|present|detected)|VT-x (?:is |are )?(?:not "
        r"|un)(?:available|enabled|supported)|AMD-V (?:is |are )?(?:not |un)(?:available|enabled|supported)"
        r"|AMD-V is disabled in the BIOS|VT-x is disabled in the BIOS|KVM is required"
        r"|KVM isn't (?:available|supported|usable|enabled)|KVM (?:acceleration )?(?:was )?requested but"
        r"|\bKVM: not supported",
        "The program wants hardware virtualization, and finds none on this machine.",
        "`grep -cwE 'vmx|svm' /proc/cpuinfo` and `ls -l /dev/kvm` there: 0 means that the firmware or the level below "
        "does not "
        "give it, a missing or closed /dev/kvm that this system does not. " + DOCTOR,
        NESTED,
        "error: KVM is not available on this system",
        told=Sure.POSSIBLE,
        below=True,
    ),
    Signature(
        "virtualization-not-available",
        r"(?<!I/O )(?<!GPU )(?<!APIC )(?<!Network )(?<!nested )\bvirtuali[sz]ation (?:(?:support|extensions?"
        r"|technology|acceleration) )?(?:is|are|was)(?: currently)? (?:not (?:available|enabled|supported|detected"
        r"|possible)|unavailable|disabled)",
        "The program finds no hardware virtualization on this machine.",
        DOCTOR,
        NESTED,
        "fatal: virtualization is not available on this host",
        told=Sure.POSSIBLE,
        below=True,
    ),
    Signature(
        "nested-not-supported",
        r"nested (?:hardware )?virtuali[sz]ation(?: support)? (?:is |are )?(?:not (?:available|enabled|supported"
        r"|possible)|unavailable|disabled)|(?:does(?:n't| not)|not) support nested virtuali[sz]ation"
        r"|nested (?:VMX|SVM|HVM|EPT|NPT) (?:is )?not (?:supported|available|enabled|possible)"
        r"|nested virtuali[sz]ation isn't (?:available|enabled|supported|possible)"
        r"|(?:cannot|can't|could not|failed to|unable to) (?:enable|use|start|expose) nested virtuali[sz]ation",
        "The host below does not let its guests have guests: its CPU, its version or a setting there keeps nesting "
        "off.",
        "Ask that host: on Linux `cat /sys/module/kvm_*/parameters/nested`; " + DOCTOR,
        NESTED,
        "error: nested virtualization is not supported on this host",
        told=Sure.POSSIBLE,
        below=True,
    ),
    Signature(
        "nova-cpu-differs",
        r"Unacceptable CPU info|CPU doesn't have compatibility",
        "Nova compared the CPU of this compute node with the one that the instance was made for or is moved from, and "
        "this one has less. Nodes that are virtual machines differ as soon as the hosts below them do.",
        "In [libvirt] of nova.conf on all nodes: cpu_mode = custom and cpu_models with one that all of them have "
        "(`virsh domcapabilities`); restart nova-compute, then stop and start the instance. Or move it while it is "
        "off.",
        "OpenStack Nova documentation: CPU models, Live migration; libvirt: virCPUCompareResult",
        "nova.exception.InvalidCPUInfo: Unacceptable CPU info: CPU doesn't have compatibility.",
        told=Sure.LIKELY,
    ),
    Signature(
        "nova-no-valid-host",
        r"No valid host was found|NoValidHost",
        "OpenStack found no compute node for the instance. With KVM missing on the nodes their nova-compute does not "
        "start, or reports no kvm.",
        "`openstack hypervisor list`, and /var/log/nova/nova-compute.log on a node. Nodes without KVM (DevStack in a "
        "virtual machine): virt_type = qemu in [libvirt] of nova.conf.",
        "OpenStack Nova documentation: libvirt virtualization driver",
        "nova.exception_Remote.NoValidHost_Remote: No valid host was found.",
        Rank.SYMPTOM,
    ),
)
