"""What a lab file says about the packages of a Proxmox VE: its version, and the repository they come from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nestlab.lab.model import Image
from nestlab.lab.pve_packages import LATEST, PvePackages
from nestlab.lab.urls import is_url
from nestlab.labfile.network import Complaint
from nestlab.labfile.read import Section

BASE = "pve"
"""The image that is made of them."""


def of_lab(root: Section) -> PvePackages:
    """What the lab file says for all machines."""
    return _with(PvePackages(), root.values.get("pve_mirror"))


def of_image(section: Section, lab: PvePackages) -> PvePackages | None:
    """What an image says, over what the lab says; None for an image that is made of no such packages."""
    if section.values.get("from") != BASE:
        return None
    return settled(replace(_with(lab, section.values.get("pve_mirror")), version=section.values.get("version", LATEST)))


def own(base: str, lab: PvePackages) -> Image:
    """One of nestlab's images, as it is."""
    return Image(base=base, pve=settled(lab) if base == BASE else None)


def settled(packages: PvePackages) -> PvePackages | None:
    """None for what an image has that says nothing."""
    return packages if packages != PvePackages() else None


def _with(before: PvePackages, said: Any) -> PvePackages:
    if isinstance(said, str):
        return replace(before, mirror=said)
    if not isinstance(said, Section):
        return before
    given = said.values
    found = {"mirror": given.get("url"), "suite": given.get("suite"), "component": given.get("component")}
    if "keyring" in given:
        digest = given.get("sha256")
        before = replace(before, keyring=given["keyring"], checksum=f"sha256:{digest.lower()}" if digest else None)
    return replace(before, **{name: value for name, value in found.items() if value is not None})


def mistakes(section: Section) -> Iterator[Complaint]:
    """What is wrong with what an image says about its packages."""
    base = section.values.get("from")
    for key in ("version", "pve_mirror") if base is not None and base != BASE else ():
        if key in section.keys:
            what = f"`{key}` means nothing here: {base} has nothing of Proxmox VE"
            hint = "Leave it out, or say `from: pve`." if key != "version" else "Its release of Debian is `suite`."
            yield section.keys[key], f"{section.key}.{key}", what, hint
    if base == BASE and "suite" in section.keys:
        what = "`suite` means nothing here: Proxmox VE is made on one release of Debian, by its version"
        yield (
            section.keys["suite"],
            f"{section.key}.suite",
            what,
            "Say `version: 9` (trixie) or `version: 8` (bookworm).",
        )
    yield from of_mirror(section)


def of_mirror(section: Section) -> Iterator[Complaint]:
    """What is wrong with a repository that an image, or the lab file, says."""
    said = section.values.get("pve_mirror")
    if not isinstance(said, Section):
        return
    keyring, place = said.values.get("keyring"), f"{said.key}.keyring"
    if keyring is None and "sha256" in said.keys and "keyring" not in said.keys:
        what = "`sha256` is of a `keyring`, and there is none"
        yield said.keys["sha256"], f"{said.key}.sha256", what, "Say `keyring:`, or leave it out for Proxmox's own."
    elif keyring is not None and is_url(keyring) and "sha256" not in said.keys:
        what = "it does not say what the keyring at that URL must be"
        yield said.at["keyring"], place, what, "Say its `sha256:`, or name a file of yours that you trust."
