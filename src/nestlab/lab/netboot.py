"""What a segment serves to machines that boot from the network, as wanted and as settled. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

from nestlab.base.frozen import frozen
from nestlab.lab.urls import shown_url

if TYPE_CHECKING:
    from nestlab.lab.blueprint import Blueprint, Spec
    from nestlab.lab.model import Image, Machine

OWN = ("tiny",)
"""nestlab's own images that need no disk: their kernel and initramfs are all there is of them."""


@frozen
class Netboot:
    """A Linux kernel, or an image of nestlab's own, or files with what firmware loads first. Paths are absolute."""

    kernel: str | None = None
    initrd: str | None = None
    cmdline: str = ""
    kernel_image: Image | None = None
    initrd_image: Image | None = None
    """Both where they are downloaded: in place of a path, an image of format `raw`."""
    image: str | None = None
    """One of `OWN`."""
    files: str | None = None
    """A folder, all of which is served."""
    bios: str | None = None
    uefi: str | None = None
    ipxe: str | None = None
    """What in `files` each loads first; `ipxe`: a script."""

    @property
    def linux(self) -> bool:
        """Whether it is a kernel that is started, by an iPXE script of nestlab's."""
        return self.files is None

    def for_firmware(self, *, uefi: bool) -> bool:
        """Whether there is something for machines with a UEFI, or with a BIOS."""
        return self.linux or self.ipxe is not None or (self.uefi if uefi else self.bios) is not None

    @property
    def title(self) -> str:
        """What is served, in words."""
        if self.files is not None:
            return f"the files in {self.files}"
        if self.kernel_image is not None:
            return f"the kernel {shown_url(self.kernel_image.url or '')}"
        return f"the image {self.image}" if self.image is not None else f"the kernel {self.kernel}"

    def images(self) -> tuple[Image, ...]:
        """What must be there before it can be served: built, or downloaded."""
        from nestlab.lab.model import Image

        own = Image(base=self.image) if self.image is not None else None
        return tuple(each for each in (own, self.kernel_image, self.initrd_image) if each is not None)


@frozen
class Card:
    """A card that is answered: its MAC address, and the name and address of its machine."""

    mac: str
    name: str
    address: str


@frozen
class Service:
    """What serves a segment: its own address, and what it gives to whom. `loader`: some machine that boots so has a
    UEFI, which is to load iPXE."""

    segment: str
    address: str
    mtu: int
    netboot: Netboot
    cards: tuple[Card, ...]
    loader: bool = False


def boots_by_network(machine: Machine) -> bool:
    """Whether its firmware tries the network."""
    from nestlab.lab.model import NO_IMAGE

    return "network" in machine.boot or (not machine.boot and machine.image.base == NO_IMAGE and bool(machine.links))


def needs_loader(machine: Machine, netboot: Netboot) -> bool:
    """Whether the firmware of a machine has to be given iPXE first. QEMU's cards bring it along for a BIOS."""
    return machine.hardware.uefi and boots_by_network(machine) and (netboot.linux or netboot.uefi is None)


def server_of(network: IPv4Network) -> IPv4Interface:
    """The address that a segment is served from: its first, which no machine has."""
    return IPv4Interface((network.network_address + 1, network.prefixlen))


def service_of(blueprint: Blueprint, segment: str) -> Service | None:
    """What serves a segment; None where nothing is to, or no machine has an address there."""
    wanted = next((each for each in blueprint.segments if each.name == segment), None)
    if wanted is None or wanted.netboot is None:
        return None
    found = [(spec, card) for spec in blueprint.specs for card in _cards(spec, segment)]
    if not found:
        return None
    network = IPv4Interface(found[0][1].address).network
    loader = any(needs_loader(spec.machine, wanted.netboot) for spec, _ in found)
    cards = tuple(card for _, card in found)
    return Service(segment, str(server_of(network)), wanted.mtu, wanted.netboot, cards, loader)


def _cards(spec: Spec, segment: str) -> Iterator[Card]:
    for nic in spec.nics:
        four = next((each for each in nic.addresses if ":" not in each), None)
        if nic.segment == segment and nic.vlan is None and four is not None:
            yield Card(nic.mac, spec.machine.name, four)


def digest_of_service(service: Service | None) -> str:
    """40 hex digits that are equal when the services are; "" for none."""
    from nestlab.lab.model import digest_of

    return digest_of(service) if service is not None else ""
