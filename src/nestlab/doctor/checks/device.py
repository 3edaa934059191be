"""Checks of /dev/kvm: is it there, and may this user open it?"""

from __future__ import annotations

from nestlab.doctor.checks import questions
from nestlab.doctor.checks.register import Voice, checks
from nestlab.doctor.finding import Finding, Want
from nestlab.hosts.facts import Facts

DEVICE = Voice("device", "device")
ACCESS = Voice("access", "device")
VHOST = Voice("vhost", "device")
TUN = Voice("tun", "device")
CGROUPS = Voice("cgroups", "device")

_WANTED = ("cpu", "cpuset", "memory", "io")
"""The cgroup controllers for the limits that libvirt and PVE give guests. Version 1 calls io blkio. (Devices are built
into version 2.)"""

_RULE = 'KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"'


@checks(*DEVICE)
def device(facts: Facts, want: Want) -> Finding | None:
    """/dev/kvm exists"""
    if facts.kvm.opened or facts.device.exists:
        return DEVICE.ok("/dev/kvm is there")
    absent = facts.examined or "No such file" in facts.kvm.error
    if not absent:
        return DEVICE.note(
            "Unknown: whether /dev/kvm exists was not seen", "It is the door to KVM.", "Look.", "ls -l /dev/kvm"
        )
    if kind := questions.container(facts):
        how = {
            "lxc": ("pct set CTID --dev0 /dev/kvm",),
            "podman": ("podman run --device /dev/kvm …",),
            "docker": ("docker run --device /dev/kvm …",),
            "systemd-nspawn": ("systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw' …",),
        }.get(kind, ())
        has = f", though its host has {facts.provider} loaded" if facts.provider else ""
        return DEVICE.fail(
            f"/dev/kvm is not in this container ({kind}){has}",
            "A container has only the devices it was given; without this one its QEMU emulates.",
            "Give it the device, on the container's host (as root there).",
            *how,
        )
    if facts.provider:
        return DEVICE.fail(
            f"/dev/kvm is missing, though {facts.provider} is loaded",
            "It is the door to KVM; udev or devtmpfs should have made it (character device 10:232).",
            "Make it.",
            "mknod -m 660 /dev/kvm c 10 232 && chgrp kvm /dev/kvm",
        )
    if questions.arm(facts):
        said = next((f": the kernel says `{each.strip()}`" for each in facts.messages if "HYP mode" in each), "")
        return DEVICE.fail(
            f"/dev/kvm is missing{said}",
            "On ARM, KVM is part of the kernel and works where the kernel was started at EL2.",
            "The hypervisor below has to lend EL2 to this machine; few can."
            if questions.machine(facts)
            else "The firmware or boot loader has to start the kernel at EL2, with a device tree or ACPI that says so.",
            "dmesg | grep -i kvm",
        )
    return DEVICE.fail(
        "/dev/kvm is missing",
        "It is the door to KVM, and appears when kvm_intel or kvm_amd is loaded."
        if questions.x86(facts)
        else "It is the door to KVM, and appears when the kernel's KVM for this architecture is loaded.",
        "Mend what the layers before this one say first.",
    )


@checks(*ACCESS)
def access(facts: Facts, want: Want) -> Finding | None:
    """This user may open /dev/kvm"""
    if facts.kvm.opened:
        return ACCESS.ok(f"{facts.user or 'this user'} can open /dev/kvm")
    if not facts.device.exists:
        return None  # `device` says it
    found = facts.device
    rights = f"{found.mode:04o} {found.owner or '?'}:{found.group or '?'}"
    said = facts.kvm.error or "it could not be opened"
    what = f"{facts.user or 'This user'} cannot open /dev/kvm ({rights}): {said.removeprefix('/dev/kvm: ')}"
    why = "Without it QEMU refuses `-accel kvm`, or emulates without saying so."
    user = facts.user or "USER"
    if facts.uid == 0 or "Operation not permitted" in said:
        do = "Permission bits are not the reason: " + (
            "the container's device rules are; allow the device on its host."
            if questions.container(facts)
            else "look for device rules (cgroups, SELinux, AppArmor) and the kernel's messages."
        )
        return ACCESS.fail(what, why, do)
    if "ermission denied" not in said and facts.kvm.error:
        return ACCESS.fail(what, why, "Look for the reason in the kernel's messages.", "dmesg | grep -i kvm")
    if found.mode & 0o060 != 0o060 or found.group in ("", "root"):
        do = "Give it to the group kvm, which udev keeps so; then add the user to it and log in again. As root:"
        now = "groupadd -rf kvm && chgrp kvm /dev/kvm && chmod 660 /dev/kvm"
        rule = f"[ ! -d /etc/udev/rules.d ] || echo '{_RULE}' > /etc/udev/rules.d/65-kvm.rules"
        return ACCESS.fail(what, why, do, now, rule, f"usermod -aG kvm {user}")
    if found.group in facts.groups:
        return ACCESS.fail(what, why, f"{user} is in group {found.group} only since it logged in: log in again.")
    do = f"Add {user} to the group {found.group}, then log in again."
    return ACCESS.fail(what, why, do, f"usermod -aG {found.group} {user}")


@checks(*VHOST)
def vhost(facts: Facts, want: Want) -> Finding | None:
    """/dev/vhost-net, for guests' network cards in the kernel"""
    if facts.nodes is None or questions.container(facts):
        return None
    if "/dev/vhost-net" in facts.nodes:
        return VHOST.ok("/dev/vhost-net is there")
    return VHOST.note(
        "/dev/vhost-net is missing",
        "Without it every packet of a virtio card goes through QEMU itself: slower, most of all for nested guests.",
        "Load the module.",
        "modprobe vhost_net",
    )


@checks(*TUN)
def tun(facts: Facts, want: Want) -> Finding | None:
    """/dev/net/tun, for guests on bridges"""
    if facts.nodes is None:
        return None
    if "/dev/net/tun" in facts.nodes:
        return TUN.ok("/dev/net/tun is there")
    return TUN.note(
        "/dev/net/tun is missing",
        "Guests on bridges need it (libvirt's and PVE's are); those with user-mode networking do not.",
        "Load the module; in a container, pass the device in.",
        "modprobe tun",
    )


@checks(*CGROUPS)
def cgroups(facts: Facts, want: Want) -> Finding | None:
    """Control groups, by which guests are limited"""
    if facts.cgroups is None:
        return None
    there = facts.cgroups | ({"io"} if "blkio" in facts.cgroups else set())
    missing = [name for name in _WANTED if name not in there]
    if not missing:
        return CGROUPS.ok(f"Controllers: {', '.join(sorted(facts.cgroups))}")
    return CGROUPS.note(
        f"The kernel offers no controller for {', '.join(missing)}",
        "libvirt and Proxmox VE cannot limit guests by it; nestlab needs none.",
        "See whether the kernel command line switches it off (cgroup_disable=), or a container hides it.",
        "cat /proc/cmdline /sys/fs/cgroup/cgroup.controllers",
    )
