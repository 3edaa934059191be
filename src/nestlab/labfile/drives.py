"""Disks, CD-ROMs and what is booted from, of a machine in a lab file: values, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from nestlab.base.frozen import frozen
from nestlab.lab.disks import BOOTS, MOST, ROTATES, BootFrom, Bus, Disk, is_own, serial_of
from nestlab.lab.model import NO_IMAGE, Image, Machine, diskless, format_size
from nestlab.labfile import url_image
from nestlab.labfile.disk_header import Fault
from nestlab.labfile.disk_image import of_disk, size_of
from nestlab.labfile.image_size import readable
from nestlab.labfile.network import Complaint
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

_ISO = (b"CD001", b"BEA01", b"NSR02", b"NSR03")
"""What stands at the beginning of a CD-ROM's first descriptor (ECMA-119 8.1, ECMA-167 2/9.1), one byte after 32 KiB."""


class Builder(Protocol):
    """As much of what builds a lab as is needed here."""

    embedded: bool

    def wrong(self, node: Node, key: str, what: str, hint: str = "") -> None: ...

    def pick(self, section: Section, name: str) -> tuple[Any, Node | None, str]: ...

    def only_where(self, section: Section, name: str, useless: bool, why: str, hint: str = "") -> Any: ...


@frozen
class _Said:
    """A disk with the places of what is said of it."""

    disk: Disk
    node: Node
    key: str
    section: Section | None

    def place(self, name: str) -> tuple[Node, str]:
        if self.section is not None and name in self.section.at:
            return self.section.at[name], f"{self.key}.{name}"
        return self.node, self.key


