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


@dataclass(frozen=True)
class Plain:
    """A built-in image for machines that run nothing inside. `disk`: bytes of its disk, 0 for none;
    `packages`: it is a Debian system that more packages can be added to."""

    name: str
    default_memory: int
    description: str
    disk: int = 4 * GIB
    packages: bool = True
