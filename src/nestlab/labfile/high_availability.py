"""`ha: true` of machines, and where it means nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab.lab.model import Lab, parent_of
from nestlab.labfile.network import Complaint
from nestlab.labfile.read import Section, sections_of


def mistakes(lab: Lab, root: Section) -> Iterator[Complaint]:
    """Of machines that say `ha: true` and are not right inside a node of a cluster of Proxmox VE."""
    kinds = {placed.path: placed.machine.hypervisor for placed in lab.walk()}
    members = {path for cluster in lab.clusters for path in cluster.members}
    for path, section in _sections(root.values.get("machines"), ""):
        parent = parent_of(path)
        if not section.values.get("ha"):
            continue
        place = section.keys["ha"], f"{section.key}.ha"
        if kinds.get(parent) != "pve":
            what = "`ha` means nothing here: high availability is that of a cluster of Proxmox VE"
            yield *place, what, "Leave it out, or put the machine inside a `hypervisor: pve`."
        elif parent not in members:
            what = f"{path} cannot be under high availability: {parent} is in no cluster"
            yield *place, what, f"Make {parent} a member of one in `clusters:`, or leave `ha` out."


def _sections(machines: Section | None, parent: str) -> Iterator[tuple[str, Section]]:
    """Every machine that the file says, by path."""
    for name, section in sections_of(machines):
        path = f"{parent}/{name}" if parent else name
        yield path, section
        inner = section.values.get("machines")
        yield from _sections(inner if isinstance(inner, Section) else None, path)
