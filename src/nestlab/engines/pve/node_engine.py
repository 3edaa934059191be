"""The engine for machines inside a node of Proxmox VE that nestlab made: recursion once more.

It is the engine for a Proxmox VE, on the node's own API, with what a node of nestlab's is known to have: root, a bridge
for each segment of the lab, and the lab's addresses on them, by which it reaches its machines itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.base.picture import Picture
from nestlab.engines import Engine, Sshd, View
from nestlab.engines.pve import node_containers
from nestlab.engines.pve.assignment import Layout
from nestlab.engines.pve.engine import PveEngine
from nestlab.engines.pve.guests import unanswering
from nestlab.engines.pve.hardware import Wire
from nestlab.engines.pve.high_availability import HighAvailability
from nestlab.engines.pve.node_ports import NodePorts
from nestlab.engines.pve.node_preparation import Ground
from nestlab.engines.pve.node_screens import NodeScreens
from nestlab.engines.pve.node_ssh import reached
from nestlab.engines.pve.power import REACHED
from nestlab.engines.pve.protocols import SSH, ContainerTemplates
from nestlab.engines.pve.resources import Found
from nestlab.engines.pve.segments import Segments
from nestlab.engines.qemu import identity
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import PROBE_NAME, Blueprint, Spec
from nestlab.lab.model import Segment
from nestlab.network.network_script import bridges
from nestlab.plan.steps import Boot, Observed, Other, Remove, Seen, Step, Stop, Update


class Bridges(Segments):
    """The segments of a node: its bridges, which are there as long as it is."""

    async def observe(self) -> frozenset[str]:
        return frozenset()

    async def reaching(self, segments: Iterable[Segment]) -> frozenset[str]:
        """The lab's own networks join the bridges of all nodes."""
        return frozenset(segment.name for segment in segments)

    async def remove(self, segments: Collection[str]) -> None:
        """They go with their node."""

    async def again(self, bridge: str, say: Say) -> bool:
        return False


