"""A Proxmox VE as the platform of a lab: how its address is reached, and what a session needs of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nestlab import install
from nestlab.base.files import disk_free
from nestlab.base.proofs import Proof
from nestlab.engines import Engine
from nestlab.engines.pve import consoles
from nestlab.engines.pve import engine as pve
from nestlab.engines.pve.assignment import NO_CPU
from nestlab.engines.pve.engine import PveEngine
from nestlab.engines.pve.images import Stock
from nestlab.engines.pve.tags import LabNames
from nestlab.home import former_names
from nestlab.home.directories import Home, LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import at
from nestlab.images.image_files import Cache
from nestlab.lab import pve_address
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.places import Pve
from nestlab.plan import capacity
from nestlab.plan.steps import Observed, Seen
from nestlab.show.render import Acceleration
from nestlab.wire.pve import credentials
from nestlab.wire.pve import known_addresses as known
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.pvesh import Pvesh

if TYPE_CHECKING:
    from nestlab.wire.pve.api import Api

MEMORY = "pve.json"
"""In a lab's directory: what need not be asked of its Proxmox VE twice."""


@dataclass
class Reached:
    """A Proxmox VE that is reached. `close` ends what it is reached by."""

    api: Api
    host: Host | None = None
    """The node that pvesh runs on, where it is reached that way."""

    async def close(self) -> None:
        await self.api.close()
        if self.host is not None and self.host.path:
            await self.host.close()


def reach(
    address: str,
    home: Home,
    environ: Mapping[str, str],
    ask: credentials.Ask | None = None,
    *,
    named: bool = False,
) -> Reached:
    """The Proxmox VE with an address (see `places.Pve`). Nothing is connected yet. LabError without credentials, for
    what is no address, and for one that the user has not named (see `wire.pve.known_addresses`). `ask`: for a secret
    that is nowhere kept."""
    where = pve_address.parse(address)
    if isinstance(where, pve_address.Place):
        return Reached(Client.of(credentials.find(where, environ, home.state, ask, named=named)))
    known.check(where, environ, home.state, named=named)
    node: Host = at(_as_root(where).ssh) if where.host else LocalHost()
    return Reached(Pvesh(node, "" if where.host else "this node"), node)


def _as_root(where: pve_address.Shell) -> pve_address.Shell:
    """pvesh is root's: who else is meant says so."""
    return replace(where, user=where.user or "root")


def narrowed(on: Pve) -> Pve:
    """With the node that its address names as the one that may be used, if the lab file names none."""
    where = pve_address.parse(on.address)
    node = where.node if isinstance(where, pve_address.Place) else ""
    return replace(on, nodes=(node,)) if node and not on.nodes else on


@dataclass
class ProxmoxPlatform:
    """See `platform.Platform`. One lab's; its engine is made once."""

    lab: LabHome
    pve: Pve
    home: Home
    open: Callable[[], Reached]
    host: Host = field(default_factory=LocalHost)
    _reached: Reached | None = None
    _engine: PveEngine | None = None

    def on(self, lab: str, parent: Host) -> Engine:
        return self.engine

    @property
    def reached(self) -> Reached:
        if self._reached is None:
            self._reached = self.open()
        return self._reached

    @property
    def engine(self) -> PveEngine:
        if self._engine is None:
            library, lab_keys = Cache(self.home.cache, install.make), LabKeys(self.lab.root)
            memory = self.lab.root / MEMORY
            name, api = self.lab.name, self.reached.api
            known = LabNames(name, former_names.load(self.lab), *former_names.intended(self.lab))
            environment = pve.environment(name, self.pve, api, lab_keys, library, memory, self.home.cache, known)
            self._engine = PveEngine(environment)
        return self._engine

    @property
    def place(self) -> Place:
        return Place(str(self.lab.root))

    async def enter(self) -> None: ...

    async def leave(self) -> None: ...

    async def routes(self) -> tuple[str, ...]:
        return await self.engine.routes()

    async def check(
        self, blueprint: Blueprint, observed: Observed, wanted: Collection[str], to_build: Mapping[str, int]
    ) -> tuple[str, ...]:
        capacity.check_images(disk_free(self.home.cache), to_build)
        return await self.engine.check(blueprint, wanted)

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        found = await self.engine.outlook(blueprint, paths)
        return tuple(
            Acceleration(
                path=each.path,
                accel="" if each.cpu == NO_CPU else "kvm" if each.kvm else "tcg",
                why=each.why,
                cost=each.cost,
                node=each.node,
                storage=each.storage,
                cpu=each.cpu,
                vmid=each.vmid,
            )
            for each in found
        )

    async def proofs(self, blueprint: Blueprint) -> tuple[Proof, ...]:
        basis = await self.engine.platform()
        cannot = "level 1 is emulated" if basis.emulates else "machines inside level 1 run without KVM"
        outer = blueprint.children("")
        if all(spec.machine.container for spec in outer):
            cannot = "its containers need none"
        elif not any(spec.machine.hypervisor for spec in outer) and not basis.emulates:
            cannot = "nothing runs inside its machines"
        why = {True: "", None: "whether it can nest is not told; the proofs below tell", False: cannot}[basis.nests]
        first = Proof("", 0, "hardware virtualization", basis.nests or None, basis.line, why, where="Proxmox VE")
        return (first, *await self._moved(blueprint))

    async def _moved(self, blueprint: Blueprint) -> list[Proof]:
        """Machines that high availability would migrate behind nestlab's back."""
        specs = blueprint.by_path()
        found = []
        for path, (guest, state) in (await self.engine.watched()).items():
            if path in specs and specs[path].machine.hypervisor:
                why = f"it would be moved with what runs inside; as root on a node: ha-manager remove {guest}"
                found.append(Proof(path, 1, "high availability", None, f"HA manages {guest} ({state})", why))
        return found

    async def boots(self) -> int | None:
        return await self.engine.cpus()

    async def glance(self) -> Mapping[str, Seen]:
        return await self.engine.glance()

    @asynccontextmanager
    async def console(self, path: str, size: Callable[[], tuple[int, int]]) -> AsyncIterator[str]:
        """The console of a machine as a unix socket: see `engines.pve.consoles.attached`."""
        found = (await self.engine.guests.one(path)).guest
        way = consoles.attached(
            self.reached.api, found.node, found.vmid, found.kind, where=path, host=self.reached.host, size=size
        )
        async with way as socket:
            yield socket

    async def log(self, path: str, boot: int) -> bytes:
        """The end of a machine's own journal: see `engines.pve.consoles.log`."""
        return await consoles.log(await self.engine.door(path), boot)

    @asynccontextmanager
    async def following(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with consoles.following(await self.engine.host(path)) as lines:
            yield lines

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
        if self._reached is not None:
            await self._reached.close()
        await self.host.close()


@asynccontextmanager
async def stocked(on: Pve, home: Home, *, named: bool) -> AsyncIterator[Stock]:
    """The images on a Proxmox VE."""
    reached = reach(on.address, home, os.environ, named=named)
    try:
        yield Stock(reached.api, narrowed(on), Cache(home.cache, install.make), cache=home.cache)
    finally:
        await reached.close()


def platform(
    home: Home, place: LabHome, on: Pve, ask: credentials.Ask | None = None, *, named: bool = False
) -> ProxmoxPlatform:
    """A lab's Proxmox VE, with the credentials that this user has for it."""
    return ProxmoxPlatform(place, narrowed(on), home, lambda: reach(on.address, home, os.environ, ask, named=named))
