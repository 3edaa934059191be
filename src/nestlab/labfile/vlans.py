"""VLANs of a lab file as values, and what is wrong with them: where they are named and which card is on which. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nestlab.base.did_you_mean import meant
from nestlab.lab.model import Image, Segment, Vlan
from nestlab.labfile import netboot
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.read import Section


def segment(name: str, section: Section | None) -> Segment:
    """What a segment says."""
    said: Mapping[str, Any] = section.values if section is not None else {}
    made = {"vlans": tuple(map(_vlan, said.get("vlans", ()))), "netboot": netboot.netboot(said.get("netboot"))}
    return Segment(name, **{**said, **made})


def _vlan(entry: tuple[object, Any]) -> Vlan:
    value = entry[1]
    if not isinstance(value, Section):
        return Vlan(value)
    return Vlan(value.values.get("vlan", 0), value.values.get("cidr"), value.values.get("cidr6"))


def of_segment(section: Section, local: bool) -> Iterator[Complaint]:
    """Mistakes in what a segment says of VLANs, and of what it serves."""
    yield from netboot.of_segment(section, local)
    said, key = section.values, section.key
    seen: set[int] = set()
    for at, entry in enumerate(said.get("vlans", ())):
        number = _vlan(entry).vlan
        if number in seen and number:
            yield entry[0], f"{key}.vlans[{at}]", f"VLAN {number} is here twice", "Name each VLAN once."
        seen.add(number)
    if said.get("transparent") and not local:
        what = "`transparent` means nothing on a Proxmox VE: what its own bridges pass on, only its administrator sets"
        hint = "Leave it out; on the nodes, group_fwd_mask in /sys/class/net/BRIDGE/bridge is what decides."
        yield section.keys["transparent"], f"{key}.transparent", what, hint
    if said.get("vlans") and said.get("bridge") and said.get("vlan"):
        what = f"the whole segment is VLAN {said['vlan']} of {said['bridge']}, and no VLAN has room for others inside"
        hint = "Leave out `vlan`, so that the bridge carries all of `vlans`, or leave out `vlans`."
        yield section.keys["vlans"], f"{key}.vlans", what, hint


def of_cards(uses: Sequence[Use], segments: Section | None, plain: Mapping[str, Image]) -> Iterator[Complaint]:
    """Mistakes in the VLANs of cards. `plain`: the images of machines that are no hypervisors, by path."""
    known = {name: _numbers(about) for name, about in segments.sections()} if segments is not None else {}
    fixed = [use for use in uses if use.link.vlan is not None and use.path not in plain]
    inner: dict[tuple[str, str], Use] = {}
    for use in uses if fixed else ():
        path = use.path
        while "/" in path:
            path = path.rpartition("/")[0]
            inner.setdefault((path, use.link.segment), use)
    for use in uses:
        link = use.link
        if link.vlan is not None:
            yield from _of_access(use, known.get(link.segment, ()), segments)
            if (inside := inner.get((use.path, link.segment))) is not None and use.path not in plain:
                yield from _of_hypervisor(use, inside)
        if link.trunk and use.path in plain and not plain[use.path].foreign:
            node, key = use.place("trunk")
            what = f"a trunk to {use.path}, which is a plain guest: it would get frames with tags that it does not know"
            yield (
                node,
                key,
                what,
                "Say which VLAN it is on (`vlan: 20`). Trunks are for hypervisors, and disks of yours.",
            )


def _numbers(about: Section) -> tuple[int, ...]:
    return tuple(_vlan(entry).vlan for entry in about.values.get("vlans", ()))


def _of_access(use: Use, known: Sequence[int], segments: Section | None) -> Iterator[Complaint]:
    link = use.link
    node, key = use.place("vlan")
    if link.trunk:
        what = "`vlan` and `trunk` exclude each other: a card is on one VLAN, or gets the frames of all"
        yield node, key, what, "Keep one of them."
    if known and link.vlan not in known:
        hint = meant(str(link.vlan), [str(number) for number in known], listed=True)
        yield node, key, f"the segment {link.segment} has no VLAN {link.vlan}", hint
    about = segments.values.get(link.segment) if segments is not None else None
    if isinstance(about, Section) and about.values.get("bridge") and about.values.get("vlan"):
        what = f"the whole segment {link.segment} is VLAN {about.values['vlan']} of a bridge, which has none inside"
        yield node, key, what, f"Leave out `vlan` here, or that of the segment {link.segment}."


def _of_hypervisor(use: Use, inside: Use) -> Iterator[Complaint]:
    node, key = use.place("vlan")
    where = f"{inside.path} inside is on that segment, too (line {inside.node.line})"
    what = f"the card of {use.path} would be on VLAN {use.link.vlan} of {use.link.segment} alone, and {where}"
    hint = "Leave out `vlan` here: the card of a hypervisor carries every VLAN that its machines say."
    yield node, key, what, hint
