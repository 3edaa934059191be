"""Debian with libvirt: machines inside are its domains."""

from __future__ import annotations

from nestlab.kinds.base import Kind
from nestlab.lab.model import GIB, MIB

KIND = Kind(
    name="libvirt",
    image="libvirt",
    disk=16 * GIB,
    overhead=512 * MIB,
    default_memory=GIB,
    description="Debian with libvirt: machines inside are domains of it (docs/guest-hypervisors.md).",
    containers=False,
)
