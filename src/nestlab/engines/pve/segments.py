"""Segments on a Proxmox VE: vnets of an SDN zone without subnet or gateway, so that nothing leaves them.

A vnet is nestlab's when its alias says so; no other is ever changed. Changes are made under the lock of the SDN, which
PVE has since version 9, and taken back when they cannot be applied. A segment with `bridge` is that bridge.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nestlab.base.errors import LabError, Refused
from nestlab.base.events import Say
from nestlab.base.patience import allowed
from nestlab.engines.pve import network_reload
from nestlab.engines.pve.hardware import Wire
from nestlab.engines.pve.remembered import Memory
from nestlab.lab.model import Segment
from nestlab.lab.places import Pve
from nestlab.wire.pve import privileges
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Denied, Exists, Locked, Missing, PveError

SDN = network_reload.SDN
ZONES, VNETS, LOCK = f"{SDN}/zones", f"{SDN}/vnets", f"{SDN}/lock"
CONTROLLERS, FABRICS = f"{SDN}/controllers", f"{SDN}/fabrics/all"

PATIENCE = 120.0
"""Nominal seconds that somebody else may hold the lock of the SDN; they reload the network of all nodes meanwhile."""

LAST_TAG = {"vxlan": (1 << 24) - 1, "evpn": (1 << 24) - 1}
"""Zones whose vnets need a number that nobody must give: the largest there is. VLANs are the switches' too."""

Row = Mapping[str, Any]


def alias(lab: str, segment: str) -> str:
    """The alias that marks a vnet as a lab's."""
    return f"nestlab {lab} {segment}"


def names(lab: str, segment: str) -> Iterator[str]:
    """Candidate names for the vnet of a segment, of which the first free one is taken: at most 8 letters and digits."""
    for number in range(16):
        digest = hashlib.sha256(f"{lab}/{segment}/{number or ''}".encode()).digest()
        yield "nl" + base64.b32encode(digest).decode().lower()[:6]


def _aware(row: Row) -> bool:
    """Whether a vnet tells VLANs apart, or will when it is applied."""
    return bool({**row, **(row.get("pending") or {})}.get("vlanaware"))


