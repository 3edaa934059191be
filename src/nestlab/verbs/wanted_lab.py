"""Settles what is wanted of a lab: from its lab file or as it was made, with every machine where it is."""

from __future__ import annotations

from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.home import former_names, moved_machines
from nestlab.home.directories import LabHome
from nestlab.home.moved_machines import Moves
from nestlab.images.image_files import keys_of
from nestlab.lab import addresses
from nestlab.lab.blueprint import PROBE, Blueprint, Leases, images_of, settle
from nestlab.lab.model import Image, Lab
from nestlab.lab.moved_machines import made_under, placed, told
from nestlab.verbs import machine_setup
from nestlab.verbs.platform import Platform


@frozen
class Wanted:
    """`leases`: None for a lab as it was made."""

    blueprint: Blueprint
    leases: Leases | None
    moves: Moves


async def wanted(place: LabHome, lab: Lab | None, made: Blueprint | None, platform: Platform) -> Wanted:
    """What a lab file wants (`lab`), or what was made."""
    moves = moved_machines.load(place)
    if lab is None:
        return Wanted(placed(made or Blueprint(place.name), moves.aways), None, moves)
    paths = [each.path for each in lab.walk()]
    aways = told(moves.aways, paths)
    born = made_under(aways, paths)
    leases = addresses.lease(lab, _leases(place), await platform.routes(), born)
    contents, first = machine_setup.contents(lab), former_names.first(place)
    blueprint = settle(lab, leases, keys_of(_images(lab)), contents, first_name=first, born=born)
    return Wanted(placed(blueprint, aways), leases, replace(moves, aways=aways))


def _leases(place: LabHome) -> Leases:
    try:
        return addresses.leases_from_json(place.leases.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Leases()
    except (OSError, ValueError) as error:
        hint = "Move the file away: `nestlab up` then leases new addresses."
        raise LabError(f"{place.leases} cannot be read: {error}.", hint=hint) from error


def _images(lab: Lab) -> list[Image]:
    nests = any(each.machine.nests for each in lab.walk())
    return [*images_of(lab), *([PROBE] if nests else [])]
