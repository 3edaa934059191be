"""How a machine that is there becomes what is wanted: live, by a restart, or anew. Pure.

Only what a disk was made from, and a disk that is to be smaller, are reasons to delete one.
"""

from __future__ import annotations

from dataclasses import replace

from nestlab.base.frozen import frozen
from nestlab.lab.blueprint import Spec, starting
from nestlab.lab.model import format_size
from nestlab.plan.changes import changes
from nestlab.plan.disk_changes import DiskChanges, disk_changes
from nestlab.plan.steps import Seen, Way

RUNS = ("running", "paused")

EMPTY = 1 << 20
"""Bytes below which the disk of a half-made machine has nothing in it: an empty qcow2 file takes a fifth of that."""


@frozen
class Decision:
    """`what` changed: `memory 512M -> 640M`."""

    way: Way
    what: str
    disks: DiskChanges | None = None
    """What becomes of its disks beside its own, while the machine stays."""

    @property
    def discards(self) -> tuple[str, ...]:
        """The names of those that are deleted."""
        return self.disks.discards if self.disks is not None else ()


def decide(spec: Spec, seen: Seen, before: Spec | None) -> Decision | None:
    """The way that a change takes; None: the machine is as wanted. `before`: its definition when the lab was last made.

    A machine that an earlier nestlab made tells only its digest: then `before` tells the rest, and where that does not
    know the machine either, it counts as made from something else.
    """
    if seen.digest is None:
        return None
    made = before if before is not None and before.digest == seen.digest else None
    what = changes(made, spec) if made is not None else ""
    root, disk = _made_from(seen, before)
    if spec.root != root and seen.digest != spec.digest:
        return Decision("anew", what or ("what it is made from" if root else "how it was made is not known"))
    wanted = spec.machine.disk or 0
    if wanted and disk and wanted < disk:
        return Decision("anew", f"disk {format_size(disk)} -> {format_size(wanted)}, and no disk gets smaller")
    drives = disk_changes(spec, seen)
    words = [drives.what] if drives else []
    if seen.digest != spec.digest and not (made is not None and _starts_alike(made, spec)):
        resized = _resized(made, spec, seen) if made is not None else ""
        if not resized:
            return Decision("restart", ", ".join([what or "its definition changed", *words]), drives)
        words.insert(0, resized)
    elif seen.digest == spec.digest and (unsettled := _unsettled(spec, seen)):
        words.insert(0, unsettled)
    if disk is not None and wanted > disk:
        was = format_size(disk) if disk else "that of its image"
        words.insert(0, f"disk {was} -> {format_size(wanted)}")
    if seen.ha is not None and seen.ha != spec.machine.ha:
        words.append(f"high availability {'on' if seen.ha else 'off'} -> {'on' if spec.machine.ha else 'off'}")
    if drives and not drives.live and seen.state in RUNS:
        return Decision("restart", ", ".join(words), drives)
    return Decision("live", ", ".join(words), drives) if words else None


def _made_from(seen: Seen, before: Spec | None) -> tuple[str | None, int | None]:
    """The digest of what its disk was made from, and the bytes that the disk was asked to have."""
    root, disk = (before.root, before.machine.disk or 0) if before is not None else (None, None)
    return (root if seen.root is None else seen.root), (disk if seen.disk is None else seen.disk)


def _starts_alike(one: Spec, other: Spec) -> bool:
    """Whether two definitions give the same start, whatever their digests were made of."""
    first, second = (
        (starting(each.machine), each.nics, each.management, each.image, each.cdroms, each.has_disk)
        for each in (one, other)
    )
    return first == second


def _resized(made: Spec, spec: Spec, seen: Seen) -> str:
    """`memory 512M -> 640M, cpus 1 -> 2`, where that is all that changed of its start and it takes that while it runs;
    else ""."""
    old, new = made.machine, spec.machine
    sized = replace(made, machine=replace(old, memory=new.memory, cpus=new.cpus))
    memory = new.memory if new.memory != old.memory else None
    cpus = new.cpus if new.cpus != old.cpus else None
    able = seen.state == "running" and seen.ready and seen.room.takes(memory, cpus)
    return changes(made, sized) if able and _starts_alike(sized, spec) else ""


def _unsettled(spec: Spec, seen: Seen) -> str:
    """What a machine was asked to have while it ran, when that was given up half-way, against what is wanted."""
    memory, cpus = seen.room.asked
    if seen.state != "running" or (memory, cpus) in ((0, 0), (spec.machine.memory, spec.machine.cpus)):
        return ""
    return changes(replace(spec, machine=replace(spec.machine, memory=memory, cpus=cpus)), spec)


def restart(what: str, spec: Spec) -> str:
    """Why a machine is stopped and started."""
    return f"restart: {what}" + ("; its disk is kept" if spec.has_disk else "")


def anew(what: str, seen: Seen, made: Spec | None) -> str:
    """Why a machine is deleted and made again. `made`: what it was made from, where that is known."""
    return f"anew: {what}; {lost(seen, made)}"


def lost(seen: Seen, made: Spec | None) -> str:
    """The words for what is deleted with a machine."""
    if made is not None and not made.has_disk:
        return "it has no disk: only what is in its memory is lost"
    its, are = ("its disks", "are") if seen.disks else ("its disk", "is")
    if seen.written is not None:
        return f"{its} with {seen.written} written {are} deleted"
    return (
        f"{its} of {format_size(seen.disk)} {are} deleted" if seen.disk and not seen.disks else f"{its} {are} deleted"
    )
