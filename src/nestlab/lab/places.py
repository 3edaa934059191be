"""Where the outermost machines of a lab run, if not on this machine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from nestlab.base.frozen import frozen

Placement = Literal["spread", "pack"]


@frozen
class Pve:
    """A Proxmox VE that the outermost machines of a lab run on, and what of it they may use. What is None is chosen.

    `address`: `pve://[USER@REALM[!TOKENID]@]HOST[:8006][/NODE]` for its API over HTTPS, `pve+ssh://[USER@]HOST[:22]`
    for pvesh on a node over ssh, `pve+local` for pvesh on this machine. It holds no secret.
    """

    address: str
    pool: str = "nestlab"
    storage: str | None = None
    """Where disks are made."""
    images: str | None = None
    """Where images are uploaded to (content `import`)."""
    zone: str = "nestlab"
    """The SDN zone that segments become vnets of."""
    bridge: str | None = None
    """A bridge of the nodes with DHCP, for machines with `internet: true`, and for ssh straight to them."""
    nodes: tuple[str, ...] = ()
    """The nodes that may be used; empty: all."""
    placement: Placement = "spread"
    cpu: str | None = None
    """The CPU of hypervisors in PVE's own words, such as `EPYC,flags=+nested-virt`."""


@frozen
class Ssh:
    """Another Linux host that ssh reaches, on which the embedded engine works. `address`: `ssh://[USER@]HOST[:PORT]`,
    as `ssh_address` writes it."""

    address: str


LIBVIRT = "qemu:///system"


@frozen
class Libvirt:
    """A libvirt that runs the outermost machines of a lab as its domains. `address`: `qemu:///system`, that of this
    machine, or `qemu+ssh://[USER@]HOST[:PORT]/system`, as `libvirt_address` writes it."""

    address: str


On: TypeAlias = Pve | Ssh | Libvirt
"""A place other than this machine."""


def is_here(on: On | None) -> bool:
    """Whether the outermost machines run on this computer, and their files are here."""
    return on is None or on == Libvirt(LIBVIRT)


def place_of(data: Mapping[str, Any]) -> On:
    """The place in JSON data, as `plain` made them. TypeError or KeyError for anything else."""
    if str(data["address"]).startswith("ssh://"):
        return Ssh(**data)
    if str(data["address"]).startswith("qemu"):
        return Libvirt(**data)
    return Pve(**{**data, "nodes": tuple(data.get("nodes", ()))})


def called(on: On | None) -> str:
    """What messages call a place."""
    return on.address if on else "this machine"
