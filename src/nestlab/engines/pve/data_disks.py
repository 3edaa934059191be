"""The disks of a machine beside its own, its CD-ROMs and what it boots from, as options of a Proxmox VE. Pure.

A disk stays in the slot that it was given; where it is, its serial number tells. nestlab's own are virtio0 to virtio2
and its cargo after them, so that others come from the other end. A machine's own disk is first on its bus.
The forms are those of qemu-server 9.2 (PVE::QemuServer::Drive).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nestlab.engines.pve.hardware import FIRST_CARGO, LAST_VIRTIO, root_key, volume_of
from nestlab.engines.qemu.launch import ROOT_SERIAL
from nestlab.lab.blueprint import Spec
from nestlab.lab.disks import BOOTS, Bus, MadeDisk
from nestlab.lab.model import GIB, NO_IMAGE, diskless

_SLOTS: Mapping[Bus, Sequence[int]] = {
    "virtio": range(LAST_VIRTIO, FIRST_CARGO - 1, -1),
    "scsi": range(1, 31),
    "sata": range(6),
    "ide": (0, 1, 3, 2),
}
"""The slots of each bus, in the order in which they are taken. ide2 is where the CD-ROM of an image is."""

_MEDIA = ("ide2", "ide3", "ide1", "ide0")
"""The slots of CD-ROMs, in the same way: from the other end."""

Params = dict[str, str | int]


def slot_of(config: Mapping[str, Any], disk: MadeDisk) -> str:
    """Where a disk is; "" where it is not."""
    wanted = f"serial={disk.serial}"
    return next((key for key in sorted(config) if _of(disk.bus, key) and wanted in str(config[key]).split(",")), "")


def free_slots(config: Collection[str], disks: Iterable[MadeDisk]) -> dict[str, str]:
    """A slot for each of the disks, by name. `config`: the options that are taken."""
    taken, found = set(config), {}
    for disk in disks:
        slot = next(key for number in _SLOTS[disk.bus] if (key := f"{disk.bus}{number}") not in taken)
        taken.add(slot)
        found[disk.name] = slot
    return found


def made(disk: MadeDisk, storage: str, volid: str = "") -> str:
    """The value of a drive that PVE makes: empty and of its size, or a copy of an uploaded volume."""
    source = f"{storage}:0,import-from={volid}" if volid else f"{storage}:{gibibytes(disk.size)}"
    return f"{source},{settings(disk)}"


def settings(disk: MadeDisk) -> str:
    """What of the value of a drive is not its volume."""
    return f"serial={disk.serial}" + (",ssd=1" if disk.ssd else "")


def root_disk(spec: Spec, storage: str, config: Collection[str] = ()) -> Params:
    """The empty disk of a machine whose image brings none. `config`: the options that are taken."""
    size = spec.machine.disk
    empty = diskless(spec.machine.image) and spec.machine.image.base != "tiny" and size is not None
    slot = root_slot(spec, config)
    return {slot: f"{storage}:{gibibytes(size or 0)},serial={ROOT_SERIAL}"} if empty else {}


def root_slot(spec: Spec, config: Collection[str]) -> str:
    """Where a machine's own disk is put: first on its bus, which firmware looks at before others, where that is
    free."""
    bus = spec.machine.bus
    return next(key for number in (0, *_SLOTS[bus]) if (key := f"{bus}{number}") not in config)


def moved_root(spec: Spec, config: Mapping[str, Any]) -> tuple[str, Params]:
    """The slot that a machine's own disk leaves, and what it gets on another bus; ("", {}) where it stays. nestlab's
    images look for it on virtio. It must be off its slot before it is on another."""
    key = root_key(config)
    if spec.machine.image.own or not key or "serial=root" not in str(config[key]).split(","):
        return "", {}
    if _of(spec.machine.bus, key):
        return "", {}
    rest = [part for part in str(config[key]).split(",")[1:] if not part.startswith("size=")]
    return key, {root_slot(spec, config): ",".join([volume_of(config[key]), *rest])}


def media(config: Mapping[str, Any], volids: Sequence[str]) -> Params:
    """CD-ROM drives with these files, where they are not in one already. `config`: of now, and what else is set."""
    held = {volume_of(value) for key, value in config.items() if key in _MEDIA}
    free = [key for key in _MEDIA if key not in config]
    new = [volid for volid in dict.fromkeys(volids) if volid not in held]
    return {key: f"{volid},media=cdrom" for key, volid in zip(free, new, strict=False)}


def spent(config: Mapping[str, Any], volids: Collection[str]) -> list[str]:
    """CD-ROM drives with what nestlab uploaded, and which is wanted no more."""
    held = {key: volume_of(config[key]) for key in _MEDIA if "media=cdrom" in str(config.get(key, ""))}
    return [key for key, volume in held.items() if volume not in volids and ":iso/nestlab-" in volume]


def boot(spec: Spec, config: Mapping[str, Any]) -> Params:
    """The option `boot` of a machine whose firmware chooses; {} where nothing is said, or nestlab's image decides."""
    machine = spec.machine
    said = machine.boot or machine.disks or machine.cdroms or machine.image.base == NO_IMAGE
    if machine.image.own:
        return {}
    if not said:
        root, now = root_key(config), str(config.get("boot", "")).partition("order=")[2].split(";")[0]
        own = "serial=root" in str(config.get(root, "")).split(",")
        return {"boot": f"order={root}"} if own and now not in config else {}  # it was moved to another bus
    order = [key for word in machine.boot or BOOTS for key in _found(word, spec, config)]
    return {"boot": f"order={';'.join(order)}"}


def _found(word: str, spec: Spec, config: Mapping[str, Any]) -> Iterator[str]:
    if word == "disk":
        own = [key for key in sorted(config) if f"serial={ROOT_SERIAL}" in str(config[key]).split(",")]
        yield from own
        yield from filter(None, (slot_of(config, disk) for disk in spec.disks))
    elif word == "cdrom":
        yield from (key for key in _MEDIA if "media=cdrom" in str(config.get(key, "")))
    else:
        yield from (f"net{number}" for number in range(len(spec.nics)) if f"net{number}" in config)


def renewed(options: Iterable[str], config: Mapping[str, Any], changed: Collection[str]) -> tuple[str, ...]:
    """What is remembered of drives (`disk_drift.options_of`) after those of `changed` slots, and `boot`, were set or
    taken away. `config`: of now."""
    keys = {*changed, "boot"}
    kept = [line for line in options if line.partition("=")[0] not in keys]
    for key in sorted(changed):
        if key in config and "serial=" in str(config[key]):
            rest = [part for part in str(config[key]).split(",")[1:] if not part.startswith("size=")]
            kept.append(f"{key}={','.join(rest)}")
    return (*kept, f"boot={config['boot']}") if config.get("boot") else tuple(kept)


def gibibytes(size: int) -> str:
    """A size in GiB, exactly: a power of two is all that it is divided by."""
    return f"{size / GIB:.30f}".rstrip("0").rstrip(".")


def _of(bus: str, key: str) -> bool:
    return key.removeprefix(bus).isdecimal() and key.startswith(bus)
