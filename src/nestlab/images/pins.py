"""Checksums that checksum files (`sums`) said, kept in nestlab's state: read once, then the same until asked again.

One file for each image, by its URL, that of its checksum file, and the keys that must have signed it. So a lab that is
up keeps its images, whatever its vendor publishes meanwhile, and a plan asks nobody.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nestlab.base import files, regular
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.typed import check, parsed
from nestlab.home.directories import Home
from nestlab.images import signatures
from nestlab.lab import checksums
from nestlab.lab.blueprint import images_of
from nestlab.lab.model import Image, Lab, Machine
from nestlab.lab.urls import is_url, name_in, shown_url
from nestlab.wire.download import text

SIGNATURES = (".sign", ".gpg", ".asc", ".sig")
"""What the name of a file with the signature of another ends in: Debian, Ubuntu and most others."""

_CHECKSUM = re.compile("sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@frozen
class _Pin:
    url: str
    sums: str
    checksum: str
    at: float


@frozen
class Read:
    """What a checksum file says of an image now, and what it said before ("" : it was not read before)."""

    image: Image
    checksum: str
    before: str


def known(lab: Lab, home: Home) -> Lab:
    """The lab, whose images have the checksums that are known of their checksum files. Nobody is asked."""
    found: dict[Image, Image] = {}
    for image in open_images(lab):
        if checksum := known_of(image, home):
            found[image] = replace(image, checksum=checksum)
    return _with(lab, found) if found else lab


async def settled(lab: Lab, home: Home, say: Say) -> Lab:
    """As `known`, with the checksum files read that were not yet. LabError where one cannot be had, is not signed, or
    says nothing of its image."""
    unread = [image for image in open_images(lab) if known_of(image, home) is None]
    await read(unread, home, say)
    return known(lab, home)


async def read(images: Iterable[Image], home: Home, say: Say) -> list[Read]:
    """Read the checksum files of images, and keep what they say."""
    found = []
    for image in dict.fromkeys(images):
        if image.sums is None or image.url is None:
            continue
        before = known_of(image, home) or ""
        checksum = await _ask(image, say)
        pin = {"url": shown_url(image.url), "sums": shown_url(image.sums), "checksum": checksum, "at": time.time()}
        files.sweep(_place(image, home).parent)
        files.replace(_place(image, home), json.dumps(pin).encode() + b"\n", 0o600)
        found.append(Read(replace(image, checksum=checksum), checksum, before))
    return found


def open_images(lab: Lab) -> list[Image]:
    """The images of a lab whose checksum files must be read first."""
    return [each for each in dict.fromkeys(images_of(lab)) if each.sums is not None and each.checksum is None]


def _place(image: Image, home: Home) -> Path:
    said = [image.url, image.sums, _digest(image.signed_by), "" if is_url(image.sums or "") else _digest(image.sums)]
    name = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]
    return home.state / "checksums" / f"{name}.json"


def _digest(path: str | None) -> str:
    if path is None:
        return ""
    return hashlib.sha256(_local(path)).hexdigest()


def _local(path: str) -> bytes:
    try:
        return regular.read(Path(path), checksums.LIMIT)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LabError(f"{path} cannot be read: {reason}.", hint="Correct the lab file, which names it.") from None


def known_of(image: Image, home: Home) -> str | None:
    """The checksum that is known of an image whose checksum file says it."""
    try:
        pin = _Pin(**parsed(_place(image, home).read_text()))
        check(pin, _Pin, "the checksum")
    except (OSError, ValueError, TypeError):
        return None
    return pin.checksum if _CHECKSUM.fullmatch(pin.checksum) else None


async def _ask(image: Image, say: Say) -> str:
    """What the checksum file says of an image, once its signature was checked."""
    assert image.sums is not None
    assert image.url is not None
    say(f"reading {shown_url(image.sums)}")
    content = await _had(image.sums)
    if content is None:
        what = f"{shown_url(image.sums)} is not there: its server says so (404)."
        raise LabError(what, hint="Correct `sums` of the image.")
    if image.signed_by is not None:
        content = await _signed(image.sums, content, _local(image.signed_by))
    try:
        return checksums.find(content.decode(errors="replace"), name_in(image.url))
    except checksums.Lacking as error:
        what, hint = error.args
        raise LabError(f"{shown_url(image.sums)} does not help: {what}.", hint=hint) from None


async def _signed(sums: str, content: bytes, keys: bytes) -> bytes:
    """What of it is signed."""
    shown = shown_url(sums)
    if content.lstrip().startswith(signatures.CLEAR):
        return await signatures.verified(shown, content, None, keys)
    for ending in SIGNATURES:
        signature = await _had(sums + ending)
        if signature is not None:
            return await signatures.verified(shown, content, signature, keys)
    what = f"{shown} has no signature: neither in itself, nor beside it ({', '.join(SIGNATURES)})."
    raise LabError(what, hint="Leave `signed_by` out only if nobody signs it; it must then be on https.")


async def _had(place: str) -> bytes | None:
    """A file by its URL or path; None if it is not there."""
    if is_url(place):
        return await text(place, checksums.LIMIT)
    return _local(place) if Path(place).exists() else None


def _with(lab: Lab, found: dict[Image, Image]) -> Lab:
    def machine(each: Machine) -> Machine:
        image = found.get(each.image)
        if image is not None:
            image = replace(image, name=each.image.name, said=each.image.said)
        disks = tuple(
            replace(disk, image=found.get(disk.image, disk.image) if disk.image else None) for disk in each.disks
        )
        media = tuple(medium if isinstance(medium, str) else found.get(medium, medium) for medium in each.cdroms)
        machines = tuple(map(machine, each.machines))
        return replace(each, image=image or each.image, disks=disks, cdroms=media, machines=machines)

    return replace(lab, machines=tuple(map(machine, lab.machines)))
