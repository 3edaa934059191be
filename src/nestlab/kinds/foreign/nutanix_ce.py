"""Nutanix Community Edition 2."""

from __future__ import annotations

from nestlab.kinds.foreign.recipe import Foreign, Wish
from nestlab.lab.model import GIB

FOREIGN = Foreign(
    name="nutanix-ce",
    title="Nutanix CE",
    look="its AHV host lists /dev/kvm, and its controller VM runs",
    source="Nutanix Community Edition: getting started (as its users report it; not tried)",
    cpus=4,
    memory=20 * GIB,
    usual_memory=32 * GIB,
    disk=64 * GIB,
    keys={
        "display": Wish(True, "it installs on a screen"),
        "bus": Wish("sata", "its installer tells disks apart by the serial numbers of SATA"),
    },
    vendors={"amd": "on AMD, its controller VM is not known to start: it wants Intel's VT-x"},
)
