"""Linux with KVM and QEMU, and nothing else."""

from __future__ import annotations

from nestlab.kinds.base import Kind
from nestlab.kinds.corosync import Corosync
from nestlab.lab.model import GIB, MIB

KIND = Kind(
    name="kvm",
    image="kvm",
    disk=16 * GIB,
    overhead=384 * MIB,
    default_memory=GIB,
    description="Debian with KVM, QEMU and bridges: the least that runs machines of its own.",
    clustering=Corosync(),
)
