"""Gives the machines of a lab on a Proxmox VE another lab's name: in notes, tags and their own names.

Each machine gets it in one request, and only from then on counts as the other lab's. Which machines are about to is
written down before the first one, so that one that was cut off can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import hardware
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.remembered import Memory
from nestlab.engines.pve.resources import Found
from nestlab.engines.pve.tags import LabNames, Mark

Intend = Callable[[Collection[int]], None]


async def rename(guests: Guests, lab: str, pool: str, intend: Intend) -> None:
    """All of them become machines of `lab`. LabError, before anything is changed, when the cluster has machines of a
    lab of that name already, when one runs or is locked, or when its node does not answer. `intend` writes down the
    VMIDs."""
    await guests.look()
    ours = guests.all_copies()
    numbers = {found.guest.vmid for found in ours}
    others = await Guests(guests.api, LabNames(lab), Memory(), pool).look()
    foreign = sorted(found.guest.vmid for found in others if found.guest.vmid not in numbers)
    if foreign:
        some = ", ".join(map(str, foreign[:8])) + (", …" if len(foreign) > 8 else "")
        what = f"{guests.api.where} has machines of another lab {lab} already: VM {some}."
        raise LabError(what, hint="Choose another name.")
    for found in ours:
        _can_be(found)
    intend(numbers)
    for found in ours:
        if found.mark.lab != lab:
            await _rename(guests, found, lab)


def _can_be(found: Found) -> None:
    guest, mark = found.guest, found.mark
    where = f"{mark.path} (VM {guest.vmid} on {guest.node})"
    if guest.status == "unknown":
        raise Unreachable(
            f"{where} cannot be renamed: its node does not answer.", hint="Start the node, then try again."
        )
    if guest.status != "stopped":
        raise LabError(f"{where} runs.", hint=f"`nestlab stop {mark.lab}` first; disks stay.")
    if guest.lock:
        hint = "Wait until nothing works on it, then try again."
        raise LabError(f"{where} is locked ({guest.lock}) and cannot be renamed now.", hint=hint)


async def _rename(guests: Guests, found: Found, lab: str) -> None:
    name = hardware.name_of(lab, found.mark.path)
    own = {"name": name} if found.guest.kind == "qemu" else {}  # a container is called by its host name

    def renamed(mark: Mark) -> Mark:
        options = tuple(f"name={name}" if line.startswith("name=") else line for line in mark.options)
        return replace(mark, lab=lab, options=options)

    await guests.note(found.guest, renamed, own or None)
