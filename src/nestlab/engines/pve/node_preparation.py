"""What machines inside a node of nestlab's stand on: its API answers, its storage takes images, and there is a pool.

A node that has just booted is reached by ssh long before: Perl that is compiled anew for each daemon takes minutes on
an emulated one. That is waited for as long as the node works at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.hosts.host import Host
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Exists, PveError
from nestlab.wire.pve.retries import Unsent

COMES = 120.0
"""Nominal seconds in which a node's API comes, as long as nothing of it has failed. (Emulated: 60 at 0.7 of a CPU.)"""

REPORTS = 60.0
"""Nominal seconds in which pvestatd then tells of the node's storages: it does so every ten."""

PAUSE = 1.0

UNITS = ("pve-cluster.service", "pvedaemon.service", "pvestatd.service")

STATE = 'for unit; do echo "$unit $(systemctl show -p ActiveState --value "$unit")"; done'
"""Arguments: units. Prints each with its state."""

STORAGE = "local"
"""The storage that every node has: the directory /var/lib/vz (pve-storage, Plugin.pm: parse_config)."""

CONTENTS = ("images", "rootdir", "vztmpl", "iso", "import")
"""What is kept there; `import` it takes only where that is said."""


class Ground:
    """Of one node, whose own name is `node`. `ready` is to be called before anything is made there; it does its work
    once."""

    def __init__(self, api: Api, host: Host, node: str, pool: str) -> None:
        self._api = api
        self._host = host
        self._node = node
        self._pool = pool
        self._making = asyncio.Lock()
        self._made = False

    async def ready(self, say: Say) -> None:
        """Wait for the node, and make what is not there. LabError when one of its services failed, or refuses."""
        async with self._making:
            if not self._made:
                await self._answers(say)
                rows = await self._reported(say)
                await self._pooled(rows)
                await self._takes()
                self._made = True

    async def _answers(self, say: Say) -> None:
        deadline, told = time.monotonic() + patience.allowed(COMES, self._host.slowness), False
        while True:
            try:
                await self._api.get("/version")
                return
            except (Unsent, Unreachable) as error:
                states = await self._states()
                failed = [unit for unit, state in states.items() if state == "failed"]
                if failed or time.monotonic() > deadline:
                    raise self._down(failed, states, error) from error
            if not told:
                say(f"waiting for the API of {self._host.path}: its daemons are starting")
                told = True
            await asyncio.sleep(PAUSE)

    async def _states(self) -> dict[str, str]:
        with contextlib.suppress(LabError):
            said = (await self._host.run(("sh", "-c", STATE, "state", *UNITS), check=False, timeout=60)).text
            return {found[1]: found[2] for found in re.finditer(r"^(\S{1,40}\.service) ([a-z-]{1,20})$", said, re.M)}
        return {}

    def _down(self, failed: Sequence[str], states: dict[str, str], error: LabError) -> LabError:
        path = self._host.path
        shown = ", ".join(f"{unit} is {state}" for unit, state in states.items()) or "nothing is known of its services"
        what = f"The API of {path}, in which machines are made, does not answer: {shown}."
        look = f"nestlab exec {path} -- journalctl -b -u {failed[0] if failed else 'pvedaemon'}"
        hint = f"See why: {look}" if failed else f"{patience.LONGER}\nSee what it does: {look}"
        return Unreachable(what, hint=hint, detail=error.what)

    async def _reported(self, say: Say) -> Sequence[dict[str, Any]]:
        """The rows of the cluster once they tell of this node's storages. Those of then, where they never do: what
        needs more says so."""
        deadline, told = time.monotonic() + patience.allowed(REPORTS, self._host.slowness), False
        while True:
            rows: Sequence[dict[str, Any]] = await self._api.get("/cluster/resources")
            here = [row for row in rows if row.get("node") == self._node]
            known = any(row.get("type") == "storage" and row.get("status") == "available" for row in here)
            online = any(row.get("type") == "node" and row.get("status") == "online" for row in here)
            if (known and online) or time.monotonic() > deadline:
                return rows
            if not told:
                say(f"waiting until {self._host.path} has looked at its storages")
                told = True
            await asyncio.sleep(PAUSE)

    async def _pooled(self, rows: Sequence[dict[str, Any]]) -> None:
        if any(row.get("type") == "pool" and row.get("pool") == self._pool for row in rows):
            return
        try:
            await self._api.create("/pools", {"poolid": self._pool})
        except Exists:
            return
        except PveError as error:
            if "already exists" not in error.message:
                raise

    async def _takes(self) -> None:
        told = await self._api.get(f"/storage/{STORAGE}")
        has = [each for each in str(told.get("content") or "").split(",") if each]
        if lacking := [each for each in CONTENTS if each not in has]:
            await self._api.set(f"/storage/{STORAGE}", {"content": ",".join([*has, *lacking])})
