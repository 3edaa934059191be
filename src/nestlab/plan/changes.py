"""Describes what changed between two definitions of a machine. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.hardware import Hardware
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import format_size, plain


def changes(old: Spec, new: Spec) -> str:
    """`memory 1G -> 2G, cpus 1 -> 2`; "" when the machine itself is as it was (then what it is in changed)."""
    return ", ".join([*_machine(old, new), *_cards(old, new)])


def _machine(old: Spec, new: Spec) -> Iterator[str]:
    before, after = old.machine, new.machine
    for name in ("hypervisor", "container", "cpus", "memory", "disk", "bus", "accel", "internet", "cmdline", "boot"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            size = name in ("memory", "disk")
            absent = "that of its image" if name == "disk" else "none"
            yield f"{name} {_text(was, size, absent)} -> {_text(now, size, absent)}"
    yield from _hardware(before.hardware, after.hardware)
    if title_of(before.image) != title_of(after.image):
        yield f"image {title_of(before.image)} -> {title_of(after.image)}"
    elif old.image != new.image:
        yield f"what its image {title_of(after.image)} is made of"
    if old.cdroms != new.cdroms or before.cdroms != after.cdroms:
        yield "what is in its CD-ROM drives"
    if old.management != new.management:
        yield f"management network {old.management} -> {new.management}"


def _hardware(old: Hardware, new: Hardware) -> Iterator[str]:
    for each in fields(Hardware):
        was, now = getattr(old, each.name), getattr(new, each.name)
        if was != now:
            yield f"{each.name} {_said(was)} -> {_said(now)}"


def _said(value: object) -> str:
    """`sockets=2 cores=2` of a topology, as a lab file says it."""
    if is_dataclass(value):
        return " ".join(f"{name}={each}" for name, each in plain(value).items()) or "none"
    return _text(value, False)


def _text(value: object, size: bool, absent: str = "none") -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "as nestlab chooses"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if size and isinstance(value, int):
        return format_size(value)
    return str(value) if value not in (None, "") else absent


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
    if old.card != new.card:
        yield f"card on {segment} {old.card} -> {new.card}"
    if old.vlan != new.vlan:
        yield f"VLAN on {segment} {old.vlan or 'none'} -> {new.vlan or 'none'}"
    if old.trunk != new.trunk:
        yield f"its card on {segment} {'becomes a trunk' if new.trunk else 'is no longer a trunk'}"
    if old.transparent != new.transparent:
        yield f"its bridge of {segment} {'passes' if new.transparent else 'no longer passes'} LACP, LLDP and EAPOL"
    if old.bridge != new.bridge:
        yield f"machines inside {'now' if new.bridge else 'no longer'} use segment {segment}"
