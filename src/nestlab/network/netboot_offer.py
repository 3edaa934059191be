"""What machines of a segment are given to boot from the network, as a value and as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Interface

from nestlab.base.frozen import frozen
from nestlab.network.dhcp import Client, Request

SCRIPT, KERNEL, INITRD, LOADER = "boot.ipxe", "kernel", "initrd", "ipxe.efi"
"""Names of what nestlab itself serves."""


@frozen
class Lease:
    """The address of a machine, and what it is called."""

    name: str
    address: IPv4Interface


@frozen
class Offer:
    """`files`: paths by name; `texts`: what is no file; `folder`: all in it is served, by its path from there.
    `boots`: what each kind of client is told to load, a name that is served."""

    segment: str
    address: IPv4Interface
    mac: bytes
    mtu: int = 1500
    leases: Mapping[bytes, Lease] = field(default_factory=dict)
    boots: Mapping[Client, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    digest: str = ""
    """Of what the lab says is served, and to whom."""

    def boot_of(self, request: Request) -> str:
        """What a client is told to load: a name, by TFTP, or a URL; "" for nothing."""
        client = request.client
        if client == "ipxe" and "ipxe" not in self.boots:
            client = "uefi" if request.uefi else "bios"
        name = self.boots.get("uefi" if client == "http" else client, "")
        return f"http://{self.address.ip}/{name}" if name and client in ("http", "ipxe") else name


def to_json(offer: Offer) -> str:
    data = {
        "segment": offer.segment,
        "address": str(offer.address),
        "mac": offer.mac.hex(":"),
        "mtu": offer.mtu,
        "leases": {mac.hex(":"): [each.name, str(each.address)] for mac, each in offer.leases.items()},
        "boots": dict(offer.boots),
        "files": dict(offer.files),
        "texts": dict(offer.texts),
        "folder": offer.folder,
        "digest": offer.digest,
    }
    return json.dumps(data, indent=1) + "\n"


def from_json(text: str) -> Offer:
    """ValueError, KeyError or TypeError for what `to_json` does not write."""
    data = json.loads(text)
    leases = {_mac(mac): Lease(name, IPv4Interface(address)) for mac, (name, address) in data["leases"].items()}
    return Offer(
        segment=data["segment"],
        address=IPv4Interface(data["address"]),
        mac=_mac(data["mac"]),
        mtu=data["mtu"],
        leases=leases,
        boots=data["boots"],
        files=data["files"],
        texts=data["texts"],
        folder=data["folder"],
        digest=data["digest"],
    )


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
