"""A machine whose disks are layers over a template's, made independent of it: PVE moves no such disk between nodes
unless both see the storage (qemu-server, QemuMigrate.pm: "as it's a clone of")."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from nestlab.base.events import Say
from nestlab.engines.pve import tags
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.resources import Found, Guest
from nestlab.engines.pve.tags import Mark
from nestlab.engines.pve.vmids import Vmids
from nestlab.wire.pve.api import Api

Remove = Callable[[Found, Say], Awaitable[None]]
"""Deletes a machine of the lab."""

_DRIVE = re.compile(r"(?:virtio|scsi|sata|ide)\d+")
_LAYER = re.compile(r"(?:^|[:/])base-\d+-disk-[^/,]*/")


def layers(config: Mapping[str, Any], shared: Collection[str]) -> list[str]:
    """The disks of a configuration that are layers over a template's, on storages that one node sees alone. Pure."""
    found = []
    for key, value in sorted(config.items()):
        volume = str(value).split(",")[0]
        if _DRIVE.fullmatch(key) and _LAYER.search(volume) and volume.partition(":")[0] not in shared:
            found.append(volume)
    return found


class Copies:
    """Of one lab's machines."""

    def __init__(self, api: Api, pool: str, guests: Guests, remove: Remove) -> None:
        self._api = api
        self._pool = pool
        self._guests = guests
        self._remove = remove
        self._numbers = Vmids(api)

    async def make(self, found: Found, say: Say) -> Found:
        """A whole copy of the machine, which must be off, with another VMID on the same node. It says that it is half
        made until it takes the machine's place (`replace`); interrupted before that, `down` removes it too."""
        config = await self._guests.config(found.guest)
        told: list[Mark] = []

        async def clone(number: int) -> None:
            say(f"copying all of it as VM {number}: PVE moves no disk that is a layer over a template's")
            told.append(replace(found.mark, vmid=number, making=True))
            params: dict[str, str | int] = {
                "newid": number,
                "name": str(config.get("name", "")),
                "pool": self._pool,
                "full": True,
                "description": tags.line(told[-1]),
            }
            await self._guests.work(self._api.create, f"{found.guest.base}/clone", params, say)

        number = await self._numbers.use(clone)
        copy = Guest(number, found.guest.node, status="stopped")
        cards = {key: str(value) for key, value in config.items() if re.fullmatch(r"net\d+", key)}
        return Found(copy, await self._guests.note(copy, lambda _: told[-1], cards))

    async def replace(self, found: Found, copy: Found, say: Say) -> None:
        """The copy is the machine from now on, and the old one is removed."""
        mark = await self._guests.note(copy.guest, lambda mark: replace(mark, making=False))
        await self._remove(found, say)
        self._guests.made(copy.guest, mark)

    async def drop(self, copy: Found, say: Say) -> None:
        """The copy goes; the machine is as it was."""
        await self._remove(copy, say)
