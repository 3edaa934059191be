"""Containers in a lab file: on a Proxmox VE itself from a template, in a hypervisor from nestlab's own images; and what
a machine may then not say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from nestlab import kinds
from nestlab.base.frozen import frozen
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import Image, Link, Machine, diskless
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section


class Pick(Protocol):
    """What a machine or else `defaults` says, where, and under which key path."""

    def __call__(self, section: Section, name: str, *, own_only: bool = False) -> tuple[Any, Node | None, str]: ...


@frozen
class Place:
    """Where a machine is to be, and what it is there. `embedded`: the lab is on no Proxmox VE."""

    path: str
    kind: str | None
    embedded: bool
    inside: str | None = None
    """The kind of what it is right inside of."""

    @property
    def outermost(self) -> bool:
        return "/" not in self.path

    @property
    def on_pve(self) -> bool:
        """It is on a Proxmox VE itself."""
        return self.outermost and not self.embedded

    @property
    def in_node(self) -> bool:
        """It is inside a node of Proxmox VE that nestlab makes."""
        return self.inside == "pve"

    @property
    def by_pve(self) -> bool:
        """A Proxmox VE makes it, of the user's or of nestlab's."""
        return self.on_pve or self.in_node

    @property
    def possible(self) -> bool:
        """Whether a container can be there."""
        return self.kind is None and (self.on_pve or not self.outermost)


_MEANINGLESS: Mapping[str, str] = {
    "disk": "its files are on the disk of its hypervisor",
    "cmdline": "it runs on the kernel of its hypervisor",
    "accel": "it runs on the kernel of its hypervisor, as fast as that does",
    "internet": "it has cards on its segments alone",
}
"""Keys that no container inside a hypervisor has, beside those of hardware and drives, and why."""


def wanted(section: Section, place: Place, pick: Pick, image: Image | None) -> bool:
    """Whether a machine is a container. What `defaults` say is passed over where none can be: of machines inside others
    on a Proxmox VE, of outermost ones elsewhere, of hypervisors, of images that none is made from."""
    said, node, _ = pick(section, "container", own_only=not place.possible or place.embedded == place.outermost)
    if said and "container" not in section.at and not place.on_pve and image is not None:
        return node is not None and kinds.makes_containers(image)
    return bool(said) and place.possible


def in_place(section: Section, place: Place) -> Iterator[Complaint]:
    """A container where none can be."""
    if not section.values.get("container") or place.possible:
        return
    name, key = place.path.rpartition("/")[2], f"{section.key}.container"
    if place.kind is not None:
        what = f"{name} is a hypervisor, and a container cannot be one: it has no kernel of its own"
        yield section.keys["container"], key, what, "Leave out `container`, or `hypervisor`."
    else:
        what = f"{name} would be a container on the lab's own host itself; nestlab makes them inside hypervisors"
        hint = f"Put it inside a machine with `hypervisor: {min(kinds.kinds())}`, or leave `container` out."
        yield section.keys["container"], key, what, hint


def of_image(
    section: Section, place: Place, said: bool, image: Image | None, where: Node | None, *, bad: bool
) -> Iterator[Complaint]:
    """An image that does not go with a container (`said`), or a template that goes with nothing else. `where`: its
    image is said there. `bad`: something is wrong with `container` itself, and was told."""
    if image is None:
        return
    key = f"{section.key}.image" if "image" in section.at else "defaults.image"
    if image.template and not said and where is not None and not bad and not section.values.get("container"):
        what = f"{image.file or title_of(image)} is a container template, and no disk"
        yield where, key, what, "Say `container: true` (on a Proxmox VE), or take a disk."
    if not said:
        return
    at: Node = where if where is not None else section.keys.get("container") or section.node
    key = key if where is not None else f"{section.key}.container"
    if place.on_pve and not image.template:
        what = f"a container cannot be made from the image {title_of(image)}"
        hint = "Say `image: {file: …}` or `{url: …}` with a container template (.tar.zst, .tar.gz or .tar.xz)."
        yield at, key, what, hint
    elif not place.on_pve and not kinds.makes_containers(image):
        own = " or ".join(f"`{name}`" for name in sorted(kinds.plains()))
        what = f"a container inside a hypervisor cannot be made from the image {title_of(image)}"
        yield at, key, what, f"Take nestlab's own {own}, with `packages`, `files` or a `script` if it needs more."


def keys(section: Section, image: Image | None) -> Iterator[Complaint]:
    """What a container inside a hypervisor says and has not. What `defaults` say is passed over."""
    for name, why in _MEANINGLESS.items():
        if name == "disk" and image is not None and diskless(image):  # told already
            continue
        if section.values.get(name) not in (None, "", "auto", False):
            what = f"`{name}` means nothing here: it is a container, and {why}"
            yield section.keys[name], f"{section.key}.{name}", what, f"Leave `{name}` out, or leave `container` out."


def of_cards(links: tuple[Link, ...], _: Image, uses: list[Use]) -> Iterator[Complaint]:
    """Cards of a container inside a hypervisor that say what they are: each is one end of a veth pair."""
    for link in links:
        use = next((use for use in uses if use.link is link), None)
        if link.card == "virtio" or use is None or "card" not in use.places:
            continue
        what = f"`card` means nothing here: a container has one end of a pair (veth), and no {link.card}"
        yield *use.place("card"), what, "Leave it out."


def ready(section: Section) -> Iterator[Complaint]:
    """How a container inside a hypervisor is known to be up, if that is not by ssh."""
    if "ready" in section.at and section.values.get("ready") not in (None, "ssh"):
        what = "a container is known to be up by ssh, which nestlab's own images answer"
        yield section.keys["ready"], f"{section.key}.ready", what, "Leave `ready` out, or leave `container` out."


def bare(machine: Machine) -> Machine:
    """A container inside a hypervisor, without what `defaults` say of machines."""
    return replace(machine, disk=None, accel="auto", cmdline="", internet=False)


def memory(image: Image) -> int | None:
    """Bytes of memory that a container of an image may use if the lab file does not say it."""
    plain = kinds.plains().get(image.base or "")
    return plain.container_memory if plain is not None else None
