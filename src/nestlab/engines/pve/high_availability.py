"""High availability of a cluster of Proxmox VE for the machines of a lab that ask for it (`ha: true`).

What PVE does (pve-ha-manager): a guest that is a resource is started and ended by the state that is asked for it; one
that ends otherwise is started again. A node that is lost is given up after its watchdog must have ended it, and its
guests are started elsewhere, where their disks may not be. So a guest with a disk of one node's alone is bound to that
node: by a rule (PVE 9) or a restricted group (PVE 8).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.pve.guests import Guests
from nestlab.engines.pve.resources import Found, Guest
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import NodeUnreachable, PveError

RESOURCES = "/cluster/ha/resources"
RULES = "/cluster/ha/rules"
GROUPS = "/cluster/ha/groups"
SERVICE = "pve-ha-lrm"
"""The daemon that acts on a node; it wants the others of high availability (pve-ha-lrm.service)."""

ENDS = 180.0
"""Nominal seconds in which it ends a guest, counted anew whenever it tells of another state: its daemons look every
ten, and a guest has 60 to shut down."""

FORGETS = 60.0
"""Nominal seconds in which the manager forgets a guest that is no resource any more."""

PAUSE = 1.0

_DISK = re.compile(r"(?:virtio|scsi|sata|ide|efidisk|tpmstate|mp)\d+|rootfs")


def own_disks(config: Mapping[str, Any], shared: Collection[str]) -> bool:
    """Whether a guest has a disk that its node alone sees. Pure. `shared`: the storages that all nodes see."""
    volumes = [str(value).split(",")[0] for key, value in config.items() if _DISK.fullmatch(key)]
    return any(":" in volume and volume.partition(":")[0] not in shared for volume in volumes)


class HighAvailability:
    """Of the machines of one lab on one node. `slowness`: how slow what they run on is."""

    def __init__(self, api: Api, guests: Guests) -> None:
        self._api = api
        self._guests = guests
        self.slowness = 1.0

    async def watched(self) -> frozenset[str]:
        """The guests that it watches over, by its names for them; those that it is to ignore are none."""
        rows: Sequence[Mapping[str, Any]] = await self._api.get(RESOURCES)
        return frozenset(str(row["sid"]) for row in rows if row.get("state") != "ignored")

    async def settle(self, found: Found, say: Say, *, wanted: bool) -> None:
        """A machine that runs is under it, or is not, as it is `wanted`. What somebody else put there stays there."""
        if wanted:
            await self.enter(found, say)
        elif found.mark.ha:
            say("taking it out of high availability")
            await self.leave(found.guest)
            await self._guests.note(found.guest, lambda mark: replace(mark, ha=False))

    async def enter(self, found: Found, say: Say) -> None:
        """A machine that runs is watched over. Interrupted, it is not until this is called again."""
        guest = found.guest
        say("putting it under high availability")
        await self._serve()
        if not found.mark.ha:
            await self._guests.note(guest, lambda mark: replace(mark, ha=True))
        config = await self._guests.config(guest)
        node = guest.node if own_disks(config, await self._shared()) else ""
        rules = await self._by_rules()
        rows: Sequence[Mapping[str, Any]] = await self._api.get(RESOURCES)
        if not any(row["sid"] == guest.sid for row in rows):
            # It is to be bound to its node before anything may move it, and a rule knows only what is a resource.
            await self._api.create(RESOURCES, {"sid": guest.sid, "state": "ignored"})
        if rules:
            await self._ruled(guest, node)
            await self._api.set(f"{RESOURCES}/{guest.sid}", {"state": "started"})
            return
        bound: dict[str, str] = {"group": await self._group(node)} if node else {"delete": "group"}
        grouped = any(row["sid"] == guest.sid and row.get("group") for row in rows)
        bound = bound if node or grouped else {}
        await self._api.set(f"{RESOURCES}/{guest.sid}", {"state": "started", **bound})

    async def leave(self, guest: Guest) -> None:
        """It is watched over no more, and goes on as it is. What is not watched over: nothing."""
        rows: Sequence[Mapping[str, Any]] = await self._api.get(RESOURCES)
        row = next((row for row in rows if row["sid"] == guest.sid), None)
        if row is None:
            return
        await self._api.delete(f"{RESOURCES}/{guest.sid}")  # of PVE 9 with its rule (`purge`)
        group = str(row.get("group") or "")
        if group.startswith(_called("")) and not any(other.get("group") == group for other in rows if other is not row):
            with contextlib.suppress(PveError):
                await self._api.delete(f"{GROUPS}/{group}")

    async def end(self, found: Found, say: Say) -> None:
        """It ends the machine, if it watches over it. One that it does not end in its time is taken out of it first,
        and then left to whoever called this."""
        guest = found.guest
        if guest.sid not in await self.watched():
            return
        if await self._guests.runs(guest) != "stopped":
            say("high availability is to end it")
        await self._api.set(f"{RESOURCES}/{guest.sid}", {"state": "stopped"})
        deadline, was = self._deadline(ENDS), ""
        while await self._guests.runs(guest) != "stopped":
            state = await self._state(guest)
            if state != was:
                deadline, was = self._deadline(ENDS), state
            if time.monotonic() > deadline or state == "error":
                say(f"high availability does not end it ({state or 'its manager does not work'}): taking it out first")
                await self.out(guest)
                return
            await asyncio.sleep(PAUSE)

    async def out(self, guest: Guest) -> None:
        """It is watched over no more, and nobody starts it again."""
        await self.leave(guest)
        await self._forgotten(guest)

    async def _forgotten(self, guest: Guest) -> None:
        """Until its manager does not know a guest any more that was taken out: it would start it again. One that does
        not work does nothing, either."""
        deadline = self._deadline(FORGETS)
        while time.monotonic() < deadline:
            if not await self._state(guest):
                return
            await asyncio.sleep(PAUSE)

    async def _state(self, guest: Guest) -> str:
        """What it says of a guest; "" where it does not know it."""
        rows: Sequence[Mapping[str, Any]] = await self._api.get("/cluster/ha/status/current")
        return next((str(row.get("state") or "") for row in rows if row.get("sid") == guest.sid), "")

    async def _serve(self) -> None:
        """Its daemons run on all nodes that answer: a lab's nodes start them when something is watched over."""
        rows: Sequence[Mapping[str, Any]] = await self._api.get("/cluster/resources", {"type": "node"})
        nodes = [str(row["node"]) for row in rows if row.get("status") == "online"]
        await asyncio.gather(*map(self._served, nodes))

    async def _served(self, node: str) -> None:
        base = f"/nodes/{node}/services/{SERVICE}"
        try:
            if (await self._api.get(f"{base}/state")).get("state") == "running":
                return
            await self._api.task(str(await self._api.create(f"{base}/start")))
        except NodeUnreachable:
            return  # it starts them when it is back
        except PveError as error:
            hint = f"See why: nestlab exec {node} -- journalctl -b -u {SERVICE} -u watchdog-mux"
            raise LabError(f"High availability does not start on {node}: {error.what}", hint=hint) from error

    async def _by_rules(self) -> bool:
        """Whether this is a PVE that binds by rules: from 9 on it refuses groups."""
        version = str((await self._api.get("/version"))["version"])
        return version.split(".")[0] not in ("7", "8")

    async def _ruled(self, guest: Guest, node: str) -> None:
        name = f"nestlab-{guest.sid.replace(':', '-')}"
        rows: Sequence[Mapping[str, Any]] = await self._api.get(RULES)
        there = next((row for row in rows if row["rule"] == name), None)
        if there is not None and node and str(there.get("nodes")) == node:
            return
        if there is not None:
            await self._api.delete(f"{RULES}/{name}")
        if node:
            whom = {"type": "node-affinity", "resources": guest.sid, "nodes": node}
            await self._api.create(RULES, {"rule": name, "strict": True, **whom})

    async def _group(self, node: str) -> str:
        """The group of what stays on a node."""
        name = _called(node)
        rows: Sequence[Mapping[str, Any]] = await self._api.get(GROUPS)
        if not any(row["group"] == name for row in rows):
            await self._api.create(GROUPS, {"group": name, "nodes": node, "restricted": True})
        return name

    async def _shared(self) -> set[str]:
        rows: Sequence[Mapping[str, Any]] = await self._api.get("/cluster/resources", {"type": "storage"})
        return {str(row["storage"]) for row in rows if int(row.get("shared") or 0)}

    def _deadline(self, seconds: float) -> float:
        return time.monotonic() + patience.allowed(seconds, self.slowness)


def _called(node: str) -> str:
    return f"nestlab-{node}"
