"""The machines of a lab among the guests of a Proxmox VE: found by their tags, and their state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.engines.pve import drift, guest_requests, resources, tags
from nestlab.engines.pve.drift import Change
from nestlab.engines.pve.remembered import Memory
from nestlab.engines.pve.resources import Found, Guest
from nestlab.engines.pve.tags import LabNames, Mark
from nestlab.plan.steps import Drift
from nestlab.wire.pve.api import Api, Params
from nestlab.wire.pve.errors import Changed, Missing, NodeUnreachable, PveError, is_lock_timeout
from nestlab.wire.pve.retries import Patience

TRIES = 5
"""Times that a change of notes is tried when somebody else changes the configuration at that moment."""

LOCK_PATIENCE = 1800.0
"""Nominal seconds that a task which nobody follows any more may still work on a machine: it copies disks."""

BUSY = Patience()
"""How often a task is begun again that found a lock taken, and after which pauses; PVE itself waits for it 10 s (a
machine) or a minute (a shared storage)."""

_ELSEWHERE = ("qmclone", "vzclone", "vzdump")
"""Tasks whose id is not, or not only, that of the machine they work on."""


class Guests:
    """One lab's. What was seen last is kept, and looked at again before anything is done to it."""

    def __init__(self, api: Api, names: LabNames, memory: Memory, pool: str = "") -> None:
        self.api = api
        self.names = names
        self._pool = pool
        self._memory = memory
        self._at: dict[str, list[Found]] | None = None
        self._listed: list[Guest] = []
        self._looking = asyncio.Lock()

    async def look(self, *, exact: bool = True) -> list[Found]:
        """All of them with their state of now: one request, one for each node that they are on, and one for each whose
        mark is not known yet. Not `exact`: nodes are only asked where the cluster's list, up to ten seconds old, says
        something else than what was wanted."""
        rows = await self.api.get("/cluster/resources", {"type": "vm"})
        self._listed = resources.guests(rows)
        maybe = [each for each in self._listed if not each.template and self._may_be(each)]
        read = await asyncio.gather(*(self._marked(guest) for guest in maybe))
        found = [each for each in read if each is not None]
        doubtful = [each for each in found if exact or self._doubtful(each)]
        asked = {each.guest.node for each in doubtful}
        now, silent = await self._now(asked, {each.guest.kind for each in doubtful})
        result = []
        for each in found:
            if each.guest.node not in asked:
                result.append(each)
            elif (row := now.get(each.guest.vmid)) is not None:
                result.append(replace(each, guest=resources.of_node(row, each.guest)))
            elif each.guest.node in silent:
                result.append(replace(each, guest=replace(each.guest, status="unknown")))
            elif (moved := await self._again(each)) is not None:  # between the two requests
                result.append(moved)
        self._keep(result)
        return sorted((copies[0] for copies in (self._at or {}).values()), key=lambda each: each.mark.path)

    def others(self, node: str) -> list[str]:
        """The guests of a node, a line each, that no nestlab made, as they were when all were looked at last."""
        found = [each for each in self._listed if each.node == node and tags.TAG not in each.tags]
        return [each.title for each in sorted(found, key=lambda each: each.vmid)]

    async def find(self, path: str) -> list[Found]:
        """The machine as it is now, first the one that counts: more than one only when making it was interrupted. Where
        it is (or that it is not) is known from the last look, if there was one."""
        async with self._looking:
            if self._at is None:
                await self.look(exact=False)
        known = list((self._at or {}).get(path, ()))
        again = await asyncio.gather(*(self._again(each) for each in known))
        found = [each for each in again if each is not None and each.mark.path == path]
        (self._at or {})[path] = found
        return list(found)

    async def one(self, path: str) -> Found:
        """The machine; LabError if it is not there, or half made."""
        found = await self.find(path)
        if not found or found[0].mark.making:
            state = "half made" if found else "not there"
            raise LabError(f"{path} is {state} on {self.api.where}.", hint="`nestlab up` makes it.")
        return found[0]

    def known(self, path: str) -> Found | None:
        """As it was seen last."""
        copies = (self._at or {}).get(path)
        return copies[0] if copies else None

    def all_known(self) -> dict[str, Found]:
        return {path: copies[0] for path, copies in (self._at or {}).items() if copies}

    def all_copies(self) -> list[Found]:
        """The same, with what an interrupted nestlab left."""
        return [found for copies in (self._at or {}).values() for found in copies]

    async def config(self, guest: Guest) -> dict[str, Any]:
        """Its configuration, with what waits for its next start."""
        return dict(await guest_requests.ask(self.api, guest.base, "config"))

    async def runs(self, guest: Guest) -> str:
        """`running`, `paused` or `stopped`. Missing if it is gone."""
        row = await guest_requests.ask(self.api, guest.base, "status/current")
        if row.get("status") != "running":
            return "stopped"
        return "paused" if resources.of_node({**row, "vmid": guest.vmid}, guest).paused else "running"

    async def changes(self, found: Found) -> tuple[Change, ...]:
        """What of it is not as nestlab set it: one request."""
        if not found.mark.options or found.mark.making:
            return ()
        rows = await guest_requests.ask(self.api, found.guest.base, "pending")
        return drift.changes(found.mark.options, rows, found.guest.kind)

    async def drift(self, found: Found, *, exact: bool = True) -> tuple[Drift, ...]:
        """The same for those who only look: nothing of a machine that is gone or whose node does not answer. Not
        `exact`: it is asked only when what lists tell of it is not as it was set."""
        guest = found.guest
        if not exact and not drift.suspect(found.mark.options, guest.name, guest.size, guest.cpus):
            return ()
        if guest.status == "unknown":
            return ()
        try:
            return tuple(each.drift for each in await self.changes(found))
        except (Missing, NodeUnreachable):
            return ()

    async def works(self, guest: Guest) -> float:
        """Which share of its CPUs it takes, as PVE measured it last; 0 when nobody can tell."""
        try:
            row = await guest_requests.ask(self.api, guest.base, "status/current")
            return float(row.get("cpu") or 0)
        except (Unreachable, Missing, ValueError, TypeError):
            return 0.0

    def alive(self, guest: Guest) -> Callable[[], Awaitable[bool]]:
        """Whether the guest still runs."""

        async def asked() -> bool:
            try:
                return await self.runs(guest) != "stopped"
            except Missing:
                return False
            except Unreachable:
                return True  # its node may answer again

        return asked

    async def task(self, upid: object, say: Say) -> None:
        """Follow a task to its end, if there is one; warnings are told."""
        for warning in await self.api.task(str(upid)) if upid else ():
            say(f"warning: {warning}")

    async def work(
        self, ask: Callable[[str, Params | None], Awaitable[Any]], path: str, params: Params | None, say: Say
    ) -> None:
        """Ask for a task and follow it to its end: again, within a bound, when it found a lock taken and gave up."""
        for tried in range(1, BUSY.tries + 1):
            try:
                await self.task(await ask(path, params), say)
                return
            except PveError as error:
                if tried == BUSY.tries or not error.upid or not is_lock_timeout(error.message):
                    raise
                say("waiting for a lock that somebody else holds")
            await asyncio.sleep(BUSY.pause(tried))

    async def note(self, guest: Guest, change: Callable[[Mark], Mark], also: Params | None = None) -> Mark:
        """Write another mark into its notes and tags, which else stay as they are, with other options at once. Refused
        when it is not nestlab's any more."""
        for tried in range(1, TRIES + 1):
            config = await self.config(guest)
            mark = tags.read(str(config.get("description", "")), guest.vmid)
            if mark is None or not self.names.owns(mark):
                raise self.not_ours(guest)
            new = change(mark)
            had = str(config.get("tags", ""))
            # After a rollback the tags are those of then, and the notes those of now.
            if new == mark and not also and tags.stamp_of(tags.split(had)) == tags.stamp(mark):
                return mark
            notes, words = tags.write(str(config.get("description", "")), new), tags.tags(self.names.without(had), new)
            params = {**(also or {}), "description": notes, "tags": words, "digest": str(config["digest"])}
            try:
                await self.api.set(f"{guest.base}/config", params)
            except Changed:
                if tried == TRIES:
                    raise
                await asyncio.sleep(0.2 * tried)
                continue
            self._remember(new, guest)
            return new
        raise AssertionError("the last try raises")

    def not_ours(self, guest: Guest) -> LabError:
        where = f"VM {guest.vmid} on {guest.node}"
        what = f"{where} has no mark of lab {self.names.now} (any more): nestlab does not touch it."
        return LabError(what, hint="Put the line `nestlab: {…}` back into its notes, or remove the machine yourself.")

    def forget(self, path: str) -> None:
        """It was removed."""
        if self._at is not None:
            self._at.pop(path, None)

    def made(self, guest: Guest, mark: Mark) -> None:
        """It was just made."""
        self._remember(mark, guest)

    async def unlocked(self, guest: Guest, say: Say) -> bool:
        """Wait until no task is at work on it that nobody follows any more. False if it is gone then; LabError when it
        is locked and no task does anything."""
        deadline = time.monotonic() + patience.allowed(LOCK_PATIENCE)
        while True:
            try:
                lock = (await self.config(guest)).get("lock")
            except Missing:
                return False
            if not lock or lock == "suspended":
                return True
            rows = await self.api.get(f"/nodes/{guest.node}/tasks", {"source": "active"})
            works = [row for row in rows or [] if _may_hold(row, guest.vmid)]
            if not works or time.monotonic() > deadline:
                what = f"VM {guest.vmid} on {guest.node} is locked ({lock}), and no task works on it."
                raise LabError(what, hint=f"As root on {guest.node}: qm unlock {guest.vmid}")
            say(f"waiting for a task that works on VM {guest.vmid}")
            await asyncio.sleep(1)

    def _may_be(self, guest: Guest) -> bool:
        """Whether its mark is worth reading. A container has no tags before it is finished (`create.py`)."""
        fresh = guest.kind == "lxc" and not guest.tags and guest.pool != "" and guest.pool == self._pool
        return fresh or self.names.may_own(guest.tags)

    async def _marked(self, guest: Guest, *, moves: bool = True) -> Found | None:
        """A guest with its mark, from memory if it has the tag for it; None if it has none, or is gone. `moves`: it may
        have moved since it was listed."""
        known = self._memory.mark(tags.stamp_of(guest.tags), guest.vmid)
        if known is not None:
            return Found(guest, known) if self.names.owns(known) else None
        try:
            config = await self.config(guest)
        except Missing:
            return await self._elsewhere(guest) if moves else None
        except NodeUnreachable:
            # Whose machine that is cannot be told, and to take it for absent would make a second one.
            where = f"Node {guest.node} of {self.api.where}"
            what = f"{where} does not answer, and VM {guest.vmid} there may be of lab {self.names.now}."
            raise Unreachable(what, hint="Start the node, or remove it from the cluster, then try again.") from None
        mark = tags.read(str(config.get("description", "")), guest.vmid)
        if mark is None or not self.names.owns(mark) or config.get("template"):
            return None
        if tags.stamp_of(guest.tags) == tags.stamp(mark):
            self._memory.learn(mark)
        return Found(guest, mark)

    async def _again(self, found: Found) -> Found | None:
        """As it is now, also if it has moved."""
        guest = found.guest
        try:
            config = await self.config(guest)
        except Missing:
            return await self._elsewhere(guest)
        mark = tags.read(str(config.get("description", "")), guest.vmid)
        if mark is None or not self.names.owns(mark):
            return None
        return Found(replace(guest, lock=str(config.get("lock") or "")), mark)

    async def _elsewhere(self, guest: Guest) -> Found | None:
        """It moves behind nestlab's back: then it is looked for once."""
        rows = await self.api.get("/cluster/resources", {"type": "vm"})
        there = next((each for each in resources.guests(rows) if each.vmid == guest.vmid), None)
        return await self._marked(there, moves=False) if there is not None and there.node != guest.node else None

    @staticmethod
    def _doubtful(found: Found) -> bool:
        running = found.guest.status == "running"
        odd = found.mark.making or bool(found.guest.lock) or found.guest.paused or found.guest.status == "unknown"
        return odd or running != (found.mark.wanted == "running")

    async def _now(self, nodes: Iterable[str], kinds: Collection[str]) -> tuple[dict[int, Mapping[str, Any]], set[str]]:
        """The rows of the nodes' own lists, by VMID, and the nodes that do not answer."""
        silent: set[str] = set()

        async def ask(node: str, kind: str) -> list[Mapping[str, Any]]:
            try:
                return list(await self.api.get(f"/nodes/{node}/{kind}", {"full": True} if kind == "qemu" else None))
            except NodeUnreachable:
                silent.add(node)
                return []

        rows = await asyncio.gather(*(ask(node, kind) for node in nodes for kind in kinds))
        return {int(row["vmid"]): row for each in rows for row in each}, silent

    def _keep(self, found: Iterable[Found]) -> None:
        """Of machines with the same path, the finished one counts; others are what an interrupted nestlab left."""
        at: dict[str, list[Found]] = {}
        for each in sorted(found, key=lambda each: (each.mark.making, each.guest.vmid)):
            at.setdefault(each.mark.path, []).append(each)
        self._at = at

    def _remember(self, mark: Mark, guest: Guest) -> None:
        self._memory.learn(mark)
        if self._at is None:
            return
        others = [each for each in self._at.get(mark.path, ()) if each.guest.vmid != guest.vmid]
        self._at[mark.path] = [Found(guest, mark), *others]


def _may_hold(row: Mapping[str, Any], vmid: int) -> bool:
    """Whether an active task may be what has locked a machine."""
    kind = str(row.get("type") or "")
    own = kind.startswith(("qm", "vz", "resize", "move")) and str(row.get("id")) == str(vmid)
    return row.get("status") in (None, "", "RUNNING") and (own or kind in _ELSEWHERE)


def unanswering(found: Found) -> Unreachable:
    """The error for a container that is asked for something inside it."""
    what = f"{found.mark.path} is a container, and PVE's API runs no commands in one."
    return Unreachable(what, hint=f"`nestlab console`, or on {found.guest.node}: pct enter {found.guest.vmid}")
