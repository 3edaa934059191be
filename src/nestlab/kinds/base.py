"""What nestlab knows of a kind of hypervisor before any machine of it exists. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of hypervisor: what `hypervisor:` may say.

    `image` is the built-in image it boots. `overhead` (bytes) is what it needs for itself beside its machines;
    `default_memory` (bytes) is what it gets beside them when the lab file does not say.
    """

    name: str
    image: str
    overhead: int
    default_memory: int
    description: str


@dataclass(frozen=True)
class Plain:
    """A built-in image for machines that run nothing inside. `disk`: it has a disk of its own, which can be sized;
    `packages`: it is a Debian system that more packages can be added to."""

    name: str
    default_memory: int
    description: str
    disk: bool = True
    packages: bool = True
