"""Describes what changed between two definitions of a machine. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import format_size


def changes(old: Spec, new: Spec) -> str:
    """`memory 1G -> 2G, cpus 1 -> 2`; "" when the machine itself is as it was (then what it is in changed)."""
    return ", ".join([*_machine(old, new), *_cards(old, new)])


def _machine(old: Spec, new: Spec) -> Iterator[str]:
    before, after = old.machine, new.machine
    for name in ("hypervisor", "container", "cpus", "memory", "disk", "accel", "internet", "cmdline"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            size = name in ("memory", "disk")
            yield f"{name} {_text(was, size)} -> {_text(now, size)}"
    if title_of(before.image) != title_of(after.image):
        yield f"image {title_of(before.image)} -> {title_of(after.image)}"
    elif old.image != new.image:
        yield f"what its image {title_of(after.image)} is made of"
    if old.management != new.management:
        yield f"management network {old.management} -> {new.management}"


def _text(value: object, size: bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if size and isinstance(value, int):
        return format_size(value)
    return str(value) if value not in (None, "") else "none"


def _cards(old: Spec, new: Spec) -> Iterator[str]:
    before = {nic.segment: nic for nic in old.nics}
    after = {nic.segment: nic for nic in new.nics}
    for segment in before:
        if segment not in after:
            yield f"it leaves segment {segment}"
    for segment, nic in after.items():
        if segment not in before:
            yield f"it joins segment {segment}"
        else:
            yield from _card(before[segment], nic)
    if before.keys() == after.keys() and list(before) != list(after):
        yield "the order of its segments"


def _card(old: Nic, new: Nic) -> Iterator[str]:
    segment = new.segment
    if old.addresses != new.addresses:
        yield f"addresses on {segment} {' '.join(old.addresses) or 'none'} -> {' '.join(new.addresses) or 'none'}"
    if old.mac != new.mac:
        yield f"mac on {segment} {old.mac} -> {new.mac}"
    if old.mtu != new.mtu:
        yield f"mtu of {segment} {old.mtu} -> {new.mtu}"
    if old.bridge != new.bridge:
        yield f"machines inside {'now' if new.bridge else 'no longer'} use segment {segment}"
