"""Platforms: what the outermost machines of a lab run on, this machine or a Proxmox VE."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nestlab.base.files import disk_free
from nestlab.base.frozen import frozen
from nestlab.base.proofs import Proof
from nestlab.engines import Inside
from nestlab.engines.qemu.accel import choose, contained, surely_emulated, why_not
from nestlab.home.paths import Place
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.plan import capacity
from nestlab.plan.steps import Observed, Seen
from nestlab.show.render import Acceleration


class Platform(Protocol):
    """One lab's. Every method may be called before anything of the lab is made."""

    @property
    def host(self) -> Host:
        """The machine that nestlab works on; the platform's to close."""

    @property
    def on(self) -> Inside:
        """Makes the engine of the outermost machines."""

    async def enter(self) -> None:
        """Reach what it is, before anything else is asked of it. LabError where that cannot be, or is not wanted."""

    @property
    def place(self) -> Place:
        """The directory of the lab's machines on `host`, where the embedded engine makes them."""

    async def routes(self) -> tuple[str, ...]:
        """The networks that no segment should have: see `addresses.lease`."""

    async def check(
        self, blueprint: Blueprint, observed: Observed, wanted: Collection[str], to_build: Mapping[str, int]
    ) -> tuple[str, ...]:
        """Notes about what is tight when the machines `wanted` run. LabError when they do not fit. `to_build`: bytes
        of disk that building takes, by image."""

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        """The accelerators of outermost machines, now or when they run. LabError where one insists on KVM and cannot
        have it."""

    async def proofs(self, blueprint: Blueprint) -> tuple[Proof, ...]:
        """Proofs about level 0 first, then about single machines there."""

    async def boots(self) -> int | None:
        """Machines that may boot at one time; None: as many as this machine has CPUs."""

    async def glance(self) -> Mapping[str, Seen] | None:
        """The outermost machines as far as a few requests tell; None where looking at all of them is as quick."""

    async def leave(self) -> None:
        """Nothing of the lab is left there but what others may use: all its machines are gone."""

    async def close(self) -> None: ...


@frozen
class LocalPlatform:
    """This machine. `cache`: where images and disks go; `place`: the lab's directory."""

    host: Host
    on: Inside
    cache: Path
    place: Place

    async def enter(self) -> None: ...

    async def leave(self) -> None: ...

    async def routes(self) -> tuple[str, ...]:
        return (await self.host.facts()).routes

    async def check(
        self, blueprint: Blueprint, observed: Observed, wanted: Collection[str], to_build: Mapping[str, int]
    ) -> tuple[str, ...]:
        facts, free = await self.host.facts(), disk_free(self.cache)
        return capacity.check(blueprint, observed, facts, wanted=wanted, disk_free=free, to_build=to_build)

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        specs = [spec for spec in blueprint.children("") if spec.path in paths]
        facts = await self.host.facts() if specs else None
        return tuple(accelerated(spec, facts, "this machine") for spec in specs)

    async def proofs(self, blueprint: Blueprint) -> tuple[Proof, ...]:
        return level_0(blueprint, await self.host.facts())

    async def boots(self) -> int | None:
        return None

    async def glance(self) -> Mapping[str, Seen] | None:
        return None

    async def close(self) -> None:
        await self.host.close()


def level_0(blueprint: Blueprint, facts: Facts, *, where: str = "this machine") -> tuple[Proof, ...]:
    """What a computer, of which these are the facts, does for the machines that run on it. `where`: see `Proof`."""
    reason = why_not(facts, hypervisor=any(spec.machine.hypervisor for spec in blueprint.children("")))
    claim = "hardware virtualization"
    if not reason:
        return (Proof("", 0, claim, True, f"{facts.provider} ran a 64-bit guest", where=where),)
    return (Proof("", 0, claim, None, reason, _emulated(blueprint.children(""), facts), where=where),)


def _emulated(outer: Sequence[Spec], facts: Facts) -> str:
    """Which machines of level 1 are emulated on a host that cannot give KVM to all of them."""
    names = [
        spec.path
        for spec in outer
        if spec.machine.accel == "tcg" or why_not(facts, hypervisor=spec.machine.hypervisor is not None)
    ]
    if len(names) == len(outer):
        return "level 1 is emulated"
    return f"{', '.join(names[:6])}{' and others' if len(names) > 6 else ''}: emulated; the others run on KVM"


def accelerated(
    spec: Spec, facts: Facts | None, where: str, *, containers: bool = True, emulated: bool = False
) -> Acceleration:
    """The accelerator of a machine on a host with these facts; None while that does not run, which leaves it open
    unless the lab file decides, or that host is `emulated`, where some machines never run on KVM. `containers`: nestlab
    makes some there, too."""
    if spec.machine.container:
        return Acceleration(spec.path, "container", contained(where))
    if facts is None and spec.machine.accel != "tcg":
        sure = surely_emulated(spec.machine, spec.path, containers=containers) if emulated else None
        if sure is None:
            return Acceleration(spec.path, "", "decided where it runs, once that is up and has run a guest")
        return Acceleration(spec.path, sure.accel, sure.why, sure.cost)
    chosen = choose(facts or Facts(), spec.machine, spec.path, where or "this machine", containers=containers)
    return Acceleration(spec.path, chosen.accel, chosen.why, chosen.cost)