class Drives:
    """Of all machines of a lab. What `defaults` or an alias says for many is read, and complained of, once."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._disks: dict[tuple[int, Image, Bus, bool], tuple[_Said, ...]] = {}
        self._media: dict[int, tuple[str | Image, ...]] = {}

    def equipped(self, machine: Machine, section: Section, *, by_pve: bool) -> Machine:
        """The machine with its disks, its CD-ROMs, and what it boots from. `by_pve`: a Proxmox VE makes it."""
        if machine.container:
            for name in ("disks", "cdroms", "boot"):
                self._builder.only_where(section, name, True, "it is a container")
            return machine
        said = self._read(machine, section, by_pve=by_pve)
        cdroms = self._cdroms(machine, section, said)
        made = replace(machine, disks=tuple(each.disk for each in said), cdroms=cdroms)
        made = replace(made, boot=self._boot(made, section))
        if made.image.base == NO_IMAGE and not _sources(made):
            hint = "Say `cdroms: [./installer.iso]`, or give it a card on a segment that it can boot by."
            self._builder.wrong(section.node, section.key, "there is nothing that it could boot from", hint)
        return made

    def _read(self, machine: Machine, section: Section, *, by_pve: bool) -> tuple[_Said, ...]:
        given, node, key = self._builder.pick(section, "disks")
        if given is None or node is None:
            return ()
        known = (id(node), machine.image, machine.bus, by_pve)
        if known not in self._disks:
            found = tuple(self._disk(*each) for each in _entries(given, key))
            self._check(found, machine, by_pve)
            self._disks[known] = found
        return self._disks[known]

    def _disk(self, name: str, node: Node, key: str, value: Any) -> _Said:
        if not isinstance(value, Section):
            return _Said(Disk(name, value, serial=serial_of(name)), node, key, None)
        given = value.values
        serial = given.get("serial") or serial_of(name)
        disk = Disk(
            name, given.get("size", 0), bus=given.get("bus", "virtio"), ssd=given.get("ssd", False), serial=serial
        )
        said = _Said(disk, value.node, key, value)
        if "url" in value.at:
            return self._fetched(said, value)
        self._complain(url_image.without_url(value))
        if "file" in value.at:
            self._complain(url_image.unconverted(value))
            return replace(said, disk=self._over(said, given)) if "file" in given else said
        if "format" in value.at:
            self._builder.wrong(
                *said.place("format"), "`format` means nothing without a `file` or a `url`", "Leave it out."
            )
        if "size" not in value.at:
            self._builder.wrong(
                value.node, key, "it says neither `size`, `file` nor `url`", "Say `size: 20G`, or a `file`."
            )
        return said

    def _fetched(self, said: _Said, section: Section) -> _Said:
        """A disk over what is downloaded."""
        if "file" in section.at:
            hint = "Keep one of them."
            self._builder.wrong(*said.place("file"), "`file` and `url` exclude each other", hint)
            return said
        image, wrong = url_image.of_drive(section, medium=False)
        self._complain(wrong)
        return replace(said, disk=replace(said.disk, image=image))

    def _complain(self, complaints: Iterable[Complaint]) -> None:
        for each in complaints:
            self._builder.wrong(*each)

    def _over(self, said: _Said, given: dict[str, Any]) -> Disk:
        """A disk over a file of the user's."""
        file, disk = given["file"], said.disk
        form = of_disk(file, given.get("format"), said.section is not None and "format" in said.section.at)
        if isinstance(form, tuple):
            self._builder.wrong(*said.place("file"), *form)
            return disk
        if form != "qcow2" and form != "raw":
            hint = "A CD-ROM belongs under `cdroms`; of a disk whose name tells nothing say its `format`."
            self._builder.wrong(*said.place("file"), f"{file} is no disk by its name", hint)
            return disk
        least = size_of(file, form)
        if disk.size and disk.size < least:
            what = f"{format_size(disk.size)} is less than its file has: {readable(least)}"
            self._builder.wrong(*said.place("size"), what, f"Give it at least {readable(least)}, or leave it out.")
        return replace(disk, file=file, format=form)

    def _check(self, said: Sequence[_Said], machine: Machine, outer: bool) -> None:
        """What does not go together. `outer`: a Proxmox VE makes it."""
        serials: dict[str, str] = {}
        for each in said:
            disk = each.disk
            if disk.serial in serials:
                what = f"the serial number {disk.serial} is that of its disk {serials[disk.serial]} already"
                self._builder.wrong(*each.place("serial"), what, "Give each its own, or leave `serial` out.")
            serials.setdefault(disk.serial, disk.name)
            if is_own(disk.serial):
                what = f"the serial number {disk.serial} is one that nestlab gives its own disks"
                self._builder.wrong(*each.place("serial"), what, "Choose another.")
            if disk.ssd and disk.bus not in ROTATES:
                why = "is one in any case" if disk.bus == "nvme" else "does not tell"
                hint = "Leave it out, or say `bus: scsi`, `sata` or `ide`."
                self._builder.wrong(*each.place("ssd"), f"`ssd` means nothing here: a disk on {disk.bus} {why}", hint)
            if fault := _unfit(disk.bus, machine.image, outer):
                self._builder.wrong(*each.place("bus"), *fault)
        for bus, most in MOST.items():
            these = [each for each in said if each.disk.bus == bus]
            alike = bus == machine.bus == "ide" or (outer and bus == machine.bus == "sata")
            own = int(alike and (machine.image.foreign or machine.disk is not None))
            most -= own  # the channels of `pc`, and all slots of a Proxmox VE, are those that its own disk is on
            if len(these) > most:
                beside = " beside its own" if own else ""
                what = f"{len(these)} disks are on {bus}, which takes {most}{beside}"
                self._builder.wrong(*these[most].place("bus"), what, "Put some on another `bus`.")

    def _cdroms(self, machine: Machine, section: Section, said: Sequence[_Said]) -> tuple[str | Image, ...]:
        given, node, key = self._builder.pick(section, "cdroms")
        if given is None or node is None:
            return ()
        if id(node) not in self._media:
            each = given if isinstance(given, list) else [(node, given)]
            self._media[id(node)] = tuple(filter(None, (self._medium(at, key, file) for at, file in each)))
        found = self._media[id(node)]
        if machine.image.base == "tiny":
            if "cdroms" in section.at:
                what = "`cdroms` means nothing here: tiny has no driver for CD-ROM drives"
                self._builder.wrong(section.keys["cdroms"], key, what, "Use `image: debian`, or leave them out.")
            return ()
        own = int(machine.image.foreign)
        taken = own + sum(each.disk.bus == "ide" for each in said)
        if found and len(found) + taken > MOST["ide"]:
            rest = [f"{taken - own} disks on `ide`"] * (taken > own) + ["the one of its image"] * own
            beside = f" beside {' and '.join(rest)}" if rest else ""
            what = f"{len(found)} CD-ROM drives{beside}, and there is room for {MOST['ide']} drives"
            self._builder.wrong(node, key, what, "Take fewer, or put disks on another `bus`.")
        return found

    def _medium(self, node: Node, key: str, said: str | Section) -> str | Image | None:
        """What is in a drive; None where it cannot be."""
        if isinstance(said, Section):
            if "url" not in said.at:
                self._builder.wrong(node, said.key, "it does not say its `url`", "Say it, or the path of an ISO alone.")
                return None
            image, wrong = url_image.of_drive(said, medium=True)
            self._complain(wrong)
            return image
        fault = _not_iso(said)
        if fault is not None:
            self._builder.wrong(node, key, *fault)
        return said if fault is None else None

    def _boot(self, machine: Machine, section: Section) -> tuple[BootFrom, ...]:
        why = f"nestlab hands it the kernel of its image, {machine.image.base}"
        hint = "Leave it out; or say `image: none` for an empty disk, to boot from a CD-ROM or by network."
        given = self._builder.only_where(section, "boot", machine.image.own, why, hint)
        _, node, key = self._builder.pick(section, "boot")
        if given is None or node is None:
            return ()
        words: list[BootFrom] = []
        there = _sources(machine)
        for at, word in given if isinstance(given, list) else [(node, given)]:
            if word in words:
                self._builder.wrong(at, key, f"`{word}` is here twice", "Name each once.")
            elif word not in there:
                self._builder.wrong(at, key, f"it has nothing to boot from by `{word}`", _LACKS[word])
            words.append(word)
        return tuple(words)


