"""Failures of nests by kind, in the words of many programs: which cause is told first, what is said and what is not."""

from __future__ import annotations

import re

import pytest

from nestlab.explain.explain import Explained, explain


def said(found: tuple[Explained, ...]) -> str:
    """All that a reader is told."""
    parts = [word for each in found for word in (each.cause, each.do)]
    parts += [word for each in found if each.below for word in (each.below.way.do, *each.below.way.commands)]
    return " ".join(parts)


KINDS: list[tuple[str, str, str, str, str]] = [
    # kind, text, name of the first signature, what must be said, what must not
    (
        "K2",
        "VBoxManage: error: Host API has not enabled SVME bit in EFER MSR.\n# VBoxManage --version\n7.2.12r174389",
        "virtualbox-host-switch",
        r"7\.2\.10.*[Rr]emove that setting",
        "boot with kvm.enable_virt_at_load=0",
    ),
    (
        "K2",
        "VirtualBox can't operate in VMX root mode. Please disable the KVM kernel extension, recompile your kernel",
        "virtualbox-in-use",
        r"before 7\.2\.10.*enable_virt_at_load=0",
        "firmware",
    ),
    (
        "K2",
        "HM: HMR3Init: Attempting fall back to NEM: VT-x is not available\nNEM: WHvCapabilityCodeHypervisorPresent is "
        'TRUE, so this might work...\nGUI: "Nested VT-x/AMD-V" is disabled because execution is through the native API',
        "virtualbox-on-hyperv",
        "hypervisorlaunchtype off.*ExposeVirtualizationExtensions",
        "HypervisorPlatform",
    ),
    (
        "K2",
        "HM: HMR3Init: Attempting fall back to NEM: AMD-V is not available\nVERR_NEM_NOT_AVAILABLE",
        "whpx-missing",
        "HypervisorPlatform",
        "",
    ),
    (
        "K3",
        "$ kvm-ok\nINFO: Your CPU does not support KVM extensions\n# modprobe kvm_intel\nmodprobe: FATAL: Module "
        "kvm_intel not found in directory /lib/modules/5.15.153.1-microsoft-standard-WSL2",
        "cpu-without-virtualization",
        "wsl --update.*Windows 11 only",
        "linux-image-amd64",
    ),
    (
        "K4",
        "An error occurred (InvalidParameterCombination) when calling the RunInstances operation: The nested "
        "virtualization CPU option is not supported for the instance type 'm7i.xlarge'.",
        "ec2-type-does-not-nest",
        "8th generation",
        "",
    ),
    (
        "K5",
        "qemu-system-x86_64: Could not access KVM kernel module: Operation not permitted\nqemu-system-x86_64: failed "
        "to initialize KVM: Operation not permitted",
        "container-without-kvm",
        "--dev0 /dev/kvm.*c 10:232",
        "firmware",
    ),
    (
        "K5",
        "ERROR: failed to create cluster: running kind with rootless provider requires setting systemd property "
        '"Delegate=yes", see https://kind.sigs.k8s.io/docs/user/rootless/',
        "rootless-not-delegated",
        "Delegate=cpu",
        "",
    ),
    (
        "K11",
        "unsupported configuration: CPU mode 'host-passthrough' for aarch64 kvm domain on x86_64 host is not supported "
        "by hypervisor",
        "libvirt-foreign-guest",
        "image for x86_64",
        "restart libvirtd",
    ),
    (
        "K11",
        'prlctl set "Ubuntu" --nested-virt on\nNested virtualization is not supported on this computer.\nNested '
        "virtualization isn't supported on Mac computers with Apple silicon.",
        "apple-nested",
        "Intel Macs only",
        "qm set",
    ),
    (
        "K11",
        "ls: cannot access '/dev/kvm': No such file or directory\n[    0.061418] kvm [1]: HYP mode not available\n"
        "Error: Error creating KVM object: No such file or directory (os error 2)",
        "arm-hyp-mode",
        "no vmx or svm",
        "firmware setup",
    ),
    (
        "K14",
        "nova.exception.InvalidCPUInfo: Unacceptable CPU info: CPU doesn't have compatibility.",
        "nova-cpu-differs",
        "cpu_models",
        "",
    ),
    ("K2", 'GRUB_CMDLINE_LINUX="quiet kvm.enable_virt_at_load=0"', "virt-at-load-off", "7.2.10", "firmware"),
    ("K2", "KVM: entry failed, hardware error 0x0", "kvm-entry-beside-virtualbox", "VirtualBox", "ept"),
    ("K2", "Could not open /dev/vmmon: No such file or directory.", "vmware-monitor-mode", "6.12", "VirtualBox"),
    (
        "K3",
        "Hypervisor launch failed; Either SVM not present or not enabled in BIOS.",
        "hyperv-launch-failed",
        "CPU",
        "",
    ),
    (
        "K3",
        "wsl: Unknown key 'wsl2.nestedVirtualization' in C:\\Users\\kai\\.wslconfig:4",
        "wsl-nested-unknown-key",
        "wsl --update",
        "",
    ),
    (
        "K3",
        "Start-VM : 'lab' failed to start. Virtual machine 'lab' could not be started because the hypervisor is not "
        "running.",
        "hyperv-not-running",
        "hypervisorlaunchtype auto",
        "",
    ),
    (
        "K3",
        "Set-VMProcessor : Cannot modify: The operation cannot be performed while the object is in its current state.",
        "hyperv-state",
        "Stop-VM",
        "",
    ),
    ("K3", "    Second Level Address Translation: No", "hyperv-no-slat", "EPT or NPT", ""),
    (
        "K3",
        "Module 'HV' power on failed.\nFailed to start the virtual machine.",
        "vmware-no-nesting",
        "vhv.enable|hypervisorlaunchtype off",
        "",
    ),
    ("K3", "qemu-system-x86_64.exe: WHPX: No accelerator found, hr=00000000", "whpx-missing", "HypervisorPlatform", ""),
    (
        "K5",
        "runc run failed: unable to start container process: reopen fd 9: permission denied",
        "container-reopen-denied",
        "AppArmor.*outer host",
        "",
    ),
    ("K5", "kata: failed to load vhost_vsock: Device or resource busy", "vsock-busy", "vmw_vsock", ""),
    (
        "K5",
        "write /proc/self/attr/apparmor/exec: no such file: apparmor failed to apply profile",
        "docker-apparmor-profile",
        "nesting",
        "",
    ),
    (
        "K5",
        "systemd-resolved.service: Failed to set up mount namespacing: /run/systemd/unit-root: Permission denied",
        "container-no-nesting",
        "nesting=1",
        "",
    ),
    (
        "K5",
        "failed to mount overlay: operation not permitted storage-driver=overlay2",
        "container-overlay",
        "fuse-overlayfs",
        "",
    ),
    ("K5", "open /dev/kmsg: no such file or directory", "container-kmsg", "kubelet", ""),
    (
        "K6",
        "modprobe: can't load module kvm_intel (kernel/arch/x86/kvm/kvm-intel.ko.xz): Input/output error",
        "kvm-intel-lacks-vmx",
        "outer hypervisor|level below",
        "End VirtualBox",
    ),
    ("K6", "VMM: vCPU thread: Unexpected VM exit: Shutdown\ntriple fault", "vmm-triple-fault", "level below", ""),
    ("K6", "vcpu 0: FailEntry(0x80000021, 0)", "vmm-fail-entry", "outer level", ""),
    (
        "K6",
        "00:02:11 !!  VCPU0: Guru Meditation -2301 (VERR_VMX_INVALID_GUEST_STATE)",
        "virtualbox-nested-paging-fault",
        "outer",
        "",
    ),
    ("K6", "kvm: vmwrite failed: field=6810 val=0 err=12", "vmx-instruction-failed", "level below", ""),
    ("K6", "error: Failed to put registers after reset: Invalid argument", "kvm-put-registers", "saved or moved", ""),
    (
        "K7",
        "vfio_dma_map(0x55, 0x100000000, 0x180000000, 0x7f) = -12 (Cannot allocate memory)",
        "vfio-locked-memory",
        "ulimit -l|hard_limit",
        "add memory",
    ),
    ("K7", "VFIO_MAP_DMA failed: Cannot allocate memory", "vfio-locked-memory", "locked memory", "add memory"),
    (
        "K7",
        "error: internal error: cannot limit locked memory of process 4127 to 9663676416: Operation not permitted",
        "vfio-locked-memory",
        "hard_limit",
        "",
    ),
    (
        "K7",
        "Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.",
        "viommu-caching-mode",
        "caching_mode='on'",
        "",
    ),
    (
        "K7",
        "qemu: Intel Interrupt Remapping cannot work with kernel-irqchip=on, please use 'split|off'.",
        "viommu-irqchip",
        "split",
        "",
    ),
    (
        "K8",
        "clocksource: timekeeping watchdog on CPU2: hpet wd-wd read-back delay of 161200ns",
        "clocksource-watchdog-slow",
        "Harmless.*tsc=",
        "fail",
    ),
    ("K8", "mon.b: clock skew detected on mon.c", "clock-skew", "chronyc makestep", ""),
    ("K8", "tsc: Marking TSC unstable due to check_tsc_sync_source failed", "tsc-unstable", "kvm-clock", ""),
    (
        "K9",
        "debug1: SSH2_MSG_KEXINIT received\ndebug1: expecting SSH2_MSG_KEX_DH_GEX_GROUP\n",
        "mtu-ssh-stands",
        "MTU",
        "",
    ),
    ("K9", "ping: sendmsg: Message too long", "mtu-told", "MTU", ""),
    ("K9", "* TLSv1.3 (OUT), TLS handshake, Client hello (1):\n", "tls-stands", "MTU", ""),
    ("K9", "Sent 4 probes (4 broadcast(s))\nReceived 0 response(s)", "arp-unanswered", "MacAddressSpoofing", ""),
    ("K9", "dhclient[411]: 7 bad udp checksums in 7 packets", "udp-checksum", "ethtool -K", ""),
    (
        "K10",
        "bootloader setup errors:\n - unable to install the EFI boot loader on '/dev/vda'",
        "pve-bootloader",
        "install-low-level-start-session.log",
        "",
    ),
    (
        "K10",
        "Please enter superuser (root) password for '10.0.0.11': EOF while reading password",
        "join-no-terminal",
        "--use_ssh",
        "",
    ),
    (
        "K10",
        "Command: /sbin/zpool import -N 'rpool'\nMessage: cannot import 'rpool' : no such pool available\nFailed to "
        "import pool 'rpool'.",
        "zfs-pool-not-found",
        "zpool import",
        "",
    ),
    ("K10", "cannot import 'rpool': more than one matching pool", "zfs-pool-of-another", "number", ""),
    (
        "K10",
        "WARNING: Found duplicate PV 8mQ1: using /dev/sda3 not /dev/sdb3",
        "clone-duplicate-volumes",
        "vgimportclone",
        "",
    ),
    (
        "K11",
        "qemu-system-aarch64: mach-virt: HVF does not support providing Virtualization extensions to the guest CPU",
        "arm-no-el2-for-guest",
        "kvm-arm.mode=nested",
        "vmx",
    ),
    (
        "K11",
        "[    0.20] CPU: All CPU(s) started at EL1\n[    0.30] kvm [1]: HYP mode not available",
        "arm-hyp-mode",
        "EL2",
        "firmware setup",
    ),
    (
        "K11",
        "modprobe: FATAL: Module kvm_amd not found in directory /lib/modules/6.8.0-1018-raspi",
        "arm-no-such-module",
        "ARM",
        "",
    ),
    (
        "K11",
        "PANIC: Avd's CPU Architecture 'x86_64' is not supported by the QEMU2 emulator on aarch64 host.",
        "arm-foreign-guest",
        "arm64",
        "",
    ),
    ("K11", 'time=12 level=fatal msg="nested virtualization requires macOS 15 or newer"', "apple-nested", "M3", ""),
    ("K12", "(XEN) arch/x86/domain.c: Nested virt not supported without HAP", "xen-nested-needs-hap", "EPT or NPT", ""),
    ("K12", "Error code: VM_HVM_REQUIRED\nError parameters: OpaqueRef:12", "xen-hvm-required", "virt_caps", ""),
    (
        "K12",
        "kldload: an error occurred while loading module vmm. Please check dmesg(8) for more details.",
        "bhyve-no-vmx",
        "never nests",
        "",
    ),
    (
        "K14",
        "/usr/bin/kvm -id 104 -cpu 'kvm64,enforce,+vmx,+kvm_pv_eoi' -m 4096",
        "cpu-generic-with-vmx",
        "--cpu host",
        "",
    ),
    ("K14", "cpu: x86-64-v2-AES,flags=+nested-virt;+vmx", "cpu-generic-with-vmx", "real vendor", ""),
    ("K14", "  <feature policy='force' name='svm'/>", "cpu-feature-by-hand", "host-passthrough", ""),
    ("K14", "args: -cpu kvm64,+svm", "cpu-generic-with-vmx", "--cpu host", ""),
    (
        "K14",
        "net0: virtio=BC:24:11:00:00:01,bridge=vmbr1,firewall=1,tag=20",
        "pve-nested-card-firewall",
        "macfilter",
        "",
    ),
    ("K3", "Error code: Wsl/Service/CreateVm/HCS/0x80370109", "hyperv-hcs", "VirtualMachinePlatform", ""),
    ("K3", "Nested virtualization is not supported on AMD processors.", "hyperv-amd-version", "Server 2022", ""),
    (
        "K4",
        "(InvalidParameterCombination) NestedVirtualization is not supported for t3.large",
        "ec2-type-does-not-nest",
        "C8i",
        "run-instances",
    ),
    (
        "K4",
        "Nested virtualization is not supported on machine type n2d-standard-4",
        "gce-type-does-not-nest",
        "set-machine-type",
        "",
    ),
    ("K4", "Constraint compute.disableNestedVirtualization violated", "gce-policy-forbids-nesting", "policy", ""),
    ("K4", "Unknown options: --nested-virtualization, enabled", "ec2-tool-too-old", "Update", ""),
    (
        "K5",
        "apparmor_parser: Access denied. You need policy admin privileges to manage profiles.",
        "docker-apparmor-profile",
        "nesting",
        "",
    ),
    (
        "K5",
        "Failed to start ContainerManager: open /proc/sys/vm/overcommit_memory: permission denied",
        "container-sysctl",
        "host",
        "",
    ),
    (
        "K6",
        "A fault has occurred causing a virtual CPU to enter the shutdown state.",
        "vmm-triple-fault",
        "level below",
        "",
    ),
    ("K6", "error: kvm run failed Invalid argument", "kvm-run-failed", "level below", ""),
    ("K8", "[Firmware Bug]: TSC ADJUST differs within socket(s), fixing all errors", "tsc-adjust", "Harmless", ""),
    ("K9", "5 packets transmitted, 0 received, 100% packet loss, time 4093ms", "ping-lost", "MAC.*MTU", ""),
    (
        "K11",
        "kvm [1]: FEAT_NV2 not supported, kvm-arm.mode=nested ignored",
        "arm-no-nv2",
        "one level nothing is missing",
        "vmx",
    ),
    ("K12", "(XEN) domain_crash called from arch/x86/hvm/svm/nestedsvm.c:870", "xen-nested-crash", "experimental", ""),
    (
        "K14",
        "warning: This feature depends on other features that were not requested: MSR(48DH).vmx-rdrand-exit",
        "cpu-feature-depends",
        "-cpu host",
        "",
    ),
    (
        "K1",
        "error: a 'x86_64-linux' with features {kvm} is required to build '/nix/store/1-vm.drv', but I am a "
        "'x86_64-linux' with features {benchmark, big-parallel}",
        "nix-no-kvm",
        "/dev/kvm.*nix-daemon",
        "",
    ),
    (
        "K1",
        "  QEMU: Checking if device /dev/kvm exists               : FAIL (Check that the 'kvm-intel' or 'kvm-amd' "
        "modules"
        " are loaded)\n  QEMU: Checking for device assignment IOMMU support     : WARN (No ACPI DMAR table found)",
        "kvm-device-missing",
        "modprobe",
        "",
    ),
    (
        "K1",
        "Incompatible Windows settings: hardware-assisted virtualization must be enabled in BIOS",
        "firmware-says-off",
        "In a virtual machine the outer host",
        "",
    ),
    (
        "K2",
        "VBoxManage: error: The machine 'n1' is already locked for a session (or being unlocked)",
        "virtualbox-machine-locked",
        "powered off",
        "",
    ),
    (
        "K3",
        "Set-VMProcessor : A parameter cannot be found that matches parameter name 'ExposeVirtualizationExtensions'.",
        "hyperv-too-old-to-nest",
        "1607.*Windows 11",
        "",
    ),
    (
        "K3",
        "Linux box 6.6.87.2-microsoft-standard-WSL2\nINFO: KVM (vmx) is disabled by your BIOS\nKVM acceleration can "
        "NOT "
        "be used",
        "firmware-locks",
        "Windows 11",
        "",
    ),
    (
        "K4",
        " - Invalid value for field 'resource.advancedMachineFeatures.enableNestedVirtualization': 'true'. Nested "
        "virtualization is not supported for machine type n2d-standard-4.",
        "gce-type-does-not-nest",
        "set-machine-type",
        "aws",
    ),
    (
        "K5",
        'ERROR: failed to create cluster: could not find a log line that matches "Reached target .*Multi-User"',
        "kind-node-not-booted",
        "nesting",
        "",
    ),
    (
        "K5",
        "Cannot open TUN/TAP dev /dev/net/tun: No such file or directory (errno=2)",
        "tun-not-permitted",
        "--dev",
        "",
    ),
    (
        "K6",
        "<vcpu0> ERROR:vmm/src/cpu.rs:921 -- VCPU generated error: Failed to run the VCPU: VcpuRun(Bad address)",
        "vmm-internal-error",
        "outer level",
        "",
    ),
    (
        "K7",
        "vfio: failed to setup container for group 9: No available IOMMU models",
        "vfio-no-iommu-backend",
        "iommu",
        "",
    ),
    ("K7", "Error code: VM_REQUIRES_IOMMU", "host-no-passthrough", "VT-d", ""),
    (
        "K8",
        "clocksource: timekeeping watchdog on CPU3: acpi_pm retried 3 times before success",
        "clocksource-watchdog-slow",
        "Harmless",
        "",
    ),
    (
        "K8",
        "corosync[871]:   [MAIN  ] Corosync main process was not scheduled (@1) for 4021.5 ms (threshold is 2920.0 ms)",
        "corosync-not-scheduled",
        "steal",
        "",
    ),
    ("K5", "systemd-nspawn: Failed to clone(): Operation not permitted", "container-no-nesting", "nesting", ""),
    ("K5", "vhost-net requested but could not be initialized", "vhost-net-missing", "vhost_net", ""),
    (
        "K10",
        "error: failed to fetch answer file: Failed to connect to https://10.0.2.2:8443/answer: certificate verify "
        "failed",
        "pve-answer-certificate",
        "--cert-fingerprint",
        "",
    ),
    ("K4", "Nested virtualization isn't supported on instance type t3.micro", "ec2-type-does-not-nest", "C8i", ""),
    ("K4", "unrecognized arguments: --enable-nested-virtualization", "gce-tool-too-old", "components update", ""),
    (
        "K4",
        "Standard_D4s_v5: the security type 'TrustedLaunch' does not support nested virtualization",
        "azure-trusted-launch",
        "--security-type Standard",
        "size does not nest",
    ),
    ("K6", "The host CPU does not support VMX unrestricted guest", "ept-off", "unrestricted_guest", "neither vmx"),
    ("K6", "nested_vmx: VM-Entry failed due to invalid guest state", "vmm-fail-entry", "outer level", ""),
    ("K12", "xc: error: nested virt enabled but HAP disabled", "xen-nested-needs-hap", "EPT or NPT", ""),
    ("K6", "emulation failure\nEAX=00000000 EBX=00000000 EIP=000e81a2", "kvm-emulation-failure", "ept", ""),
    ("K6", "kvm_set_msr_common: MSR_IA32_DEBUGCTLMSR 0x1, nop", "unhandled-msr", "ignore_msrs", ""),
    ("K3", "Hypervisor has failed: 0xC0350005 (STATUS_HV_INVALID_PARAMETER)", "hyperv-status", "host's CPU", ""),
    ("K3", "VM worker: HypervisorError 0xc035000b", "hyperv-memory", "less", ""),
    ("K3", "Failed to Power on: (0xC035001E)", "hyperv-needs-a-feature", "VT-d", ""),
    ("K3", "Windows Sandbox failed to start. Error 0xc0351000.", "hyperv-hcs", "bcdedit", ""),
    ("K9", "e1000e 0000:00:1f.6 eno1: Detected Hardware Unit Hang", "card-unit-hang", "virtio", ""),
    ("K9", "kernel: br0: received tcn bpdu, propagating", "spanning-tree-change", "stp_state", ""),
    ("K10", "cluster [WRN] Health check failed: 1/3 mons down, quorum pve1,pve3 (MON_DOWN)", "ceph-mon-down", "", ""),
    (
        "K10",
        "Could not connect to ceph cluster despite configured monitors (500)",
        "ceph-mon-no-quorum",
        "mon_status",
        "",
    ),
    ("K10", "mon.pve2 ... Health check failed: clock skew detected on mon.pve3", "clock-skew", "", ""),
    ("K9", "heartbeat_check: no reply from 10.0.0.3:6804 osd.2 ever on either front", "ceph-osd-no-reply", "MTU", ""),
    ("K11", "UTM: QEMU error: Error: ret = HV_ERROR (0xfae94001)", "hvf-refused", "hv_vmm_present", ""),
    ("K11", "hv_vm_create failed: HV_BUSY (0xfae94002)", "hvf-refused", "other machines", ""),
    (
        "K11",
        "qemu-system-aarch64: kvm_init_vcpu: kvm_get_vcpu failed (0): Device or resource busy",
        "vcpu-after-gic",
        "-smp",
        "",
    ),
    ("K11", "kvm_init_vcpu: kvm_create_vcpu failed (9): Invalid argument", "vcpu-not-made", "gic-version", ""),
    ("K11", "Error: Failed to create vcpu: Invalid argument (os error 22)", "vcpu-not-made", "-smp 1", ""),
    ("K12", "VM_INCOMPATIBLE_WITH_THIS_HOST(OpaqueRef:1, OpaqueRef:2)", "xen-cpu-features", "start it", ""),
    ("K1", "Your system does not support KVM virtualization extensions", "needs-cpu-virtualization", "doctor", ""),
    (
        "K2",
        "VirtualBox 7.2.14: VERR_SVM_IN_USE, Linux 6.18",
        "virtualbox-in-use",
        "From 7.2.10 on a guest of KVM or VMware runs right now",
        "firmware",
    ),
    ("K2", "modprobe vboxdrv failed. Please use 'dmesg' to find out why", "virtualbox-driver", "vboxconfig", ""),
    ("K2", "vmmon: Monitor mode: VMX already in use", "vmware-monitor-mode", "6.12", "VirtualBox"),
    ("K3", "error: nested VMX not supported for this domain", "nested-not-supported", "nested", ""),
    ("K1", "No support for KVM virtualization detected. Check BIOS settings", "needs-cpu-virtualization", "doctor", ""),
    ("K1", "qemu-system-x86_64: unable to find CPU model 'host'", "cpu-host-needs-kvm", "KVM", "misspelled"),
    ("K4", "Machine type c3d-standard-8 doesn't support nested virtualization.", "gce-type-does-not-nest", "n2", "aws"),
    (
        "K5",
        "cannot clone: Invalid argument\nuser namespaces are not enabled in /proc/sys/user/max_user_namespaces",
        "user-namespaces-off",
        "host",
        "",
    ),
    ("K5", "failed to add the host <=> sandbox pair interfaces: operation not supported", "lxc-no-veth", "veth", ""),
    ("K5", "net.bridge.bridge-nf-call-iptables: No such file or directory", "container-iptables", "br_netfilter", ""),
    ("K6", "kernel BUG at arch/x86/kvm/x86.c:402!", "kvm-nested-warning", "Update this kernel", ""),
    ("K6", "kvm [1]: vcpu0 unimplemented wrmsr: 0xc0010117 data 0x0", "unhandled-msr", "ignore_msrs", ""),
    (
        "K7",
        "vfio-pci 0000:01:00.0: BAR 1: can't reserve [mem 0xe0000000-0xefffffff 64bit pref]",
        "vfio-memory-of-the-console",
        "sysfb_init",
        "",
    ),
    ("K7", "DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR", "vfio-rmrr", "firmware", ""),
    ("K8", "smpboot: do_boot_cpu failed(-1) to wakeup CPU#1", "cpu-not-started", "steal", ""),
    ("K8", "hpet: HPET dysfunctional in PC10. Force disabled.", "virtual-hardware-notice", "harmless", ""),
    ("K9", "IP 10.0.0.1 > 10.0.0.2: ICMP 10.0.0.9 unreachable - need to frag (mtu 1400)", "mtu-told", "MTU", ""),
    (
        "K10",
        "got timeout when trying to ensure cluster certificates and base file hierarchy is set up - no quorum (yet) or "
        "hung pmxcfs?",
        "waiting-for-quorum",
        "5405",
        "",
    ),
    ("K10", "Error: TOML parse error at line 3, column 1", "pve-answer-toml", "validate-answer", ""),
    ("K11", "nestedVirtualization is only supported on macOS 15 or newer, and M3", "apple-nested", "M3", "vmx"),
    ("K12", "xencall: error: Could not obtain handle on privileged command interface", "xen-not-dom0", "control_d", ""),
    ("K12", "libxl: error: Domain 3: device model did not start: -1", "xen-device-model", "qemu-dm-", ""),
    (
        "K12",
        "The installer found missing features: HVM/VT-x/AMD-V, Interrupt Remapping",
        "qubes-no-hvm",
        "firmware",
        "",
    ),
    (
        "K14",
        "<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>Haswell-noTSX</model>\n  <feature "
        "policy='disable' "
        "name='vmx'/>\n</cpu>",
        "cpu-flag-off",
        "vmx is taken from the CPU",
        "added",
    ),
    (
        "K11",
        "qemu-system-aarch64: Initialization of device kvm-arm-gicv3 failed: error creating in-kernel VGIC: No such "
        "device",
        "arm-gic",
        "gic-version=host",
        "",
    ),
]


