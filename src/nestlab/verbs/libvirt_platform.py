"""A libvirt as the platform of a lab: this machine's, or that of a host that ssh reaches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines import Engine
from nestlab.engines.libvirt.outer import OuterLibvirtEngine
from nestlab.engines.libvirt.remote import RemoteLibvirtEngine
from nestlab.engines.libvirt.virsh import Libvirt
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.environment import Environment
from nestlab.hosts.host import Host
from nestlab.images.qemu_runtime import GOOD_ENOUGH, Tool, Version
from nestlab.lab.blueprint import Blueprint
from nestlab.show.render import Acceleration
from nestlab.verbs.platform import LocalPlatform
from nestlab.verbs.ssh_platform import SshPlatform


@frozen
class LibvirtPlatform(LocalPlatform):
    """`version`: asks libvirt which QEMU it runs; LabError where it does not answer."""

    version: Callable[[], Awaitable[Version | None]]

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        found = await super().outlook(blueprint, paths)
        if found:
            good_enough(await self.version(), found)
        return found


@dataclass
class RemoteLibvirtPlatform(SshPlatform):
    """The libvirt of a host that ssh reaches."""

    def on(self, lab: str, parent: Host) -> Engine:
        return RemoteLibvirtEngine(parent, its_own(self._environment, parent), uploads=self.uploads)

    @property
    def _environment(self) -> Environment:
        return self.outer(self.uploads)

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Acceleration, ...]:
        found = await super().outlook(blueprint, paths)
        if found:
            good_enough(await of_lab(self._environment, self.reached).version(), found)
        return found


def good_enough(version: Version | None, found: Collection[Acceleration]) -> None:
    """LabError where a libvirt's QEMU is too old for how machines are to run."""
    if version is None:
        raise LabError("libvirt does not say which QEMU it runs.", hint="See there: virsh -c qemu:///system version")
    for each in found:
        least = GOOD_ENOUGH["tcg" if each.accel == "tcg" else "kvm"]
        if version < least:
            what = f"libvirt's QEMU is {said(version)}, and {each.path} takes {said(least)} or newer"
            how = f", as it is emulated ({each.why})" if each.accel == "tcg" else ""
            hint = "Have the lab run without libvirt: nestlab brings along a QEMU of its own. Or install a newer one."
            raise LabError(f"{what}{how}.", hint=hint)


def said(version: Version) -> str:
    """`10.0.0`"""
    return ".".join(map(str, version))


def of_lab(environment: Environment, host: Host) -> Libvirt:
    """A host's libvirt, for a lab."""
    return Libvirt(host, environment.first_name or environment.lab, lambda: environment.lab_keys.authorized)


def its_own(environment: Environment, host: Host) -> Environment:
    """The surroundings of a lab's engine on a host, with the QEMU that its libvirt runs and without a switch."""
    known: list[Version | None] = []

    async def qemu(_: Accelerator, __: Say) -> Tool:
        if not known:
            known.append(await of_lab(environment, host).version())
        return Tool(("qemu-system-x86_64",), {}, known[0] or GOOD_ENOUGH["tcg"])

    return replace(environment, wires=None, own_qemu=None, programs=replace(environment.programs, qemu=qemu))


def platform(host: Host, environment: Environment, cache: Path) -> LibvirtPlatform:
    """Of one lab on this machine. `environment`: the lab's here, with nestlab's own programs."""
    libvirts = its_own(environment, host)

    def on(lab: str, parent: Host) -> Engine:
        return OuterLibvirtEngine(parent, replace(libvirts, lab=lab))

    return LibvirtPlatform(host, on, cache, environment.place, of_lab(environment, host).version)
