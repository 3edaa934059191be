"""What machines inside a `pve` hypervisor say and cannot have there: its API makes them. Pure.

What `defaults` say is passed over where it cannot be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nestlab import kinds
from nestlab.lab.model import GIB, Machine, format_size
from nestlab.lab.readiness import Ready
from nestlab.labfile.network import Complaint
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

_NO_WAY = ("port", "screen")
"""Ways of being up that are asked for from outside, where nothing of a node's API leads."""

ITSELF = 3 * GIB
"""Bytes of a node's disk for its own system (0.9 GiB), and for images as they were sent and as templates."""


def mistakes(
    section: Section, machine: Machine, machines: Sequence[Machine], image_at: Node | None, *, inside: bool
) -> Iterator[Complaint]:
    """Of a machine right `inside` a node, and of a node with `machines` in it. `image_at`: where its image is said."""
    if machine.hypervisor == "pve":
        yield from _disk(section, machines, machine.disk, kinds.kinds()["pve"].disk)
    if inside:
        yield from _inside(section, machine, image_at)


def _inside(section: Section, machine: Machine, image_at: Node | None) -> Iterator[Complaint]:
    at = section.keys
    if "cmdline" in section.at and machine.cmdline:
        what = "`cmdline` means nothing here: in a Proxmox VE all machines of an image start from one disk"
        yield at["cmdline"], f"{section.key}.cmdline", what, "Leave it out, or use a `kvm` hypervisor."
    if "internet" in section.at and machine.internet and not machine.container:
        what = "`internet` means nothing here: the bridges of its node are the lab's segments, and lead nowhere else"
        yield at["internet"], f"{section.key}.internet", what, "Leave it out, or say it of the node alone."
    if "ready" in section.at and machine.ready.by in _NO_WAY:
        what = f"`{machine.ready.said}` means nothing here: nothing of its node's API looks at it"
        yield at["ready"], f"{section.key}.ready", what, "Say `ready: ssh`, `agent`, `none`, or `console:`."
    if machine.container and machine.image.base == "tiny":
        what = "a container in a Proxmox VE cannot be made from the image tiny, which has no root filesystem"
        place, key = (image_at, "image") if image_at is not None else (at["container"], "container")
        yield place, f"{section.key}.{key}", what, "Take `image: debian`, with `packages`, `files` or a `script`."


def fitting(section: Section, machine: Machine) -> Machine:
    """The machine without what `defaults` say and it cannot have."""
    said = section.at
    return replace(
        machine,
        cmdline=machine.cmdline if "cmdline" in said else "",
        internet=machine.internet and "internet" in said,
        ha=bool(section.values.get("ha")),
        ready=_ready(machine) if machine.ready.by in _NO_WAY and "ready" not in said else machine.ready,
    )


def _ready(machine: Machine) -> Ready:
    """Of a system that is not nestlab's nothing is then known."""
    return Ready() if machine.image.own else Ready("none")


def _disk(section: Section, machines: Sequence[Machine], said: int | None, usual: int) -> Iterator[Complaint]:
    """Machines whose disks do not fit on their node's, which has `said` bytes, or `usual` ones."""
    has = said or usual
    sizes = [(each.name, (each.disk or GIB) + sum(disk.size for disk in each.disks)) for each in machines]
    total = sum(size for _, size in sizes) + ITSELF
    if total <= has:
        return
    terms = " + ".join(f"{name} {format_size(size)}" for name, size in sizes[:8]) + " + …" * (len(sizes) > 8)
    what = (
        f"{format_size(has)} does not hold the disks of its machines ({terms}), and {format_size(ITSELF)} for itself"
        f" and images: {format_size(total)} together"
    )
    own = "disk" in section.at
    place = section.at["disk"] if own else section.keys.get("machines", section.node)
    yield place, f"{section.key}.{'disk' if own else 'machines'}", what, f"Say `disk: {format_size(total)}` or more."
