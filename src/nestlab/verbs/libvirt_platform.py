"""A libvirt as the platform of a lab: this machine, whose libvirt runs the outermost machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines import Engine
from nestlab.engines.libvirt.outer import OuterLibvirtEngine
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.environment import Environment
from nestlab.hosts.host import Host
from nestlab.images.qemu_runtime import GOOD_ENOUGH, Tool, Version
from nestlab.lab.blueprint import Blueprint
from nestlab.show.render import Acceleration
from nestlab.verbs.platform import LocalPlatform


@frozen
class LibvirtPlatform(LocalPlatform):
    """`version`: asks libvirt which QEMU it runs; LabError where it does not answer."""

    version: Callable[[], Awaitable[Version | None]]

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        found = await super().outlook(blueprint, paths)
        if found:
            await self._good_enough(found)
        return found

    async def _good_enough(self, found: Collection[Acceleration]) -> None:
        version = await self.version()
        if version is None:
            raise LabError("libvirt does not say which QEMU it runs.", hint="See: virsh -c qemu:///system version")
        for each in found:
            least = GOOD_ENOUGH["tcg" if each.accel == "tcg" else "kvm"]
            if version < least:
                what = f"libvirt's QEMU is {said(version)}, and {each.path} takes {said(least)} or newer"
                how = f", as it is emulated ({each.why})" if each.accel == "tcg" else ""
                hint = "Leave `on:` out: nestlab brings along a QEMU of its own. Or install a newer one."
                raise LabError(f"{what}{how}.", hint=hint)


def said(version: Version) -> str:
    """`10.0.0`"""
    return ".".join(map(str, version))


def platform(host: Host, environment: Environment, cache: Path) -> LibvirtPlatform:
    """Of one lab. `environment`: the lab's on this host, with nestlab's own programs."""
    first = environment.first_name or environment.lab
    libvirt = Libvirt(host, first, lambda: environment.lab_keys.authorized)
    known: list[Version | None] = []

    async def version() -> Version | None:
        if not known:
            known.append(await libvirt.version())
        return known[0]

    async def qemu(_: Accelerator, __: Say) -> Tool:
        return Tool(("qemu-system-x86_64",), {}, await version() or GOOD_ENOUGH["tcg"])

    its_own = replace(environment, wires=None, own_qemu=None, programs=replace(environment.programs, qemu=qemu))

    def on(lab: str, parent: Host) -> Engine:
        return OuterLibvirtEngine(parent, replace(its_own, lab=lab))

    return LibvirtPlatform(host, on, cache, environment.place, version)
