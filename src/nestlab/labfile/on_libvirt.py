"""What a lab on a libvirt cannot have: of segments, of cards, and of the machines that libvirt runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nestlab.lab.model import Machine
from nestlab.labfile import of_kind
from nestlab.labfile.network import Complaint, Use
from nestlab.labfile.read import Section, sections_of

_WITHOUT = "Leave it out, or run the lab without libvirt (`on: local`)."

_SEGMENT = {
    "netboot": "nothing of nestlab's is on libvirt's networks, to serve it",
    "vlans": "the bridges that libvirt makes tell no VLANs apart",
    "transparent": "what bridges that libvirt makes pass on, only root of this computer sets",
}


def of_segment(section: Section) -> Iterator[Complaint]:
    """Mistakes in what a segment says."""
    for key, why in _SEGMENT.items():
        if section.values.get(key):
            yield section.keys[key], f"{section.key}.{key}", f"`{key}` means nothing on a libvirt: {why}", _WITHOUT


def of_cards(uses: Sequence[Use]) -> Iterator[Complaint]:
    """Mistakes in cards, of machines at any level: frames with tags pass the outermost."""
    for use in uses:
        key = "vlan" if use.link.vlan is not None else "trunk" if use.link.trunk else ""
        if key:
            node, at = use.place(key)
            what = f"`{key}` means nothing on a libvirt: {_SEGMENT['vlans']}"
            yield node, at, what, _WITHOUT


def of_machines(root: Section, machines: Sequence[Machine]) -> Iterator[Complaint]:
    """Mistakes in the outermost machines."""
    sections = dict(sections_of(root.values.get("machines")))
    for machine in machines:
        yield from of_kind.not_by_libvirt(sections[machine.name], machine, _WITHOUT, outer=True)
