"""What nestlab knows of a kind of hypervisor before any machine of it exists. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nestlab.lab.model import GIB


@dataclass(frozen=True)
class Kind:
    """A kind of hypervisor: what `hypervisor:` may say.

    `image` is the built-in image it boots, with a disk of `disk` bytes. `overhead` (bytes) is what it needs for itself
    beside its machines; `default_memory` (bytes) is what it gets beside them when the lab file does not say.
    """

    name: str
    image: str
    disk: int
    overhead: int
    default_memory: int
    description: str


SMP_EMULATED = "; with more than one CPU such a hypervisor was seen to panic, rarely: `cpus: 1` is safe"
"""What emulation costs a hypervisor with several virtual CPUs, after what it costs every one. Seen with QEMU 10.0.13
(thread=multi): an interrupt taken right after VMRUN found the guest's GS, and the kernel faulted for ever."""


@dataclass(frozen=True)
class Plain:
    """A built-in image for machines that run nothing inside. `disk`: bytes of its disk, 0 for none;
    `packages`: it is a Debian system that more packages can be added to."""

    name: str
    default_memory: int
    description: str
    disk: int = 4 * GIB
    packages: bool = True