@pytest.mark.parametrize(
    ("text", "name", "must", "mustnot"), [row[1:] for row in KINDS], ids=[f"{row[0]}-{row[2]}" for row in KINDS]
)
def test_a_kind_of_failure_is_told_by_its_cause_first(text: str, name: str, must: str, mustnot: str) -> None:
    found = explain(text)
    assert found[0].signature.name == name
    assert re.search(must, said(found), re.DOTALL)
    assert not mustnot or mustnot not in said(found)


def test_a_specific_line_comes_before_general_and_harmless_ones() -> None:
    log = """\
[    1.41] piix4_smbus 0000:00:01.3: SMBus Host Controller not enabled!
[    1.90] clocksource: Watchdog hpet read timed out. Readout sequence took: 61000ns
ssh: connect to host 10.0.0.11 port 22: Connection refused
fork: Cannot allocate memory
KVM acceleration can NOT be used
[    9.11] x86/cpu: VMX (outside TXT) disabled by BIOS
"""
    first, *rest = explain(log)
    assert first.signature.name == "firmware-locks-vmx"
    assert first.sure.startswith("certain")
    general = {each.signature.name: each.sure for each in rest}
    assert general["connection-refused"].startswith("possible: a general error")
    assert general["kvm-ok-cannot"].startswith("follows from")
    assert general["virtual-hardware-notice"] == "no failure by itself"


