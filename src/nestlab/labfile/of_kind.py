"""What the kind of a hypervisor asks of its machine: its image, and memory that holds what is inside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nestlab import kinds
from nestlab.lab.hardware import Card, flags_of
from nestlab.lab.model import NO_IMAGE, Image, Link, Machine, format_size, is_medium
from nestlab.labfile.fields import MEMORY
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section, sections_of


def not_inside(section: Section, name: str, *, container: bool) -> Iterator[Complaint]:
    """Machines inside what is no hypervisor."""
    hint = f"Give {name} a `hypervisor: {min(kinds.kinds())}`, or move its machines out of it."
    what = f"machines inside {name}, which is a plain guest"
    if container:
        what = f"machines inside {name}, which is a container"
        hint = f"Make {name} a virtual machine with `hypervisor: {min(kinds.kinds())}`, or move its machines out."
    yield section.keys["machines"], f"{section.key}.machines", what, hint


def mistakes(section: Section, kind: str | None, image: Image | None, image_at: Node | None) -> Iterator[Complaint]:
    """What does not go with a kind of hypervisor. `image_at`: where its image is said."""
    if kind is None:
        return
    if kinds.is_foreign(kind):
        bootable = image_at is not None or (image is not None and image.base == NO_IMAGE)
        yield from _foreign(section, kind, bootable=bootable)
        return
    about, base = kinds.kinds()[kind], kinds.default_image(kind)
    if about.packaged and image is not None and image_at is not None and image.base is None:
        what = f"a hypervisor of kind {kind} is made from packages, and not from a disk"
        hint = f"Leave `image` out, say `from: {kind}`, or boot yours with `hypervisor: other`."
        yield image_at, f"{section.key}.image", what, hint
    if image is not None and image_at is not None and image.base is not None and image.base != base:
        what = f"a hypervisor of kind {kind} cannot be made from the image {image.base}"
        yield image_at, f"{section.key}.image", what, f"Leave it out, or say `from: {base}`, or a file of yours."


def unfit(section: Section, kind: str | None, machines: Sequence[Machine]) -> Iterator[Complaint]:
    """What the machines inside a hypervisor of that kind cannot have."""
    about = kinds.kinds().get(kind or "")
    inner = dict(sections_of(section.values.get("machines")))
    if about is None:
        return
    for machine in machines:
        if machine.container and not about.containers:
            what = f"nestlab makes no containers in a {kind} hypervisor"
            yield _said(inner[machine.name], "container", what, _IN_KVM)
        if about.name == "libvirt":
            yield from not_by_libvirt(inner[machine.name], machine, _IN_KVM)


def not_by_libvirt(section: Section, machine: Machine, hint: str, *, outer: bool = False) -> Iterator[Complaint]:
    """What a machine that libvirt runs cannot have. `outer`: on the lab's own level."""
    for key, has, thing in _NOT_BY_LIBVIRT:
        if has(machine) and not (outer and key in _OUTER):
            yield _said(section, key, f"nestlab gives {thing} to no machine that libvirt runs", hint)


_IN_KVM = "Leave it out, or put the machine into a `hypervisor: kvm`."


_NOT_BY_LIBVIRT: Sequence[tuple[str, Callable[[Machine], bool], str]] = (
    ("firmware", lambda machine: machine.hardware.uefi, "UEFI"),
    ("tpm", lambda machine: machine.hardware.tpm, "a TPM"),
    ("iommu", lambda machine: machine.hardware.iommu, "a virtual IOMMU"),
    ("smbios", lambda machine: machine.hardware.smbios is not None, "SMBIOS data of its own"),
    ("cpu", lambda machine: _valued(machine.hardware.cpu), "a CPU whose properties have values"),
    ("disks", lambda machine: any(disk.bus == "nvme" for disk in machine.disks), "an NVMe disk"),
    ("bus", lambda machine: machine.bus == "nvme", "an NVMe disk"),
    ("ready", lambda machine: machine.ready.by in ("agent", "port", "screen"), "such a look from outside"),
)
"""Keys of machines with what of them libvirt's domains are not offered with, and how that is called."""


_OUTER = ("firmware", "tpm")
"""What of that libvirt gives to outermost machines."""


def _valued(cpu: str | None) -> bool:
    return cpu is not None and any(value not in ("on", "off") for value in flags_of(cpu).values())


