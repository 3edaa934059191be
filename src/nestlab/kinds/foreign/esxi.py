"""VMware ESXi 7 and 8."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="esxi",
    title="VMware ESXi",
    look="`esxcfg-info | grep 'HV Support'` says 3 in its shell",
    source="VMware ESXi 8 installation guide: hardware requirements; drivers of ESXi 7 and 8",
    cpus=2,
    memory=8 * GIB,
    usual_memory=8 * GIB,
    disk=32 * GIB,
    card="vmxnet3",
    card_why="ESXi 7 and later have no driver for virtio or e1000",
    keys={
        "board": Wish("q35", "its SATA and PCI Express are what ESXi has drivers for"),
        "display": Wish(True, "it installs and is set up on a screen"),
        "bus": Wish("sata", "ESXi has no virtio driver"),
    },
    ignore_msrs="it shows a purple screen while it boots",
)
