"""Guests and rights of the recorded Proxmox VE cluster that its recorder made without recording it."""

from __future__ import annotations

from typing import Any

MIB = 1 << 20
TEMPLATE = "local:vztmpl/debian-13-minimal_13_amd64.tar.zst"
MACHINE = {
    "cores": 1, "cpu": "max", "kvm": 0, "memory": "64", "agent": "1", "serial0": "socket", "ostype": "l26",
    "scsihw": "virtio-scsi-single", "boot": "order=scsi0;ide2;net0", "smbios1": "uuid=x", "vmgenid": "y", "meta": "z",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
}  # fmt: skip
CONTAINER = {
    "memory": 128, "swap": 512, "ostype": "debian", "arch": "amd64", "cores": 2, "unprivileged": 1,
    "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,type=veth",
}  # fmt: skip
VM_PRIVILEGES = """VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk
VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Console VM.Migrate VM.PowerMgmt VM.Snapshot"""
LIMITED = {
    "token-limited (privsep, no acl)": {},
    "token-limited: VM.Audit on /vms/210": {"/vms/210": "VM.Audit"},
    "token-limited: VM.Allocate on /vms": {"/vms": "VM.Allocate"},
    "token-limited: all VM.* on /vms, nothing on storage or sdn": {"/vms": VM_PRIVILEGES},
    "token-limited: all VM.*, Datastore.Audit/AllocateSpace on /storage/local, "
    "SDN.Use on /sdn/zones/localnetwork": dict.fromkeys(
        ("/vms", "/storage/local", "/sdn/zones/localnetwork"),
        f"{VM_PRIVILEGES} Datastore.Audit Datastore.AllocateSpace SDN.Use",
    ),
}
NOT_FIRST = ("digest", "lock", "parent", "template", "unused0", "unused1", "vmstate")
DISK = "local:{0}/vm-{0}-disk-0.{1},size=1G"
FIRST: dict[int, dict[str, Any]] = {
    141: {"scsi0": DISK.format(141, "qcow2")},
    150: {
        "agent": None,
        "ostype": None,
        "scsi0": DISK.format(150, "qcow2"),
        "ide2": "local:150/vm-150-cloudinit.qcow2,media=cdrom",
    },
    151: {"scsi0": DISK.format(151, "raw")},
    154: {"boot": " "},
    156: {
        "agent": None,
        "ostype": None,
        "serial0": None,
        "scsi0": DISK.format(156, "qcow2"),
        "ide2": "local:156/vm-156-cloudinit.qcow2,media=cdrom",
    },
    170: {"scsi0": DISK.format(170, "qcow2")},
    173: {"scsi0": "local:173/base-173-disk-0.qcow2,size=1G", "template": 1},
    174: {"scsi0": "local:173/base-173-disk-0.qcow2/174/vm-174-disk-0.qcow2,size=1G"},
    180: {"memory": "64", "net0": "virtio=BC:24:11:00:00:01,bridge=labv1"},
    240: {"scsi0": DISK.format(240, "qcow2") + ",iothread=1", "scsihw": "lsi"},
}
"""Guests that the recorder made without recording it."""
