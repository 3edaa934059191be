"""How a machine that is there becomes what is wanted: live, by a restart, or anew. Pure.

Only what a disk was made from, and a disk that is to be smaller, are reasons to delete one.
"""

from __future__ import annotations

from dataclasses import dataclass

from nestlab.base.paint import human
from nestlab.lab.blueprint import Spec, starting
from nestlab.lab.model import format_size
from nestlab.plan.changes import changes
from nestlab.plan.steps import Seen, Way

EMPTY = 1 << 20
"""Bytes below which the disk of a half-made machine has nothing in it: an empty qcow2 file takes a fifth of that."""


@dataclass(frozen=True)
class Decision:
    """`what` changed: `memory 512M -> 640M`."""

    way: Way
    what: str


def decide(spec: Spec, seen: Seen, before: Spec | None) -> Decision | None:
    """What a change takes; None: the machine is as wanted. `before`: what the lab was last made from.

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
    if seen.digest != spec.digest and not (made is not None and _starts_alike(made, spec)):
        return Decision("restart", what or "its definition changed")
    if disk is not None and wanted > disk:
        was = format_size(disk) if disk else "that of its image"
        return Decision("live", f"disk {was} -> {format_size(wanted)}")
    return None


def _made_from(seen: Seen, before: Spec | None) -> tuple[str | None, int | None]:
    """What its disk was made from, and the bytes that it was asked to have."""
    root, disk = (before.root, before.machine.disk or 0) if before is not None else (None, None)
    return (root if seen.root is None else seen.root), (disk if seen.disk is None else seen.disk)


def _starts_alike(one: Spec, other: Spec) -> bool:
    """Whether two definitions give the same start, whatever their digests were made of."""
    first, second = (
        (starting(each.machine), each.nics, each.management, each.image, each.has_disk) for each in (one, other)
    )
    return first == second


def restart(what: str, spec: Spec) -> str:
    """Why a machine is stopped and started."""
    return f"restart: {what}" + ("; its disk is kept" if spec.has_disk else "")


def anew(what: str, seen: Seen, made: Spec | None) -> str:
    """Why a machine is deleted and made again. `made`: what it was made from, where that is known."""
    return f"anew: {what}; {lost(seen, made)}"


def lost(seen: Seen, made: Spec | None) -> str:
    """What is deleted with a machine."""
    if made is not None and not made.has_disk:
        return "it has no disk"
    if seen.written is not None:
        return f"its disk with {human(seen.written)} written is deleted"
    return f"its disk of {format_size(seen.disk)} is deleted" if seen.disk else "its disk is deleted"
