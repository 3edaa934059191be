"""Where the outermost machines of a lab run, if not on this machine. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

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


On: TypeAlias = Pve
"""A place other than this machine."""


def called(on: On | None) -> str:
    """What messages call a place."""
    return on.address if on else "this machine"
