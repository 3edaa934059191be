"""Which frames are impaired where, from the faults that the user wants. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from nestlab.lab.blueprint import Blueprint
from nestlab.lab.faults import Fault, Impairment


def by_segment(blueprint: Blueprint, faults: Iterable[Fault], parent: str = "") -> dict[str, dict[str, Impairment]]:
    """For every segment: what happens to frames there, by MAC address of the card of a machine right inside `parent`
    ("": all frames of the segment)."""
    specs = blueprint.by_path()
    found: dict[str, dict[str, Impairment]] = {segment.name: {} for segment in blueprint.segments}
    for fault in faults:
        if fault.kind != "impair" or fault.segment not in found:
            continue
        if not fault.path:
            found[fault.segment][""] = fault.impairment
        elif fault.path in specs and specs[fault.path].parent == parent:
            nics = (nic for nic in specs[fault.path].nics if nic.segment == fault.segment)
            found[fault.segment] |= {nic.mac.lower(): fault.impairment for nic in nics}
    return found