def _said(section: Section, key: str, what: str, hint: str) -> Complaint:
    """A mistake at a key of a machine, or at the machine where `defaults` say it."""
    if key in section.keys:
        return section.keys[key], f"{section.key}.{key}", what, hint
    return section.node, section.key, f"{what} (`{key}`)", hint


def _foreign(section: Section, kind: str, *, bootable: bool) -> Iterator[Complaint]:
    name = section.key.rpartition(".")[2]
    made, own = kinds.foreign()[kind], min(kinds.kinds())
    if (inner := section.values.get("machines")) and inner.keys:
        what = (
            f"machines inside {name}, a hypervisor (`{kind}`) that nestlab boots and shows vmx or svm to, and does not"
            " work in: it makes no machines there"
        )
        hint = f"Make them in {name} by its own means, or say `hypervisor: {own}`, in which nestlab works."
        yield section.keys["machines"], f"{section.key}.machines", what, hint
    if not bootable:
        what = f"{name} says no `image`, and nestlab has none of its own for `hypervisor: {kind}`"
        hint = "Say one of yours: `image: {file: ./disk.qcow2}`, or its installation medium (`file: ./medium.iso`)."
        yield section.keys.get("hypervisor", section.node), section.key, what, hint
    least = {"cpus": made.cpus, "memory": made.memory, "disk": made.disk}
    for key, need in least.items():
        said = section.values.get(key)
        if isinstance(said, int) and said < need:
            count = str(need) if key == "cpus" else format_size(need)
            what = f"{made.title} takes at least {count} {'CPUs' if key == 'cpus' else f'of {key}'}"
            yield section.at[key], f"{section.key}.{key}", what, f"Say `{key}: {count}` or more. ({made.source}.)"


def with_cards(links: tuple[Link, ...], kind: str | None, uses: Sequence[Use]) -> tuple[Link, ...]:
    """The cards of a machine, of the kind that its hypervisor has a driver for where the lab file does not say it."""
    if card(kind) == "virtio":
        return links
    said = {id(use.link) for use in uses if "card" in use.places}
    return tuple(link if id(link) in said else replace(link, card=card(kind)) for link in links)


def card(kind: str | None) -> Card:
    """The card that leads to its host."""
    made = kinds.foreign().get(kind or "")
    return made.card if made is not None else "virtio"


def cpus(kind: str | None, section: Section, found: int) -> int:
    """At least as many as its kind takes, where the lab file does not say how many."""
    made = kinds.foreign().get(kind or "")
    said = made is None or any(key in section.at for key in ("cpus", "topology"))
    return found if made is None or said else max(found, made.cpus)


def disk(kind: str | None, image: Image, said: int | None) -> int | None:
    """An empty disk that its installer takes, where it boots a medium and the lab file says none."""
    made = kinds.foreign().get(kind or "")
    return said or (made.disk or None if made is not None and (is_medium(image) or image.base == NO_IMAGE) else None)


def memory(
    section: Section, kind: str, machines: Sequence[Machine], said: int | None, where: tuple[Node | None, str]
) -> tuple[int, list[Complaint]]:
    """The bytes of a hypervisor's memory, as `said` at `where`, or what it needs."""
    if kinds.is_foreign(kind):
        made = kinds.foreign()[kind]
        given = said if "memory" in section.at or (said or 0) >= made.memory else None  # `defaults` may be too small
        return given or made.usual_memory, []
    about = kinds.kinds()[kind]
    inside = sum(machine.memory for machine in machines)
    need = inside + about.overhead * bool(machines)
    if said and said >= need:
        return int(said), []
    node, key = where
    if said and "memory" in section.at and node is not None:
        terms = " + ".join(format_size(machine.memory) for machine in machines[:8]) + " + …" * (len(machines) > 8)
        total = f" = {format_size(inside)}" if len(machines) > 1 else ""
        what = (
            f"{format_size(said)} does not hold its machines ({terms}{total})"
            f" and the {format_size(about.overhead)} that {kind} needs itself: {format_size(need)} together"
        )
        return int(said), [(node, key, what, f"Give it at least {format_size(need)}, or its machines less.")]
    total_memory = about.default_memory + inside
    if total_memory > MEMORY.high:
        hint = "Give them less, or move some to another hypervisor."
        what = f"its machines have {format_size(inside)} together, more than any machine can hold"
        return total_memory, [(section.node, section.key, what, hint)]
    return total_memory, []
