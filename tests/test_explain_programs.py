"""Programs that need KVM and find none: each says it in its own words, and every one is understood."""

from __future__ import annotations

import re

import pytest

from nestlab.explain.explain import explain

NO_KVM = [
    ("error: instance of type virtual-machine: KVM support is missing (no /dev/kvm)", "kvm-device-absent"),
    ("[cloud-hypervisor] Error booting VM: HypervisorCreate(VmCreate(No such file or directory))", "kvm-device-absent"),
    ("crosvm: failed to open KVM device /dev/kvm: No such file or directory (os error 2)", "kvm-device-absent"),
    ("Running Firecracker v1.9.1\nBuild microVM: Error creating KVM object: No such file", "kvm-device-absent"),
    (
        "KVM acceleration cannot be used (/dev/kvm doesn't exist). Turn off KVM in the gns3_server.conf",
        "kvm-device-absent",
    ),
    ("  KVM support available: False", "kvm-device-absent"),
    ("• The KVM module is loaded: no", "kvm-device-absent"),
    ("qemu-system-x86_64: -accel kvm: Could not access KVM kernel module: Permission denied", "kvm-device-forbidden"),
    ("cloud-hypervisor: cannot open /dev/kvm: Permission denied (os error 13)", "kvm-group"),
    ("libguestfs: warning: current user is not a member of the KVM group (group ID 36)", "user-not-in-kvm-group"),
    ("emulator: CPU acceleration status: Could not open /dev/kvm : Is a directory", "kvm-device-is-a-directory"),
    ("ERROR: neither Intel VT-x or AMD-V found", "needs-cpu-virtualization"),
    ("• The CPU is capable of virtualization: no", "needs-cpu-virtualization"),
    ("X Exiting due to HOST_VIRT_UNAVAILABLE: Failed to start host: creating host", "needs-cpu-virtualization"),
    (
        'level=error msg="CPU property not found" description="Virtualization support" name=vmx',
        "needs-cpu-virtualization",
    ),
    ("No support for hardware-accelerated KVM virtualization detected.", "needs-cpu-virtualization"),
    ('Error: CPU virtualization support is required for node "r1" (cisco_xrv9k)', "needs-cpu-virtualization"),
    ("Virtualization extensions are unavailable on your system. Check your BIOS settings", "needs-cpu-virtualization"),
    ("hardware emulation device '/dev/kvm' not present", "kubevirt-no-kvm"),
    (
        "ERROR    Host does not support domain type kvm for virtualization type 'hvm' with arch 'x86_64'",
        "libvirt-no-kvm",
    ),
    ("error: invalid argument: KVM is not supported by '/usr/bin/qemu-system-x86_64' on this host", "libvirt-no-kvm"),
    (
        "Error saving the server: Call to virDomainDefineXML failed: no supported architecture for os type 'hvm'",
        "libvirt-no-kvm",
    ),
    ("==> qemu: KVM acceleration not available, using 'qemu'", "kvm-falls-back"),
    ("checking virtualization: KVM is not enabled on host", "no-kvm-in-general"),
    ("Hardware acceleration is not available: Hypervisor not found", "no-kvm-in-general"),
    ("VT-x is not available on this machine", "no-kvm-in-general"),
    ("fatal: hardware virtualization is not supported", "no-kvm-in-general"),
    ('WARN[0000] [hostagent] QEMU "/usr/bin/qemu-system-x86_64" does not support accel kvm', "kvm-device-absent"),
    ('level=error msg="arch requirements not met" error="kernel module kvm_amd not available"', "kvm-device-absent"),
    ("Error: Failed to start the instance: KVM isn't available", "no-kvm-in-general"),
    ("qemu-system-x86_64: -machine q35,accel=kvm: No accelerator found", "kvm-refused"),
    ("error: CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported", "libvirt-no-kvm"),
    ("systemd-vmspawn: KVM acceleration requested but not supported by this system.", "no-kvm-in-general"),
    ("zoneadm: HVM support is not available", "needs-cpu-virtualization"),
    ("Your system: virtualization is not enabled", "virtualization-not-available"),
]


@pytest.mark.parametrize(("text", "name"), NO_KVM, ids=[text[:40] for text, _ in NO_KVM])
def test_any_program_that_finds_no_kvm_is_understood(text: str, name: str) -> None:
    found = explain(text)
    assert found[0].signature.name == name
    assert re.search(r"/dev/kvm|vmx|svm|nestlab doctor", " ".join(f"{each.cause} {each.do}" for each in found))
