"""The engine of a lab's outermost machines on their host's libvirt: `on: qemu:///system`.

As inside a hypervisor, but for two things. Segments are networks of libvirt's (`networks`). And QEMU, which is
libvirt's own, runs as the user that nestlab is run by: it may read what that user may, KVM works for it if it does for
that user, and no file changes hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from nestlab.base.events import Say
from nestlab.engines.libvirt import start
from nestlab.engines.libvirt.engine import LibvirtEngine
from nestlab.engines.libvirt.networks import Networks
from nestlab.engines.qemu.accel import Choice
from nestlab.engines.qemu.booting import Boot
from nestlab.engines.qemu.starting import Start
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.plan.steps import Connect, Disconnect, Observed, Step

WHO = "id -u && id -g"


@dataclass
class OuterLibvirtEngine(LibvirtEngine):
    """See `nestlab.engines.Engine`."""

    owned: ClassVar[bool] = True

    networks: Networks = field(init=False)
    _user: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks = Networks(self.libvirt)

    async def observe(self) -> Observed:
        return replace(await super().observe(), links=await self.networks.observe())

    async def observe_and_ask(self, script: str, words: Sequence[str]) -> tuple[Observed, str]:
        seen, said = await super().observe_and_ask(script, words)
        return replace(seen, links=await self.networks.observe()), said

    async def _perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        match step:
            case Connect(segment=name):
                if await self.networks.ensure(next(each for each in blueprint.segments if each.name == name)):
                    for spec in blueprint.children(""):
                        if any(nic.segment == name for nic in spec.nics):
                            await self.networks.reconnect(spec.path, name)
            case Disconnect(segment=name):
                await self.networks.remove(name)
            case _:
                return await super()._perform(step, blueprint, say)
        return None

    async def _begin(
        self, begun: Start, spec: Spec, blueprint: Blueprint, choice: Choice, say: Say, *, incoming: bool = False
    ) -> None:
        if not self._user:
            uid, gid = (await self.parent.run(("sh", "-c", WHO))).text.split()
            self._user = f"+{int(uid)}:+{int(gid)}"
        await super()._begin(begun, spec, blueprint, choice, say, incoming=incoming)

    def _as_run(self, boot: Boot) -> Boot:
        on_networks = replace(boot, launch=replace(boot.launch, switch=self.networks.prefix))
        return start.of(self._monitored(on_networks), self.libvirt, self._takes(boot.path), self._user)
