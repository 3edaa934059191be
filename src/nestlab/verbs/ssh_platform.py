"""A host that ssh reaches as the platform of a lab: the embedded engine works there, and images are sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from nestlab.base.errors import LabError
from nestlab.base.files import disk_free
from nestlab.base.proofs import Proof
from nestlab.engines import Engine
from nestlab.engines.qemu.environment import Environment
from nestlab.engines.ssh_host import programs, wires
from nestlab.engines.ssh_host.engine import SshHostEngine
from nestlab.engines.ssh_host.uploads import Uploads
from nestlab.home import ssh_labs
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

Outer = Callable[[Uploads], Environment]
"""The surroundings of the engine there, once the host was looked at."""


@dataclass
class SshPlatform:
    """See `platform.Platform`. `named`: its address is the user's, and not only a lab file's."""

    home: Home
    address: Ssh | Libvirt
    reached: SshHost
    uploads: Uploads
    outer: Outer
    named: bool = True
    ask: Ask | None = None

    @property
    def host(self) -> Host:
        return self.reached

    @property
    def place(self) -> Place:
        return self.uploads.place

    def on(self, lab: str, parent: Host) -> Engine:
        return SshHostEngine(parent, self.outer(self.uploads), uploads=self.uploads)

    async def enter(self) -> None:
        """LabError for a host that only a lab file names, and the person does not agree to: nothing was sent there."""
        address = self.address.address
        if not self.named and not await asyncio.to_thread(ssh_labs.agreed, self.home.state, address):
            hint = f"If it is yours, say so: --set on={address}, as in `nestlab up FILE --set on={address}`."
            what = f"{address} is named by a lab file only: nothing was sent there, and its name was not looked up."
            question = f"Log in to {address}, which the lab file names, and make machines there?"
            if self.ask is None or not self.ask(question):
                raise LabError(what, hint=hint)
            await asyncio.to_thread(ssh_labs.agree, self.home.state, address)
        await self.uploads.look()

    async def routes(self) -> tuple[str, ...]:
        return (await self.reached.facts()).routes

    async def check(
        self, blueprint: Blueprint, observed: Observed, wanted: Collection[str], to_build: Mapping[str, int]
    ) -> tuple[str, ...]:
        if wanted:
            self.uploads.needs()
        capacity.check_images(disk_free(self.home.cache), to_build)
        facts, free = await self.reached.facts(), (await self.uploads.look()).free
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
        await self.uploads.leave()

    async def close(self) -> None:
        await self.reached.close()


def platform(
    home: Home, place: LabHome, on: Ssh | Libvirt, outer: Outer, *, named: bool = True, ask: Ask | None = None
) -> SshPlatform:
    """A lab's host. Nothing is connected yet. LabError for what is no address."""
    address = libvirt_address.reached(on.address).url if isinstance(on, Libvirt) else on.address
    host = ssh.at(address, ask=ask, of_lab=True)
    directory = ssh_labs.load(place) or ssh_labs.new()

    def keep() -> None:
        ssh_labs.keep(place, directory)

    uploads = Uploads(host, place.name, directory, ContentDigests(home.cache), home.cache, keep)
    if isinstance(on, Libvirt):
        from nestlab.verbs.libvirt_platform import RemoteLibvirtPlatform

        return RemoteLibvirtPlatform(home, on, host, uploads, outer, named, ask)
    return SshPlatform(home, on, host, uploads, outer, named, ask)


def environment(known: Environment, uploads: Uploads) -> Environment:
    """The surroundings of a lab's engine on this computer, as they are on the uploads's host."""
    return replace(
        known,
        place=uploads.place,
        programs=programs.programs(uploads, known.programs.firmware, known.programs.ipxe),
        wires=wires.wires(uploads),
        own_qemu=programs.own_qemu(uploads),
        uploads=uploads,
    )
