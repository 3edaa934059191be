"""What programs say when a nest fails: all signatures, those that name the root before those that follow from it."""

from __future__ import annotations

from nestlab.explain.signatures import (
    arm,
    boot,
    ceph,
    clock,
    clones,
    cloud_requests,
    cluster,
    containers,
    cpu_models,
    harmless,
    images,
    kvm,
    libvirt,
    login,
    lxc,
    machine,
    modules,
    nested,
    network,
    passthrough,
    programs,
    pve,
    pve_install,
    qemu,
    qemu_devices,
    reachability,
    virtualbox,
    vmware,
    windows,
    xen,
)
from nestlab.explain.signatures.signature import Rank, Signature, Sure

__all__ = ["SECTIONS", "TABLE", "Rank", "Signature", "Sure"]

SECTIONS: tuple[tuple[str, tuple[Signature, ...]], ...] = (
    ("ARM and Apple", arm.TABLE),
    ("Windows, Hyper-V, WSL", windows.TABLE),
    ("VirtualBox", virtualbox.TABLE),
    ("VMware and ESXi", vmware.TABLE),
    ("Xen and bhyve", xen.TABLE),
    ("CPU models put together by hand", cpu_models.TABLE),
    ("KVM and the processor", kvm.TABLE),
    ("Hypervisors inside of hypervisors", nested.TABLE),
    ("Containers (LXC)", lxc.TABLE),
    ("Containers in containers", containers.TABLE),
    ("Kernel modules", modules.TABLE),
    ("Devices passed through", passthrough.TABLE),
    ("QEMU: starting", qemu.TABLE),
    ("QEMU: disks, devices, state", qemu_devices.TABLE),
    ("Guests that do not boot or stand still", boot.TABLE),
    ("The machine: memory, disk, clock", machine.TABLE),
    ("Logging in", login.TABLE),
    ("Networks", network.TABLE),
    ("libvirt and Vagrant", libvirt.TABLE),
    ("Proxmox VE: machines and API", pve.TABLE),
    ("Proxmox VE: unattended installation", pve_install.TABLE),
    ("Proxmox VE: cluster", cluster.TABLE),
    ("Ceph", ceph.TABLE),
    ("Clones and moved disks", clones.TABLE),
    ("Packages, images, cloud-init", images.TABLE),
    ("Clocks", clock.TABLE),
    ("What clouds answer", cloud_requests.TABLE),
    ("Packets that vanish", reachability.TABLE),
    ("Programs that need KVM", programs.TABLE),
    ("Harmless", harmless.TABLE),
)
"""By subject, for documents. Within one, what is more specific stands first."""

TABLE: tuple[Signature, ...] = tuple(
    sorted((each for _, section in SECTIONS for each in section), key=lambda each: each.rank)
)
"""In the order in which a line is tried: by rank, then as written. The first that matches a line explains it."""
