"""A lab stays where it was made: what was made elsewhere would be left behind, and forgotten."""

from __future__ import annotations

from nestlab.base.errors import LabError
from nestlab.home.directories import LabHome
from nestlab.lab import pve_address
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Lab
from nestlab.lab.places import On, Pve, called
from nestlab.plan.steps import Observed
from nestlab.wire.pve import known_addresses


def stays_in_place(place: LabHome, made: Blueprint, lab: Lab) -> None:
    """A lab does not move between places, but from one Proxmox VE to another: what was made there would stay behind."""
    one, other = made.on, lab.on
    if one != other and not (isinstance(one, Pve) and isinstance(other, Pve)):
        was, now = (called(on) for on in (made.on, lab.on))
        hint = f"`nestlab down {place.name}` ends it there, then `nestlab up` makes it anew; or give it another name."
        raise LabError(f"Lab {place.name} was made on {was}, and its lab file now says {now}.", hint=hint)


def same_door(made: On, on: On | None) -> bool:
    """Whether a lab that was made goes on at the same host and port: then the user let it in there before."""
    if not isinstance(made, Pve) or not isinstance(on, Pve):
        return made == on
    return known_addresses.same(pve_address.parse(made.address), pve_address.parse(on.address))


def left_behind(place: LabHome, made: Blueprint | None, wanted: Blueprint, observed: Observed) -> None:
    """Of a lab that is now on another Proxmox VE something must be seen there: else it is another cluster."""
    was, now = made.on if made else None, wanted.on
    if made is None or was is None or now is None or was.address == now.address or not made.specs:
        return
    if not observed.machines:
        what = f"Lab {place.name} was made on {was.address}, and on {now.address} there is nothing of it."
        gone = f"If that Proxmox VE is gone for good, remove {place.root}."
        raise LabError(what, hint=f"`nestlab down {place.name}` ends it there first. {gone}")
