"""What a hypervisor may say of the machines inside it."""

from __future__ import annotations

from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.lab.model import directly_in
from nestlab.plan.steps import Observed


def own(parent: str, observed: Observed) -> Observed:
    """What an engine saw on `parent`, if all of it is right inside that: whatever a hypervisor says of its machines,
    nothing beside or above it is meant. LabError, in its name, otherwise."""
    machines = observed.machines.items()
    odd = [path for path, seen in machines if seen.path != path or not directly_in(path, parent)]
    odd += [each.host for each in observed.half_made if each.host != parent]
    odd += [each.host for each in observed.others if each.host != parent]
    if odd:
        where = parent or "the lab's own host"
        what = f"{where} tells of machines that cannot be in it: {one_line(odd[0])[:80]}."
        raise LabError(what, hint=f"Somebody changed files or programs of nestlab's in {where}.")
    return observed
