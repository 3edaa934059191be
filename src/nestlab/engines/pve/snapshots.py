"""Snapshots of single machines on a Proxmox VE."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.pve.guests import Guests
from nestlab.wire.pve.api import Api


@frozen
class Point:
    """A snapshot of one machine. `since`: seconds since the epoch; `memory`: what ran goes on from there."""

    name: str
    since: int
    memory: bool
    description: str = ""
    parent: str = ""


def _quiet(_: str) -> None:
    pass


class Snapshots:
    """By path of a machine. Every method is a task of PVE's, followed to its end."""

    def __init__(self, api: Api, guests: Guests) -> None:
        self._api = api
        self._guests = guests

    async def all(self, path: str) -> tuple[Point, ...]:
        """Those that there are, the oldest first."""
        guest = (await self._guests.one(path)).guest
        rows = await self._api.get(f"{guest.base}/snapshot")
        found = [
            Point(
                name=str(row["name"]),
                since=int(row.get("snaptime") or 0),
                memory=bool(int(row.get("vmstate") or 0)),
                description=str(row.get("description") or "").strip(),
                parent=str(row.get("parent") or ""),
            )
            for row in rows
            if row["name"] != "current"
        ]
        return tuple(sorted(found, key=lambda point: (point.since, point.name)))

    async def take(
        self, path: str, name: str, *, memory: bool = False, description: str = "", say: Say = _quiet
    ) -> None:
        """Of its disks, and with `memory` of a running machine's memory too. PveError when a storage cannot."""
        guest = (await self._guests.one(path)).guest
        params = {"snapname": name, "description": description or None}
        if guest.kind == "qemu":
            params["vmstate"] = "1" if memory else None
        await self._guests.work(self._api.create, f"{guest.base}/snapshot", params, say)

    async def back(self, path: str, name: str, say: Say = _quiet) -> None:
        """Back to a snapshot; one with memory runs afterwards, any other does not. Its notes stay (pve-guest-common,
        AbstractConfig.pm: __snapshot_apply_config)."""
        guest = (await self._guests.one(path)).guest
        await self._guests.work(self._api.create, f"{guest.base}/snapshot/{name}/rollback", None, say)
        runs = await self._guests.runs(guest) != "stopped"
        wanted: Literal["running", "stopped"] = "running" if runs else "stopped"
        # Its identity disk is that of then: which names it has is not known.
        await self._guests.note(guest, lambda mark: replace(mark, wanted=wanted, told="?", since=0))

    async def drop(self, path: str, name: str, say: Say = _quiet) -> None:
        guest = (await self._guests.one(path)).guest
        await self._guests.work(self._api.delete, f"{guest.base}/snapshot/{name}", None, say)
