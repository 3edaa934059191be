"""Machines of a Proxmox VE that are made to fail on purpose: their power is cut, and cables are taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.engines.pve.hardware import CARD
from nestlab.lab.blueprint import Blueprint, Spec

if TYPE_CHECKING:
    from nestlab.engines.pve.engine import Environment
    from nestlab.engines.pve.guests import Guests
    from nestlab.engines.pve.resources import Found

DOWN = "link_down=1"
"""The part of a card's option that says that its cable is out (qemu-server, PVE::LXC::Config). It takes effect at once,
and is kept with the machine."""


class Failing:
    """A part of `PveEngine`; see `engines.Failing`. Privileges: VM.PowerMgmt, VM.Config.Network."""

    environment: Environment
    guests: Guests

    async def kill(self, path: str) -> bool:
        """By PVE's `stop`, which pulls the plug. What nestlab wants of the machine stays `running`, so that it is seen
        as one that nobody stopped."""
        guest = (await self.guests.one(path)).guest
        if await self.guests.runs(guest) == "stopped":
            return False
        await self.guests.work(self.environment.api.create, f"{guest.base}/status/stop", None, _quiet)
        return True

    async def link(self, spec: Spec, segment: str, *, up: bool) -> None:
        found = await self.guests.one(spec.path)
        config = await self.guests.config(found.guest)
        macs = {nic.mac.lower() for nic in spec.nics if nic.segment == segment}
        cards = {key: str(value) for key, value in config.items() if CARD.fullmatch(key)}
        changed = {
            key: linked(card, up=up)
            for key, card in cards.items()
            if any(part.partition("=")[2].lower() in macs for part in card.split(",")) and linked(card, up=up) != card
        }
        if changed:
            await self._set(found, changed)

    async def impair(self, blueprint: Blueprint) -> None:
        what = "The networks of a Proxmox VE carry the frames, and its API cannot impair them."
        raise LabError(what, hint="`nestlab cut MACHINE SEGMENT` takes a cable out there.")

    async def _set(self, found: Found, options: dict[str, str]) -> None:
        api, config = self.environment.api, f"{found.guest.base}/config"
        if found.guest.kind == "lxc":
            await api.set(config, options)  # PVE knows no task for a container's
        else:
            await self.guests.work(api.create, config, options, _quiet)


def linked(card: str, *, up: bool) -> str:
    """The option of a card, whose cable is in or out."""
    parts = [part for part in card.split(",") if not part.startswith("link_down=")]
    return ",".join(parts if up else [*parts, DOWN])


def _quiet(_: str) -> None:
    """The verb says what was done."""
