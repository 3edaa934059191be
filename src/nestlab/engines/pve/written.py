"""Asks a Proxmox VE how much is written on the disks of machines.

Storages of files and ZFS tell the bytes that a volume takes, without those of the template that it is a layer over.
LVM and Ceph tell 0 (pve-storage, volume_size_info of each plugin): then as much as its size, at most, is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.engines.pve import data_disks
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.hardware import root_key, size_of, volume_of
from nestlab.engines.pve.resources import Found
from nestlab.plan.steps import Written
from nestlab.wire.pve.api import Api


async def written(guests: Guests, machines: Sequence[Found]) -> Mapping[str, Written]:
    """What is written on the own disk of each, by path, as far as it can be told: two requests for each machine.

    A machine that was half made never ran, so nothing is on its disk but its image."""
    asked = [found for found in machines if not found.mark.making]
    told = await asyncio.gather(*(_of(guests, found) for found in asked))
    return {found.mark.path: each for found, each in zip(asked, told, strict=True) if each is not None}


async def _of(guests: Guests, found: Found) -> Written | None:
    try:
        config = await guests.config(found.guest)
    except LabError:
        return None
    drive = config.get("rootfs" if found.guest.kind == "lxc" else root_key(config), "")
    if not drive and not found.mark.disks:
        return None
    own, most = await _size(guests.api, found, drive)
    sizes, at_most = [], most
    for disk in found.mark.disks:
        size, most = await _size(guests.api, found, config.get(data_disks.slot_of(config, disk), ""))
        sizes.append((disk.id, size))
        at_most |= most
    total = own + sum(size for _, size in sizes)
    return Written(total, at_most, tuple(sizes)) if total else None


async def _size(api: Api, found: Found, drive: object) -> tuple[int, bool]:
    """Bytes that are written on a drive, and whether that is only the most that can be."""
    used = await _used(api, found, volume_of(drive)) if drive else 0
    return (used, False) if used else (size_of(drive), True)


async def _used(api: Api, found: Found, volume: str) -> int:
    """Bytes that a volume takes on its storage; 0 where that is not told."""
    storage = volume.partition(":")[0]
    try:
        row = await api.get(f"/nodes/{found.guest.node}/storage/{storage}/content/{volume}")
        return int(row.get("used") or 0)
    except (LabError, AttributeError, TypeError, ValueError):
        return 0