def test_a_general_error_that_stands_alone_is_told_as_possible() -> None:
    (alone,) = explain("fork: Cannot allocate memory")
    assert alone.sure == "possible: there are other causes"


@pytest.mark.parametrize(
    "text",
    [
        "debug1: expecting SSH2_MSG_KEX_ECDH_REPLY\ndebug1: SSH2_MSG_KEX_ECDH_REPLY received\ndebug1: "
        "SSH2_MSG_NEWKEYS sent",
        "TLS handshake, Client hello (1):\nTLS handshake, Server hello (2):",
        "ARP, Request who-has 10.0.0.1 tell 10.0.0.2\nARP, Reply 10.0.0.1 is-at 52:54:00:00:00:01",
        "INFO: /dev/kvm exists\nKVM acceleration can be used",
        "cpu: EPYC-v4,flags=+nested-virt",
        "qemu-system-x86_64 -accel kvm -cpu host,migratable=off -m 2048",
        "crw-rw---- 1 root kvm 10, 232 Nov 24 08:12 /dev/kvm",
        "nested virtualization is enabled",
        "virtualization: kvm",
        "options kvm enable_virt_at_load=1",
        "tcpdump: listening on ens18",
        "adduser: user is already a member of the KVM group",
        "kvm-pvm: triple fault delivering vec=8 err=0 cpl=3",
        "RLIMIT_MEMLOCK unlimited",
        "<domainCapabilities>\n<cpu>\n<feature policy='require' name='vmx'/>\n</cpu>\n</domainCapabilities>",
    ],
)
def test_what_went_on_or_is_well_is_not_explained_as_a_failure(text: str) -> None:
    assert [each.signature.name for each in explain(text)] == []


def test_lines_made_to_be_slow_are_read() -> None:
    for piece in (
        "/dev/kvm ",
        "KVM is ",
        "virtualization is ",
        "vfio 0000:01:00.0 ",
        "-cpu kvm64,+",
        "mach-virt: ",
        'apparmor="DENIED" operation="x" ',
    ):
        explain(piece * 10_000)
        explain((piece + "\n") * 10_000)
        explain((piece * 20 + "\n") * 500)
