"""Proxmox VE, made from its packages."""

from __future__ import annotations

from nestlab.kinds.base import Kind
from nestlab.kinds.pvecm.clustering import PveClustering
from nestlab.lab.model import GIB, MIB

# Measured with Proxmox VE 9.2 (emulated): 500 to 620 MiB in use with the API up, 800 to 1000 as a member of a cluster
# (corosync locks 185 MiB); with 768M a join ended with corosync killed. Its root filesystem has 0.9 GiB.
KIND = Kind(
    name="pve",
    image="pve",
    disk=16 * GIB,
    overhead=1536 * MIB,
    default_memory=1536 * MIB,
    description="Proxmox VE, from its packages (docs/guest-hypervisors.md). Machines in it are VMs and containers.",
    packaged=True,
    bridges="vmbr",
    # Until its API answered: the kernel, and Perl daemons that are compiled at each start.
    services=171.0,
    clustering=PveClustering(),
)
