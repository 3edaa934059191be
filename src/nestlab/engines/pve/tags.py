"""Tags and notes that mark a guest of a Proxmox VE as nestlab's, and say what it was made from. Pure.

The last line of a machine's notes is `nestlab: {json}`. It names the VMID, so that a copy that somebody made of a
machine (a clone or a restored backup has the same notes and tags) is not taken for it. One of the tags is a digest of
that line: whoever knows the line from before need not read it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from ipaddress import ip_address
from typing import Any, Literal

from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.lab.disks import MadeDisk, made_disks
from nestlab.lab.model import is_path, parent_of, plain
from nestlab.wire.shapes import LARGEST

TAG = "nestlab"
PREFIX = "nestlab: "
STAMP = "nestlab."
TEMPLATE_TAG = "nestlab-template"
"""A clone has the tags of the template that it was made from, until it gets its own."""

NOTES_LIMIT = 8192
"""Characters of a machine's notes (qemu-server, confdesc: maxLength)."""


@frozen
class Mark:
    """The mark in the notes of a machine. `digest` and `names` as in `steps.Seen`."""

    lab: str
    path: str
    vmid: int
    digest: str = ""
    names: str = ""
    wanted: Literal["running", "stopped"] = "stopped"
    making: bool = False
    """Half made, as long as this stands there."""
    told: str = ""
    """The names that its identity disk has, where those are not `names`: told to it while it ran."""
    since: int = 0
    """When it was told its names, seconds since the epoch: a later start has read the identity disk again."""
    image: str = ""
    """Key of the image that it was made from."""
    cargo: tuple[str, ...] = ()
    """Keys of the images that it was handed."""
    bridged: tuple[str, ...] = ()
    """Its segments that are bridges of the node, which nothing else tells of."""
    storage: str = ""
    """Where its disks were made."""
    kvm: bool = True
    """Whether it was made to run under KVM."""
    user: str = "root"
    """Who can log in."""
    disk: int | None = None
    """The bytes that its disk was asked to have, 0: those of its image; None: that was not kept."""
    options: tuple[str, ...] = ()
    """What nestlab set of its configuration, as `key=value` (`drift.py`); () of those made before that was kept."""
    disks: tuple[MadeDisk, ...] = ()
    """Its disks beside its own."""
    media: tuple[str, ...] = ()
    """Keys of what is in its CD-ROM drives."""
    unmet: bool = False
    """It was started, and has not been reached since."""
    ha: bool = False
    """nestlab put it under high availability."""
    addresses: tuple[str, ...] = ()
    """Of a machine inside a node of nestlab's: where that reaches it."""


@frozen
class LabNames:
    """By which a lab's machines are known. `former`: names that it had, first the one that it was made under.
    `coming`: the names that renames were giving to the VMs `renamed` when they were interrupted."""

    now: str
    former: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    renamed: frozenset[int] = frozenset()
    parent: str = ""
    """What they are right inside of; "": they are on the lab's own level."""

    @property
    def first(self) -> str:
        return next(iter(self.former), self.now)

    def owns(self, mark: Mark) -> bool:
        if parent_of(mark.path) != self.parent:
            return False
        return mark.lab == self.now or (mark.lab in self.coming and mark.vmid in self.renamed)

    def may_own(self, tags: Iterable[str]) -> bool:
        """Whether a machine with such tags may be one of the lab, which its notes then decide. (A rollback brings back
        the tags of then.)"""
        tags = tuple(tags)
        return any(may_be(tags, lab) for lab in (self.now, *self.former, *self.coming))

    def without(self, tags: str) -> str:
        """Tags without those of all these names."""
        ours = {lab_tag(lab) for lab in (self.now, *self.former, *self.coming)}
        return ";".join(tag for tag in split(tags) if tag not in ours)


def line(mark: Mark) -> str:
    """The line that stands in the notes."""
    return PREFIX + json.dumps(plain(mark), separators=(",", ":"), sort_keys=True)


def stamp(mark: Mark) -> str:
    """12 hex digits that are another one for every other line."""
    return hashlib.sha256(line(mark).encode()).hexdigest()[:12]


def read(notes: str, vmid: int) -> Mark | None:
    """The mark in the notes of this machine. None where there is none, or it is that of another machine."""
    for text in reversed(notes.splitlines()):
        mark = of_line(text.strip())
        if mark is not None:
            return mark if mark.vmid == vmid else None
    return None


def of_line(text: str) -> Mark | None:
    """A mark from its line; None if it is none (a template's, or what a person wrote)."""
    if not text.startswith(PREFIX):
        return None
    try:
        data = parsed(text.removeprefix(PREFIX))
        known = {item.name for item in fields(Mark)}
        given: dict[str, Any] = {name: value for name, value in data.items() if name in known}
        given |= {
            name: tuple(map(str, given.get(name, ()))) for name in ("addresses", "bridged", "cargo", "media", "options")
        }
        given["disks"] = made_disks(given.get("disks", []))
        mark = Mark(**given)
    except (ValueError, TypeError, AttributeError):
        return None
    return mark if _sound(mark) else None


_TEXTS = ("addresses", "bridged", "cargo", "media", "options")


def _sound(mark: Mark) -> bool:
    texts = (mark.lab, mark.path, mark.digest, mark.names, mark.told, mark.image, mark.storage, mark.user)
    numbers = (mark.vmid, mark.since, mark.disk or 0)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) and 0 <= number <= LARGEST for number in numbers)
        and all(isinstance(each, bool) for each in (mark.making, mark.kvm, mark.unmet, mark.ha))
        and all("=" in option for option in mark.options)
        and bool(mark.lab)
        and is_path(mark.path)
        and all(_is_address(each) for each in mark.addresses)
        and mark.wanted in ("running", "stopped")
    )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def write(notes: str, mark: Mark) -> str:
    """Notes with this mark in place of any other; what a person wrote stays, shortened only where all is too long."""
    own = [text for text in notes.splitlines() if of_line(text.strip()) is None and not _of_template(text)]
    text = "\n".join(own).strip()
    room = NOTES_LIMIT - len(line(mark)) - 2
    return f"{text[:room].rstrip()}\n\n{line(mark)}" if text else line(mark)


def _of_template(text: str) -> bool:
    return text.strip().startswith(PREFIX + "{")


def split(tags: str) -> tuple[str, ...]:
    """The tags of a machine, which PVE separates by `;` and people by `,` and blanks too."""
    return tuple(tags.replace(",", ";").replace(" ", ";").strip(";").split(";")) if tags.strip() else ()


def lab_tag(lab: str) -> str:
    return f"{TAG}-{lab}"


def tags(existing: str, mark: Mark) -> str:
    """The tags of a machine with this mark; those that are not nestlab's stay."""
    ours = (TAG, lab_tag(mark.lab), STAMP + stamp(mark))
    others = [tag for tag in split(existing) if tag and tag not in ours and not _passing(tag)]
    return ";".join([*ours, *others])


def _passing(tag: str) -> bool:
    return tag.startswith(STAMP) or tag == TEMPLATE_TAG


def may_be(tags: Iterable[str], lab: str) -> bool:
    """Whether a machine with such tags may be one of the lab, which its notes then decide."""
    found = set(tags)
    return TAG in found and (lab_tag(lab) in found or TEMPLATE_TAG in found)


def stamp_of(tags: Iterable[str]) -> str:
    """The stamp among tags; "" where there is none."""
    return next((tag.removeprefix(STAMP) for tag in tags if tag.startswith(STAMP)), "")
