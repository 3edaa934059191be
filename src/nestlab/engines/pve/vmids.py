"""VMIDs: how a machine gets one. PVE reserves none, so whoever is late takes another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nestlab.base.errors import LabError
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Exists

TRIES = 30
"""VMIDs that are tried for one machine, each lost to somebody else."""

LAST = 999_999_999

Make = Callable[[int], Awaitable[None]]


class Vmids:
    """A number is taken when its configuration is there, which for a clone is some time after it was asked for
    (qemu-server, clone_vm): until then it is kept from others here."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._asking = asyncio.Lock()
        self._given: set[int] = set()

    async def use(self, make: Make) -> int:
        """Make a machine with a free number; with another one as often as that is taken meanwhile. Its number."""
        for _ in range(TRIES):
            number = await self._next()
            try:
                await make(number)
            except Exists:
                continue  # `_given` keeps it: it is somebody else's
            self._given.discard(number)
            return number
        what = f"{self._api.where} gave {TRIES} free VMIDs in a row, and somebody else took each of them first."
        raise LabError(what, hint="Try again when nobody else makes machines.")

    async def _next(self) -> int:
        async with self._asking:
            first = number = int(await self._api.get("/cluster/nextid"))
            while number in self._given or (number > first and not await self._free(number)):
                number += 1
            if number > LAST:
                raise LabError(f"{self._api.where} has no VMID left.", hint="Remove machines that nobody needs.")
            self._given.add(number)
            return number

    async def _free(self, number: int) -> bool:
        try:
            await self._api.get("/cluster/nextid", {"vmid": number})
        except Exists:
            return False
        return True
