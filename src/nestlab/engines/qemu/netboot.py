"""What a segment's machines get to boot from it, made from the blueprint and the files of the lab's host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Interface
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.qemu.environment import Environment
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageFiles
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.lab.netboot import Service, digest_of_service, service_of
from nestlab.labfile.netboot import is_kernel
from nestlab.network.dhcp import Client
from nestlab.network.netboot_offer import INITRD, KERNEL, LOADER, SCRIPT, Lease, Offer


async def serve(segment: str, blueprint: Blueprint, environment: Environment, host: Host, say: Say) -> None:
    """Serve what is to be booted from a segment, or nothing. `host`: the lab's own."""
    if environment.wires is not None:
        service = service_of(blueprint, segment)
        found = await offer(service, environment, blueprint, say) if service is not None else None
        await environment.wires.serve(segment, found, host, say)


async def offer(service: Service, environment: Environment, blueprint: Blueprint, say: Say) -> Offer:
    """What is served, with what of it must be fetched first. LabError where that cannot be."""
    there: dict[Image, ImageFiles] = {}
    for wanted in service.netboot.images():
        key = next(key for key, each in blueprint.images.items() if each == wanted)
        there[wanted] = await environment.library.artifacts(key, wanted)
    loader = None
    if service.loader and environment.programs.ipxe is not None:
        loader = await environment.programs.ipxe(say)
    return offer_of(service, there, loader)


def offer_of(service: Service, there: Mapping[Image, ImageFiles], loader: Path | None) -> Offer:
    """`there`: the files of what is built or downloaded; `loader`: iPXE for UEFI, where it is needed."""
    netboot = service.netboot
    address = IPv4Interface(service.address)
    boots: dict[Client, str] = {}
    files: dict[str, str] = {}
    texts: dict[str, str] = {}
    if netboot.linux:
        kernel, initrd, words = _linux(service, there)
        files[KERNEL] = kernel
        if initrd is not None:
            files[INITRD] = initrd
        texts[SCRIPT] = script(str(address.ip), words, initrd=initrd is not None)
        boots["ipxe"] = SCRIPT
    else:
        said: dict[Client, str | None] = {"bios": netboot.bios, "uefi": netboot.uefi, "ipxe": netboot.ipxe}
        boots = {client: name for client, name in said.items() if name is not None}
    if loader is not None:
        files[LOADER] = str(loader)
        boots["uefi"] = LOADER
    return Offer(
        segment=service.segment,
        address=address,
        mac=_mac(service),
        mtu=service.mtu,
        leases={_bytes(card.mac): Lease(card.name, IPv4Interface(card.address)) for card in service.cards},
        boots=boots,
        files=files,
        texts=texts,
        folder=netboot.files,
        digest=digest_of_service(service),
    )


def _linux(service: Service, there: Mapping[Image, ImageFiles]) -> tuple[str, str | None, str]:
    """Kernel, initramfs and the kernel's parameters. LabError where what was downloaded is no kernel."""
    netboot = service.netboot
    if netboot.image is None:
        kernel, initrd = netboot.kernel, netboot.initrd
        if netboot.kernel_image is not None:
            kernel = str(there[netboot.kernel_image].files["root"])
            if not is_kernel(Path(kernel)):
                what = f"Segment {service.segment} is to serve {netboot.title}, and that is no Linux kernel for x86."
                raise LabError(what, hint="Boot loaders, and systems other than Linux, are started by `files`.")
        if netboot.initrd_image is not None:
            initrd = str(there[netboot.initrd_image].files["root"])
        assert kernel is not None
        return kernel, initrd, netboot.cmdline
    image = there[Image(base=netboot.image)]
    if image.bzimage is None:
        what = f"The image {netboot.image} has no kernel that boot loaders start."
        raise LabError(what, hint="`nestlab images rm` it: `up` builds it again.")
    words = ["console=ttyS0", *image.cmdline, *netboot.cmdline.split()]
    return str(image.bzimage), str(image.files["initrd"]), " ".join(words)


def script(server: str, words: str, *, initrd: bool) -> str:
    """An iPXE script. A kernel that was started by UEFI is told the name of its initramfs. iPXE would expand `${…}`."""
    plain = words.replace("${", "$ {")
    said = " ".join(each for each in ("initrd=initrd" if initrd else "", plain) if each)
    lines = ["#!ipxe", f"kernel http://{server}/{KERNEL} {said}".rstrip()]
    if initrd:
        lines.append(f"initrd --name initrd http://{server}/{INITRD}")
    return "\n".join([*lines, "boot", ""])


def _mac(service: Service) -> bytes:
    """The address of its card: locally administered, and always the same."""
    text = f"netboot {service.segment} {service.address}"
    return b"\x52\x54" + hashlib.sha256(text.encode()).digest()[:4]


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
