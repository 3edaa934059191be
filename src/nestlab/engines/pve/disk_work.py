"""Gives machines on a Proxmox VE the disks beside their own, and takes them away; CD-ROMs and the order of booting.

A running machine gets and loses disks on virtio and scsi at once (`hotplug: disk`); PVE keeps all else until its next
start. A disk that is taken away is deleted at once (`force`), and does not stay as `unusedN`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from nestlab.base.events import Say
from nestlab.engines.pve import data_disks
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.hardware import mebibytes, size_of, volume_of
from nestlab.engines.pve.protocols import Stock
from nestlab.engines.pve.resources import Found, Guest
from nestlab.engines.pve.tags import Mark
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.disks import MadeDisk, by_name
from nestlab.wire.pve.api import Api

Params = dict[str, str | int]


class DiskWork:
    """Every method may be called concurrently, for different machines."""

    def __init__(self, api: Api, stock: Stock, guests: Guests) -> None:
        self._api = api
        self._stock = stock
        self._guests = guests

    async def new(self, guest: Guest, spec: Spec, blueprint: Blueprint, storage: str, also: Params, say: Say) -> Params:
        """The options of a machine that was just cloned for all that is beside its own disk. `also`: those that it is
        given at the same time."""
        if not (spec.disks or spec.cdroms or not spec.machine.image.own):
            return {}
        config = {**await self._guests.config(guest), **also}
        left, moved = await self._root(guest, spec, config, say)
        config = {key: value for key, value in config.items() if key != left}
        params: Params = {**data_disks.root_disk(spec, storage, config), **moved}
        slots = data_disks.free_slots({**config, **params}, spec.disks)
        for disk in spec.disks:
            params[slots[disk.name]] = await self._value(disk, blueprint, guest, storage, say)
        params |= data_disks.media({**config, **params}, await self._media(spec, blueprint, guest, say))
        return params | data_disks.boot(spec, {**config, **params})

    async def settle(self, found: Found, spec: Spec, blueprint: Blueprint, say: Say) -> tuple[str, ...]:
        """The machine has the disks and CD-ROMs of now. What is remembered of its drives, then."""
        guest, mark = found.guest, found.mark
        had, config = by_name(mark.disks), await self._guests.config(guest)
        before = [slot for disk in mark.disks if (slot := data_disks.slot_of(config, disk))]
        left, params = await self._root(guest, spec, config, say)
        before += [left] * bool(left)
        changed = await self._moved(guest, had, spec, {**config, **params}, say)
        config = await self._guests.config(guest) if changed or left else config
        storage = mark.storage
        new = [disk for disk in spec.disks if disk.name not in had]
        if spec.machine.disk is not None and not params and not _has_root(config):
            params |= data_disks.root_disk(spec, storage, config)
        root = tuple(params)
        slots = data_disks.free_slots({**config, **params, **changed}, new)
        for disk in new:
            say(f"making its disk {disk.name}")
            params[slots[disk.name]] = await self._value(disk, blueprint, guest, storage, say)
        params |= changed
        volids = await self._media(spec, blueprint, guest, say)
        gone = data_disks.spent(config, volids)
        gone = [key for key in gone if key != _IMAGE_MEDIUM or spec.machine.image.format != "iso"]
        params |= data_disks.media({key: value for key, value in config.items() if key not in gone} | params, volids)
        params |= data_disks.boot(spec, {**config, **params})
        await self._set(guest, params, [key for key in gone if key not in params], say)
        config = await self._guests.config(guest)
        await self.grow(guest, spec, config, say)
        now = [*root, *(data_disks.slot_of(config, disk) for disk in spec.disks)]
        return data_disks.renewed(mark.options, await self._guests.config(guest), [*before, *now, *gone])

    async def grow(self, guest: Guest, spec: Spec, config: Mapping[str, Any], say: Say) -> None:
        """Its disks are as large as the lab file says, also while it runs."""
        for disk in spec.disks:
            slot = data_disks.slot_of(config, disk)
            if slot and size_of(config[slot]) < disk.size:
                say(f"making its disk {disk.name} larger")
                size = {"disk": slot, "size": f"{mebibytes(disk.size)}M"}
                await self._guests.work(self._api.set, f"{guest.base}/resize", size, say)

    async def discard(self, found: Found, names: Collection[str], say: Say) -> Mark:
        """Disks are taken out of the machine and deleted. LabError where its guest does not let one go."""
        guest, mark = found.guest, found.mark
        config = await self._guests.config(guest)
        gone = [disk for disk in mark.disks if disk.name in names]
        slots = [slot for disk in gone if (slot := data_disks.slot_of(config, disk))]
        for slot in slots:
            say(f"taking its disk {slot} away")
            await self._guests.work(self._api.create, f"{guest.base}/config", {"delete": slot, "force": True}, say)
        left = tuple(disk for disk in mark.disks if disk.name not in names)
        config = await self._guests.config(guest)
        options = data_disks.renewed(mark.options, config, slots)
        return await self._guests.note(guest, lambda old: replace(old, disks=left, options=options))

    async def _root(self, guest: Guest, spec: Spec, config: Mapping[str, Any], say: Say) -> tuple[str, Params]:
        """See `data_disks.moved_root`; it is off its slot then."""
        left, params = data_disks.moved_root(spec, config)
        if left:
            say(f"putting its own disk on {spec.machine.bus}")
            await self._set(guest, {}, [left], say)
        return left, params

    async def _moved(
        self, guest: Guest, had: Mapping[str, MadeDisk], spec: Spec, config: Mapping[str, Any], say: Say
    ) -> Params:
        """What disks that are there get, which have another serial number or are to be on another bus. Those are taken
        off theirs first."""
        moved = [
            (had[disk.name], disk) for disk in spec.disks if disk.name in had and had[disk.name].where != disk.where
        ]
        params: Params = {}
        away = []
        taken = set(config)
        for was, now in moved:
            slot = data_disks.slot_of(config, was)
            if not slot:
                continue
            volume = volume_of(config[slot])
            if was.bus != now.bus:
                away.append(slot)
                slot = data_disks.free_slots(taken, [now])[now.name]
                taken.add(slot)
            params[slot] = f"{volume},{data_disks.settings(now)}"
        await self._set(guest, {}, away, say)
        return params

    async def _value(self, disk: MadeDisk, blueprint: Blueprint, guest: Guest, storage: str, say: Say) -> str:
        volid = ""
        if disk.source:
            volid = await self._stock.volume(disk.source, blueprint.images[disk.source], guest.node, say)
        return data_disks.made(disk, storage, volid)

    async def _media(self, spec: Spec, blueprint: Blueprint, guest: Guest, say: Say) -> list[str]:
        images = blueprint.images
        return [await self._stock.volume(key, images[key], guest.node, say) for key in spec.cdroms]

    async def _set(self, guest: Guest, params: Params, delete: Collection[str], say: Say) -> None:
        also: Params = {"delete": ",".join(delete)} if delete else {}
        if params or also:
            await self._guests.work(self._api.create, f"{guest.base}/config", {**params, **also}, say)


_IMAGE_MEDIUM = "ide2"
"""Where the CD-ROM of an image that is one stays."""


def _has_root(config: Mapping[str, Any]) -> bool:
    return any("serial=root" in str(value).split(",") for value in config.values())