_LACKS: dict[BootFrom, str] = {
    "disk": "Give it a `disk: 20G`.",
    "cdrom": "Say `cdroms: [./installer.iso]`.",
    "network": "Give it a card: `segments: [wire]`.",
}


def _sources(machine: Machine) -> list[BootFrom]:
    """What a machine can boot from, if that is bootable."""
    image = machine.image
    medium = image.format == "iso"
    there = {
        "disk": machine.disk is not None or bool(machine.disks) or not diskless(image),
        "cdrom": bool(machine.cdroms) or medium,
        "network": bool(machine.links),
    }
    return [word for word in BOOTS if there[word]]


def _entries(given: Any, key: str) -> Iterator[tuple[str, Node, str, Any]]:
    """(name, place, key, value) of each disk, in either way of writing."""
    if isinstance(given, Section):
        for name, value in given.values.items():
            yield name, given.at[name], f"{key}.{name}", value
        return
    for number, (node, value) in enumerate(given, 1):
        yield f"disk{number}", node, f"{key}[{number - 1}]", value


def _unfit(bus: Bus, image: Image, outer: bool) -> Fault | None:
    """Why a disk on this bus would not be found. `outer`: a Proxmox VE makes it."""
    if bus == "nvme" and outer:
        return "a Proxmox VE has no nvme disks", "Say `bus: scsi` or `virtio`."
    if image.base != "tiny" or bus == "virtio" or (bus == "nvme" and image.kernel is None and image.suite is None):
        return None
    return f"tiny has no driver for {bus}", "Say `bus: virtio`, or use `image: debian`."


def _not_iso(file: str) -> Fault | None:
    """Why a file cannot be in a CD-ROM drive."""
    form = of_disk(file, "iso", True)
    if isinstance(form, tuple):
        return form
    with Path(file).open("rb") as opened:
        opened.seek(0x8001)
        start = opened.read(5)
    if start not in _ISO:
        return f"{file} is no ISO image: it has no file system of a CD-ROM", "Is it whole? Disks belong under `disks`."
    return None