@dataclass(kw_only=True)
class NodeEngine(PveEngine):
    """See `nestlab.engines.Engine`. `node`: the node as a host; its own name is the last of its path. `bare`: makes
    the engine of what runs on the node without Proxmox VE, the guest of a proof."""

    node: Host
    templates: ContainerTemplates
    bare: Engine
    ground: Ground = field(init=False)
    availability: HighAvailability = field(init=False)
    screens: NodeScreens = field(init=False)
    _renamed: tuple[Blueprint, Blueprint] | None = None

    def __post_init__(self) -> None:
        self._assemble(self.templates, Bridges, with_node=True)
        self.availability = HighAvailability(self.environment.api, self.guests)
        self.screens = NodeScreens(self.environment.api, self.node, self.name)
        self.ground = Ground(self.environment.api, self.node, self.name, self.environment.pve.pool)

    @property
    def name(self) -> str:
        """The node's own name, which is what its Proxmox VE calls it."""
        return self.node.path.rpartition("/")[2]

    async def observe(self) -> Observed:
        observed = await super().observe()
        others = tuple(Other(self.parent, each) for each in self.guests.others(self.name))
        machines = await self._watched(observed.machines)
        return replace(observed, machines=machines, links=frozenset(), images=frozenset(), others=others)

    async def glance(self) -> Mapping[str, Seen]:
        return await self._watched(await super().glance())

    async def _watched(self, machines: Mapping[str, Seen]) -> Mapping[str, Seen]:
        """With what high availability does: asked where nestlab put something under it."""
        marks = {path: found for path, found in self.guests.all_known().items() if path in machines}
        watched: frozenset[str] = frozenset()
        if any(found.mark.ha for found in marks.values()):
            watched = await self.availability.watched()
        ours = {path: found.mark.ha and found.guest.sid in watched for path, found in marks.items()}
        return MappingProxyType({path: replace(seen, ha=ours.get(path)) for path, seen in machines.items()})

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> None:
        if _is_probe(getattr(step, "machine", "")):
            await self.bare.perform(step, blueprint, say)
            return
        if not isinstance(step, Stop | Remove):  # what cannot be ended ends with the node
            await self.ground.ready(say)
        self._runner.slowness = self.availability.slowness = self.node.slowness
        if isinstance(step, Stop | Remove):
            for found in await self.guests.find(step.machine):
                await self.availability.end(found, say)
        if isinstance(step, Remove):
            for found in await self.guests.find(step.machine):
                await self.availability.leave(found.guest)
                await NodePorts(self.node, found.mark).drop()
        await super().perform(step, self._as_made(blueprint), say)
        if isinstance(step, Boot | Update):
            await self.settle(blueprint[step.machine], say)

    async def hand_over(self, path: str, arrival: str) -> None:
        """A machine that was moved to another node of the cluster is that one's from now on, as `arrival`."""
        found = await self.guests.one(path)
        await self.guests.note(found.guest, lambda mark: replace(mark, path=arrival))
        self.guests.forget(path)
        self.guests.forget(arrival)

    async def settle(self, spec: Spec, say: Say) -> None:
        """What runs is under high availability as the lab file says."""
        found = await self.guests.one(spec.path)
        if (spec.machine.ha or found.mark.ha) and await self.guests.runs(found.guest) != "stopped":
            await self.availability.settle(found, say, wanted=spec.machine.ha)

    def _as_made(self, blueprint: Blueprint) -> Blueprint:
        """With the name that the lab had when it was made. The same blueprint stays the same, for its layout."""
        if blueprint.lab == self.environment.lab:
            return blueprint
        if self._renamed is None or self._renamed[0] is not blueprint:
            self._renamed = (blueprint, replace(blueprint, lab=self.environment.lab))
        return self._renamed[1]

    async def host(self, path: str) -> Host:
        return await (self.bare.host(path) if _is_probe(path) else super().host(path))

    async def accel(self, path: str) -> Literal["kvm", "tcg"]:
        return await (self.bare.accel(path) if _is_probe(path) else super().accel(path))

    async def sshds(self) -> tuple[Sshd, ...]:
        """See `nestlab.engines.Listening`: at addresses that the node reaches, else through their agents."""
        running = [each for each in await self.guests.look() if each.guest.status == "running"]
        found = []
        for each in running:
            mark = each.mark
            if mark.addresses:
                found.append(Sshd(mark.path, SSH, mark.user, mark.addresses[0]))
            elif each.guest.kind == "qemu":
                found.append(Sshd(mark.path, SSH, mark.user, carried=True))
        return tuple(found)

    async def kill(self, path: str) -> bool:
        """See `nestlab.engines.Failing`. It is taken out of high availability, which would start it, until it boots."""
        found = await self.guests.one(path)
        if found.mark.ha:
            await self.availability.out(found.guest)
        return await super().kill(path)

    async def picture(self, path: str) -> Picture:
        """See `nestlab.engines.Showing`."""
        return await self.screens.picture(await self._screened(path), path)

    @asynccontextmanager
    async def viewed(self, path: str) -> AsyncIterator[View]:
        """See `nestlab.engines.Viewed`."""
        async with self.screens.viewed(await self._screened(path), path) as view:
            yield view

    @asynccontextmanager
    async def forwards(self, path: str) -> AsyncIterator[NodePorts]:
        """See `nestlab.engines.port_rules.Forwarding`."""
        yield NodePorts(self.node, (await self._running(path)).mark)

    async def close(self) -> None:
        await super().close()
        await self.bare.close()
        await self.environment.api.close()

    async def _images(self) -> frozenset[str]:
        """Nobody asks a node for them: they are the lab's own host's."""
        return frozenset()

    async def _connect(self, blueprint: Blueprint) -> dict[str, Wire]:
        return {segment: Wire(bridge) for segment, bridge in bridges(blueprint[self.parent]).items()}

    async def _decide(
        self, blueprint: Blueprint, wanted: Collection[str] | None, nodes_of: Collection[str] = ()
    ) -> Layout:
        """What is new is made on this node; what somebody moved to another one of its cluster stays there."""
        if not self.guests.all_known():
            await self.guests.look(exact=False)
        known = self.guests.all_known()

        def pinned(spec: Spec) -> Spec:
            if spec.parent != self.parent or spec.path in known:
                return spec
            return replace(spec, machine=replace(spec.machine, node=self.name))

        count = {self.name, *nodes_of, *(found.guest.node for found in known.values())}
        return await super()._decide(replace(blueprint, specs=tuple(map(pinned, blueprint.specs))), wanted, count)

    async def _boot(self, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        there = await self.guests.one(spec.path)
        if there.mark.ha and await self.guests.runs(there.guest) == "stopped":
            await self.availability.leave(there.guest)  # else it would only be asked to start it
        await super()._boot(spec, blueprint, say)
        found = await self.guests.one(spec.path)
        if found.guest.kind == "lxc":
            await self._introduced(found, spec, say)
            await self._let_in(found, say)

    async def _introduced(self, found: Found, spec: Spec, say: Say) -> None:
        """A container on this node knows who it is; on another one it knows since it was here."""
        if found.guest.node != self.name:
            return
        say("telling it who it is")
        await node_containers.introduce(self.node, found.guest.vmid, self._members(spec))
        await self.guests.note(found.guest, lambda mark: replace(mark, names=spec.names, told="", since=0))

    def _members(self, spec: Spec) -> Mapping[str, tuple[bytes, int]]:
        keys = self.environment.lab_keys
        authorized = keys.authorized_keys(spec.machine.ssh_keys)
        return identity.files(spec, host_key=keys.host_key(spec.path), authorized=authorized, management_mac=None)

    async def _let_in(self, found: Found, say: Say) -> None:
        """Until a container's sshd lets nestlab in. LabError when it ends, or does not within its time."""
        say("waiting for its ssh")
        path, guest = found.mark.path, found.guest
        host = await self.host(path)
        deadline = time.monotonic() + patience.allowed(REACHED, host.slowness)
        while True:
            try:
                await host.run(("true",), timeout=60)
                return
            except (Unreachable, Overdue) as error:
                where = f"{path} (CT {guest.vmid} on {guest.node})"
                if await self.guests.runs(guest) == "stopped":
                    hint = f"See why: nestlab exec {self.node.path} -- pct start {guest.vmid} --debug"
                    raise LabError(f"{where} stopped before it could be reached.", hint=hint) from error
                if time.monotonic() > deadline:
                    hint = f"nestlab exec {self.node.path} -- pct enter {guest.vmid}\n{patience.LONGER}"
                    raise Unreachable(f"{where} runs and is not reached: {error.what}", hint=hint) from error
            await asyncio.sleep(1)

    def _reach(self, found: Found) -> Host:
        mark = found.mark
        if not mark.addresses and found.guest.kind == "lxc":
            raise unanswering(found)
        if not mark.addresses:
            return super()._reach(found)
        host = reached(self.node, self.environment.lab_keys, mark)
        host.slowness = patience.inside(self.node.slowness, "kvm" if mark.kvm else "tcg")
        return host


def _is_probe(path: str) -> bool:
    return path.rpartition("/")[2] == PROBE_NAME
