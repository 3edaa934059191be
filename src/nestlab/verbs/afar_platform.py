"""A host that ssh reaches as the platform of a lab: the embedded engine works there, and images are sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from nestlab.base.errors import LabError
from nestlab.base.files import disk_free
from nestlab.base.proofs import Proof
from nestlab.engines import Engine
from nestlab.engines.afar import programs, wires
from nestlab.engines.afar.depot import Depot
from nestlab.engines.afar.engine import AfarEngine
from nestlab.engines.qemu.environment import Environment
from nestlab.home import afar_labs
from nestlab.home.content_digests import ContentDigests
from nestlab.home.directories import Home, LabHome
from nestlab.home.paths import Place
from nestlab.hosts import ssh
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.lab import libvirt_address
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.places import Libvirt, Ssh
from nestlab.plan import capacity
from nestlab.plan.steps import Observed, Seen
from nestlab.show.render import Acceleration
from nestlab.verbs.platform import accelerated, level_0

Ask = Callable[[str], bool]
"""Asks the person at the terminal; True for yes."""

Outer = Callable[[Depot], Environment]
"""The surroundings of the engine there, once the host was looked at."""


@dataclass
class AfarPlatform:
    """See `platform.Platform`. `named`: its address is the user's, and not only a lab file's."""

    home: Home
    address: Ssh | Libvirt
    reached: SshHost
    depot: Depot
    outer: Outer
    named: bool = True
    ask: Ask | None = None

    @property
    def host(self) -> Host:
        return self.reached

    @property
    def place(self) -> Place:
        return self.depot.place

    def on(self, lab: str, parent: Host) -> Engine:
        return AfarEngine(parent, self.outer(self.depot), depot=self.depot)

    async def enter(self) -> None:
        """LabError for a host that only a lab file names, and the person does not agree to: nothing was sent there."""
        address = self.address.address
        if not self.named and not await asyncio.to_thread(afar_labs.agreed, self.home.state, address):
            hint = f"If it is yours, say so: --set on={address}, as in `nestlab up FILE --set on={address}`."
            what = f"{address} is named by a lab file only: nothing was sent there, and its name was not looked up."
            question = f"Log in to {address}, which the lab file names, and make machines there?"
            if self.ask is None or not self.ask(question):
                raise LabError(what, hint=hint)
            await asyncio.to_thread(afar_labs.agree, self.home.state, address)
        await self.depot.look()

    async def routes(self) -> tuple[str, ...]:
        return (await self.reached.facts()).routes

    async def check(
        self, blueprint: Blueprint, observed: Observed, wanted: Collection[str], to_build: Mapping[str, int]
    ) -> tuple[str, ...]:
        if wanted:
            self.depot.needs()
        capacity.check_images(disk_free(self.home.cache), to_build)
        facts, free = await self.reached.facts(), (await self.depot.look()).free
        return capacity.check(blueprint, observed, facts, wanted=wanted, disk_free=free)

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        specs = [spec for spec in blueprint.children("") if spec.path in paths]
        facts = await self.reached.facts() if specs else None
        return tuple(accelerated(spec, facts, self.address.address) for spec in specs)

    async def proofs(self, blueprint: Blueprint) -> tuple[Proof, ...]:
        return level_0(blueprint, await self.reached.facts(), where=self.address.address)

    async def boots(self) -> int | None:
        return (await self.reached.facts()).cpus or None

    async def glance(self) -> Mapping[str, Seen] | None:
        return None

    async def leave(self) -> None:
        await self.depot.leave()

    async def close(self) -> None:
        await self.reached.close()


def platform(
    home: Home, place: LabHome, on: Ssh | Libvirt, outer: Outer, *, named: bool = True, ask: Ask | None = None
) -> AfarPlatform:
    """A lab's host. Nothing is connected yet. LabError for what is no address."""
    address = libvirt_address.reached(on.address).url if isinstance(on, Libvirt) else on.address
    host = ssh.at(address, ask=ask, of_lab=True)
    directory = afar_labs.load(place) or afar_labs.new()

    def keep() -> None:
        afar_labs.keep(place, directory)

    depot = Depot(host, place.name, directory, ContentDigests(home.cache), home.cache, keep)
    if isinstance(on, Libvirt):
        from nestlab.verbs.libvirt_platform import AfarLibvirtPlatform

        return AfarLibvirtPlatform(home, on, host, depot, outer, named, ask)
    return AfarPlatform(home, on, host, depot, outer, named, ask)


def environment(known: Environment, depot: Depot) -> Environment:
    """The surroundings of a lab's engine on this computer, as they are on the depot's host."""
    return replace(
        known,
        place=depot.place,
        programs=programs.programs(depot, known.programs.firmware),
        wires=wires.wires(depot),
        own_qemu=programs.own_qemu(depot),
        depot=depot,
    )
