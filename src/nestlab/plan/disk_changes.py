"""What becomes of the disks of a machine that is there, beside its own: added, grown, moved or deleted. Pure.

No disk is a reason to make a machine anew. One that is taken away, that is to be smaller or over another file, is
deleted by itself, which is a loss that is asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.lab.blueprint import Spec
from nestlab.lab.disks import MadeDisk, by_name
from nestlab.lab.model import format_size
from nestlab.plan.steps import Plugs, Seen, Written

_GROWS = ("virtio", "scsi")
"""The buses on which a guest is told that its disk has become larger (QEMU: block_resize)."""


@frozen
class DiskChanges:
    """`what`: all of them, in words. `discards`: the names of disks that are deleted. `live`: all of it can be done
    while the machine runs."""

    what: str
    discards: tuple[str, ...] = ()
    live: bool = True


def disk_changes(spec: Spec, seen: Seen) -> DiskChanges | None:
    """The changes; None: its disks are as wanted."""
    there, wanted = by_name(seen.disks), by_name(spec.disks)
    new = [disk for name, disk in wanted.items() if name not in there]
    gone = [disk for name, disk in there.items() if name not in wanted]
    both = [(disk, wanted[name]) for name, disk in there.items() if name in wanted]
    again = [(was, now) for was, now in both if was.source != now.source or _shrinks(was, now)]
    kept = [(was, now) for was, now in both if (was, now) not in again]
    grown = [(was, now) for was, now in kept if now.size > was.size]
    moved = [(was, now) for was, now in kept if was.where != now.where]
    words = [f"disk {disk.name} of {_size(disk)} is new" for disk in new]
    words += [f"disk {now.name} {_size(was)} -> {_size(now)}" for was, now in grown]
    words += [f"disk {now.name} {_where(was)} -> {_where(now)}" for was, now in moved]
    lost = [*gone, *(was for was, _ in again)]
    words += [f"disk {disk.name} is no longer wanted: {_lost(disk, seen)}" for disk in gone]
    words += [f"disk {now.name} {_why_again(was, now)}: {_lost(was, seen)}" for was, now in again]
    if not words:
        return None
    grows = all(now.bus in _GROWS for _, now in grown)
    live = grows and not moved and _fits([*new, *(now for _, now in again)], lost, seen.plugs)
    return DiskChanges(", ".join(words), tuple(disk.name for disk in lost), live)


def sizes_of(written: Written | None, disks: Iterable[MadeDisk], names: Collection[str]) -> Written | None:
    """What is written on the disks of these names; None: it is not known."""
    if written is None:
        return None
    sizes = dict(written.disks)
    return Written(sum(sizes.get(disk.id, 0) for disk in disks if disk.name in names), written.at_most)


def _shrinks(was: MadeDisk, now: MadeDisk) -> bool:
    """A size that is left out is no wish for a smaller one."""
    return 0 < now.size < was.size


def _fits(new: list[MadeDisk], lost: list[MadeDisk], plugs: Plugs) -> bool:
    """Whether disks can come and go while the machine runs."""
    on_pci = sum(disk.bus in ("virtio", "nvme") for disk in new)
    if any(disk.bus not in ("virtio", "nvme", "scsi") for disk in (*new, *lost)):
        return False
    if any(disk.bus == "scsi" for disk in (*new, *lost)) and not plugs.scsi:
        return False
    freed = sum(disk.bus in ("virtio", "nvme") for disk in lost)
    return on_pci <= plugs.pci + freed and (plugs.out or not freed)


def _size(disk: MadeDisk) -> str:
    return format_size(disk.size) if disk.size else "the size of its file"


def _where(disk: MadeDisk) -> str:
    return f"{disk.bus} {disk.serial}{' ssd' if disk.ssd else ''}"


def _why_again(was: MadeDisk, now: MadeDisk) -> str:
    if was.source != now.source:
        return "is to be over another file" if now.source else "is to be empty"
    return f"{_size(was)} -> {_size(now)}, and no disk gets smaller"


def _lost(disk: MadeDisk, seen: Seen) -> str:
    """The words for what is deleted with it."""
    if seen.written is not None and (size := dict(seen.written.disks).get(disk.id)) is not None:
        return f"it is deleted with {'up to ' if seen.written.at_most else ''}{human(size)} written"
    return "it is deleted"