class Segments:
    """Every method may be called concurrently: changes are made one after the other."""

    def __init__(self, api: Api, pve: Pve, lab: str, memory: Memory, *, patience: float = PATIENCE) -> None:
        self._api = api
        self._pve = pve
        self._lab = lab
        self._memory = memory
        self._patience = allowed(patience)
        self._changing = asyncio.Lock()
        self._kind: str | None = None
        self._again: set[str] = set()
        self.failures: dict[str, str] = {}
        """Why nodes did not reload their networks when the SDN was applied last, by node."""

    async def observe(self) -> frozenset[str]:
        """The segments that are vnets, also those that an interrupted nestlab made or removed and did not apply. A lock
        on the SDN that it left behind is given back."""
        await self._unlock_for_the_dead()
        rows = await self._vnets()
        return frozenset(name for row in rows if (name := self._of(row)))

    async def reaching(self, segments: Iterable[Segment]) -> frozenset[str]:
        """Those that reach from node to node: a bridge with its switches, or a zone of another type than `simple`."""
        segments = list(segments)
        bridged = frozenset(segment.name for segment in segments if segment.bridge)
        others = [segment.name for segment in segments if not segment.bridge]
        if not others:
            return bridged
        return bridged if await self._type() == "simple" else bridged | frozenset(others)

    async def ensure(
        self, segments: Sequence[Segment], used: Collection[str], tagged: Collection[str] = ()
    ) -> dict[str, Wire]:
        """Make those of a lab's segments that are `used`, all at once: a change of the SDN reloads the network of every
        node. `tagged`: those on which cards are on VLANs, so that their vnets tell VLANs apart. Where each segment that
        is there is on a node."""
        async with self._changing:
            wires = {each.name: Wire(each.bridge, each.vlan) for each in segments if each.bridge}
            wanted = [each for each in segments if each.bridge is None]
            if not any(each.name in used for each in wanted):
                return wires
            rows = await self._vnets()
            found = self._wires(wanted, rows)
            lacks = {self._of(row) for row in rows if not _aware(row)} & set(tagged) & set(used)
            if lacks or any(each.name in used and each.name not in found for each in wanted):
                await self._make([each for each in wanted if each.name in used], tagged)
                found = self._wires(wanted, await self._vnets())
            lacking = [name for name in used if name not in found and name not in wires]
            if lacking:
                what = f"{', '.join(lacking)}: the networks were made on {self._api.where}, and it does not show them."
                raise LabError(what, hint="See Datacenter > SDN; `nestlab pve check` tells what may not be seen.")
            return wires | found

    async def remove(self, segments: Collection[str]) -> None:
        """Remove those of the lab's vnets; of what is not there, nothing."""
        async with self._changing:
            if not any(self._of(row) in segments for row in await self._vnets()):
                return
            async with self._locked() as token:
                doomed = [row for row in await self._vnets() if self._of(row) in segments]
                for row in doomed:
                    if row.get("state") != "deleted":
                        with contextlib.suppress(Missing):
                            await self._api.delete(f"{VNETS}/{row['vnet']}", token)
                await self._apply(token)

    async def again(self, bridge: str, say: Say) -> bool:
        """Apply the SDN once more for a node that lacks a vnet of the lab's: it was away, or its reload failed, which
        PVE's task does not tell. False if that bridge is no such vnet."""
        async with self._changing:
            if not any(str(row["vnet"]) == bridge and self._of(row) for row in await self._vnets()):
                return False
            if bridge not in self._again:
                say("applying the SDN again: its node lacks a network of the lab's")
                async with self._locked() as token:
                    await self._apply(token)
                self._again.add(bridge)
            return True

    def _of(self, row: Row) -> str:
        """The segment of this lab that a vnet is; "" for any other vnet."""
        said = row.get("alias") or (row.get("pending") or {}).get("alias") or ""
        start, lab, segment = (*str(said).split(" "), "", "", "")[:3]
        return segment if (start, lab) == ("nestlab", self._lab) else ""

    def _wires(self, segments: Iterable[Segment], rows: Iterable[Row]) -> dict[str, Wire]:
        """Where vnets are that run; a tag belongs to the vnet and not to the card."""
        running = {self._of(row): str(row["vnet"]) for row in rows if not row.get("state") and self._of(row)}
        return {each.name: Wire(running[each.name]) for each in segments if each.name in running}

    async def _vnets(self) -> list[Row]:
        rows = await self._api.get(VNETS, {"pending": True})
        return list(rows or [])

    async def _type(self) -> str:
        """The type of the zone. LabError, with the commands that make it, when there is none."""
        if self._kind is None:
            try:
                rows = await self._api.get(ZONES)
            except PveError as error:
                if error.status != 501:
                    raise
                raise self._no_sdn() from error
            kinds = {str(row["zone"]): str(row.get("type", "")) for row in rows}
            if self._pve.zone not in kinds:
                commands = " && ".join(step.command for step in privileges.zone_steps(self._pve.zone))
                seen = ", ".join(sorted(kinds)) or "none"
                what = f"{self._api.where} has no SDN zone {self._pve.zone} that can be seen; it has: {seen}."
                raise LabError(what, hint=f"As root on a node: {commands}")
            self._kind = kinds[self._pve.zone]
        return self._kind

    def _no_sdn(self) -> LabError:
        what = f"{self._api.where} has no SDN."
        return LabError(what, hint="Install libpve-network-perl on its nodes, or give the segments a `bridge`.")

    async def _make(self, segments: Sequence[Segment], tagged: Collection[str]) -> None:
        kind = await self._type()
        if kind == "evpn" and (named := [each.name for each in segments if each.name in tagged]):
            what = (
                f"Machines are on VLANs of {', '.join(named)}, and zone {self._pve.zone} is of type evpn, without any."
            )
            raise LabError(what, hint="Use a zone of another type, or name a bridge that carries them.")
        async with self._locked() as token:
            rows = await self._vnets()
            there = {self._of(row): row for row in rows if row.get("state") != "deleted"}
            for segment in segments:
                aware = {"vlanaware": 1} if segment.name in tagged else {}
                known = there.get(segment.name)
                if known is not None and aware and not _aware(known):
                    await self._api.set(f"{VNETS}/{known['vnet']}", {**aware, **token})
                elif known is None:
                    await self._create(segment, kind, rows, {**aware, **token})
                    rows = [*rows, {"vnet": "", "tag": self._tag(segment, kind, rows)}]
            await self._apply(token)

    async def _create(self, segment: Segment, kind: str, rows: Sequence[Row], also: Mapping[str, Any]) -> None:
        # One that was deleted and not applied is there again with its name, which machines have that are stopped.
        taken = {str(row["vnet"]) for row in rows if self._of(row) != segment.name}
        params: dict[str, Any] = {"zone": self._pve.zone, "alias": alias(self._lab, segment.name), **also}
        tag = self._tag(segment, kind, rows)
        if tag is not None:
            params["tag"] = tag
        for name in names(self._lab, segment.name):
            if name in taken:
                continue
            try:
                await self._api.create(VNETS, {"vnet": name, **params})
            except Exists:  # somebody's that may not be seen
                continue
            return
        what = f"No name is free for the network of segment {segment.name} on {self._api.where}."
        raise LabError(what, hint="Give it another name in the lab file.")

    def _tag(self, segment: Segment, kind: str, rows: Iterable[Row]) -> int | None:
        """The number of a vnet, where its zone wants one."""
        if kind == "simple":
            if segment.vlan is not None:
                what = f"Segment {segment.name} has a `vlan`, and zone {self._pve.zone} is of type simple, without any."
                raise LabError(what, hint="Name the bridge that carries it (`bridge: vmbr0`), or leave `vlan` out.")
            return None
        if segment.vlan is not None:
            return segment.vlan
        last = LAST_TAG.get(kind)
        if last is None:
            what = f"Segment {segment.name} needs a `vlan`: zone {self._pve.zone} is of type {kind}."
            raise LabError(what, hint="Give it one that your switches carry, or use a zone of type simple or vxlan.")
        taken = {int(row.get("tag") or (row.get("pending") or {}).get("tag") or 0) for row in rows}
        first = int(hashlib.sha256(f"{self._lab}/{segment.name}".encode()).hexdigest()[:6], 16) % last
        for step in range(last):
            if (tag := 1 + (first + step) % last) not in taken:
                return tag
        what = f"Zone {self._pve.zone} of {self._api.where} has no number left for the network of {segment.name}."
        raise LabError(what, hint="Remove networks that nobody needs, or use a zone of type simple.")

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[dict[str, str]]:
        """Hold the lock of the SDN; what is changed in it is taken back when that fails. The parameter that changes
        want, which PVE 8 does not know."""
        token = await self._lock()
        try:
            yield {"lock-token": token} if token else {}
        except BaseException:
            await asyncio.shield(self._take_back(token))
            raise

    async def _lock(self) -> str:
        """Take it, when it is free. "": this version has none."""
        await self._unlock_for_the_dead()
        deadline = time.monotonic() + self._patience
        while True:
            try:
                own = await self._only_ours_pending()
                if not own and await self._waits(FABRICS):  # PVE does not count them, and applies them
                    raise Locked("", message="pending")
                token = str(await self._api.create(LOCK, {"allow-pending": True} if own else {}))
            except PveError as error:
                if error.status == 501:
                    return await self._without_lock()
                if not isinstance(error, Locked) or time.monotonic() > deadline:
                    raise self._busy(error) from error
            else:
                self._memory.token = token
                return token
            await asyncio.sleep(random.uniform(0.3, 1.0))

    def _busy(self, error: PveError) -> LabError:
        if not isinstance(error, Locked):
            return error
        if "pending" in error.message:
            hint = (
                "Apply or roll back what is pending (Datacenter > SDN), then try again: nestlab applies nothing else."
            )
            return Refused(
                f"The SDN of {self._api.where} has changes of somebody else that wait to be applied.", hint=hint
            )
        hint = f"Wait for them. If nobody does (a program was killed): pvesh delete {LOCK} --force 1"
        return Refused(
            f"Somebody else has been changing the SDN of {self._api.where} for {self._patience:g} s.", hint=hint
        )

    async def _without_lock(self) -> str:
        """PVE 8: nothing keeps others away, but what waits to be applied is not applied along with ours."""
        if not await self._only_ours_pending(none=True):
            raise self._busy(Locked("", message="pending"))
        return ""

    async def _only_ours_pending(self, *, none: bool = False) -> bool:
        """Whether changes wait to be applied, all of them this lab's (or, if `none` will do, there are none)."""
        zones, vnets = await asyncio.gather(self._waits(ZONES), self._vnets())
        waiting = [row for row in vnets if row.get("state")]
        if zones or not all(self._of(row) for row in waiting) or not (waiting or none):
            return False
        subnets = [f"{VNETS}/{row['vnet']}/subnets" for row in vnets if row.get("state") != "new"]
        return not any(await asyncio.gather(*map(self._waits, (CONTROLLERS, FABRICS, *subnets))))

    async def _waits(self, path: str) -> bool:
        """Whether something there waits to be applied, as far as that may be seen and this version knows it."""
        try:
            found = await self._api.get(path, {"pending": True})
        except (Denied, Missing):
            return False
        except PveError as error:
            if error.status != 501:
                raise
            return False
        lists = found.values() if isinstance(found, dict) else [found or []]
        return any(row.get("state") for rows in lists for row in rows)

    async def _apply(self, token: dict[str, str]) -> None:
        upid = await self._api.set(SDN, {**token, "release-lock": True} if token else {})
        self._memory.token = ""
        self.failures = dict(await network_reload.finished(self._api, str(upid)))

    async def _take_back(self, token: str) -> None:
        with contextlib.suppress(LabError):
            if token and self._memory.token:
                await self._api.create(f"{SDN}/rollback", {"lock-token": token, "release-lock": True})
                self._memory.token = ""
            elif not token:
                for row in await self._vnets():
                    if row.get("state") == "new" and self._of(row):
                        await self._api.delete(f"{VNETS}/{row['vnet']}")

    async def _unlock_for_the_dead(self) -> None:
        if token := self._memory.left_behind:
            with contextlib.suppress(PveError):
                await self._api.delete(LOCK, {"lock-token": token})
            self._memory.token = ""
