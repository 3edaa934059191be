"""A kind of hypervisor, as far as nestlab knows it before any machine of it exists. Pure."""

from __future__ import annotations

from nestlab.base.frozen import frozen
from nestlab.kinds.clustering import Clustering
from nestlab.lab.model import GIB


@frozen
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
    packaged: bool = False
    """It is made from packages alone, and not from a disk of the user's."""
    containers: bool = True
    """Whether nestlab makes containers inside it, too."""
    bridges: str = ""
    """What its bridges are called, with a number behind, one for every card; "": each by its segment, and only for
    segments of machines inside."""
    services: float = 0.0
    """Seconds of one emulated CPU at full speed, from its start until its services work; 0: when it is up, they do."""
    clustering: Clustering | None = None
    """How it makes clusters; None: nestlab makes none of it."""


SMP_EMULATED = "; with more than one CPU such a hypervisor was seen to panic or to end, rarely: `cpus: 1` is safe"
"""The cost of emulation for a hypervisor with several virtual CPUs, beside that for every one. Seen with QEMU 10.0.13
(thread=multi): an interrupt taken right after VMRUN found the guest's GS, and the kernel faulted for ever."""


@frozen
class Plain:
    """A built-in image for machines that run nothing inside. `disk`: bytes of its disk, 0 for none;
    `packages`: it is a Debian system that more packages can be added to; `container_memory`: bytes that a container of
    it may use."""

    name: str
    default_memory: int
    container_memory: int
    description: str
    disk: int = 4 * GIB
    packages: bool = True
