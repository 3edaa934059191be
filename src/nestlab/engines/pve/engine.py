"""The engine for a Proxmox VE: a lab's outermost machines are its guests, by its API alone.

What it makes is marked (`tags.py`), and the cluster is asked each time what there is; nothing without the lab's mark
is ever changed or removed. What is nested in a machine is the embedded engine's, through the machine as a host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from socket import socket
from types import MappingProxyType
from typing import Any, Literal

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.engines import Sshd
from nestlab.engines.pve import assignment, hardware, nodes, resources, written
from nestlab.engines.pve import rename as renaming
from nestlab.engines.pve.assignment import Basis, Layout, Outlook
from nestlab.engines.pve.create import Maker, Order
from nestlab.engines.pve.environment import Environment, environment
from nestlab.engines.pve.failing import Failing
from nestlab.engines.pve.full_copy import Copies
from nestlab.engines.pve.guests import Guests, unanswering
from nestlab.engines.pve.migration import Migration
from nestlab.engines.pve.power import Runner, told
from nestlab.engines.pve.protocols import SSH, ContainerTemplates, Door
from nestlab.engines.pve.readiness import Outside
from nestlab.engines.pve.remembered import Memory
from nestlab.engines.pve.resources import Found
from nestlab.engines.pve.screens import Screens
from nestlab.engines.pve.segments import Segments
from nestlab.engines.pve.snapshots import Snapshots
from nestlab.engines.pve.tags import LabNames
from nestlab.engines.qemu import identity
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.plan import states
from nestlab.plan.steps import (
    Boot,
    Build,
    Connect,
    Create,
    Discard,
    Disconnect,
    Introduce,
    Observed,
    Remove,
    Seen,
    Step,
    Stop,
    Update,
    Written,
)

FINDS = 60.0
"""Nominal seconds in which a machine finds a disk that it was given."""

__all__ = ["Environment", "Outlook", "PveEngine", "environment"]


@dataclass
class PveEngine(Screens, Failing, Outside):
    """See `nestlab.engines.Engine`. It does not close its `Api`, which other labs may use."""

    environment: Environment
    guests: Guests = field(init=False)
    snapshots: Snapshots = field(init=False)
    migration: Migration = field(init=False)
    _segments: Segments = field(init=False)
    _maker: Maker = field(init=False)
    _runner: Runner = field(init=False)
    _hosts: dict[tuple[str, int, str], Host] = field(default_factory=dict)
    _layouts: dict[int, Layout] = field(default_factory=dict)
    _deciding: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._assemble()

    def _assemble(
        self,
        containers: ContainerTemplates | None = None,
        segments: type[Segments] = Segments,
        *,
        with_node: bool = False,
    ) -> None:
        """`containers`: what those are made from, where not from templates of the user's. `with_node`: see `Runner`."""
        environment = self.environment
        memory = Memory(environment.memory)
        self.guests = Guests(
            environment.api, environment.names or LabNames(environment.lab), memory, environment.pve.pool
        )
        self.snapshots = Snapshots(environment.api, self.guests)
        self._segments = segments(environment.api, environment.pve, environment.lab, memory)
        self._maker = Maker(
            environment.api, environment.pve, environment.lab_keys, environment.stock, self.guests, containers
        )
        self._runner = Runner(environment.api, self.guests, self._maker, self._segments, with_node=with_node)
        copies = Copies(environment.api, environment.pve.pool, self.guests, self._runner.remove)
        self.migration = Migration(environment.api, self.guests, copies)

    @property
    def parent(self) -> str:
        """What its machines are right inside of; "": they are on the lab's own level."""
        return self.guests.names.parent

    async def observe(self) -> Observed:
        found, links, images = await asyncio.gather(self.guests.look(), self._segments.observe(), self._images())
        drifts = await asyncio.gather(*map(self.guests.drift, found))
        pairs = zip(found, drifts, strict=True)
        machines = {each.mark.path: resources.seen(each, time.time(), drift) for each, drift in pairs}
        bridged = {name for each in found if each.guest.status == "running" for name in each.mark.bridged}
        return Observed(MappingProxyType(machines), links | bridged, images)

    async def glance(self) -> Mapping[str, Seen]:
        """The machines, for `nestlab status`: one request as a rule, and one more for a node where something changed
        within the last seconds, and for a machine that somebody gave another name, memory or number of CPUs."""
        found = await self.guests.look(exact=False)
        drifts = await asyncio.gather(*(self.guests.drift(each, exact=False) for each in found))
        pairs = zip(found, drifts, strict=True)
        return MappingProxyType({each.mark.path: resources.seen(each, time.time(), drift) for each, drift in pairs})

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> None:
        match step:
            case Build(image=key):
                await self.environment.stock.build(key, blueprint.images[key], say, await self._needs(key, blueprint))
            case Connect():
                await self._connect(blueprint)
            case Disconnect(segment=segment):
                await self._segments.remove({segment})
            case Create(machine=path) | Update(machine=path):
                await self._create(blueprint[path], blueprint, say)
            case Boot(machine=path):
                await self._boot(blueprint[path], blueprint, say)
            case Introduce(machine=path):
                host = await self.host(path) if blueprint[path].machine.by_ssh else None
                await self._runner.introduce(await self.guests.one(path), blueprint[path], host)
            case Stop(machine=path):
                await self._forget(path)
                await self._runner.stop(await self.guests.one(path), say)
            case Remove(machine=path):
                await self._remove(path, say)
            case Discard(machine=path, disks=names):
                await self._maker.discard(await self.guests.one(path), names, say)
            case _:
                raise TypeError(f"the engine for a Proxmox VE knows no {type(step).__name__}")

    async def host(self, path: str) -> Host:
        known = self.guests.known(path)
        if known is None or _key(known) not in self._hosts:
            known = await self._running(path)
        return self._host(known)

    async def door(self, path: str) -> Door:
        """The guest agent of a running machine. Unreachable when it does not run, or is a container."""
        found = await self._running(path)
        if found.guest.kind == "lxc":
            raise unanswering(found)
        return self._door(found)

    async def sshds(self) -> tuple[Sshd, ...]:
        """See `nestlab.engines.Listening`. At an address of the machine's, if the lab names a bridge that leads there
        and the address takes connections; else through its agent."""
        running = [each for each in await self.guests.look() if each.guest.status == "running"]
        return tuple(await asyncio.gather(*(self._sshd(each) for each in running if each.guest.kind == "qemu")))

    @asynccontextmanager
    async def carried(self, path: str) -> AsyncIterator[socket]:
        """See `nestlab.engines.Carrying`."""
        stream = await (await self.door(path)).stream(SSH)
        try:
            yield stream.socket
        finally:
            await stream.close()
        if stream.trouble:
            raise Unreachable(stream.trouble, hint="`nestlab status` tells whether it runs.")

    async def accel(self, path: str) -> Literal["kvm", "tcg"]:
        """Of its running configuration: PVE starts nothing with `kvm: 1` where there is no KVM."""
        found = await self._running(path)
        config = await self.environment.api.get(f"{found.guest.base}/config", {"current": True})
        return "tcg" if str(config.get("kvm", 1)) == "0" else "kvm"

    async def close(self) -> None:
        hosts, self._hosts = list(self._hosts.values()), {}
        await asyncio.gather(*(host.close() for host in hosts))

    async def written(self, paths: Sequence[str]) -> Mapping[str, Written]:
        """See `nestlab.engines.Weighing`."""
        known = self.guests.all_known()
        return await written.written(self.guests, [known[path] for path in paths if path in known])

    async def rename(self, lab: str, intend: Callable[[Collection[int]], None]) -> None:
        """See `nestlab.engines.Renamable`."""
        await renaming.rename(self.guests, lab, self.environment.pve.pool, intend)

    async def node_of(self, path: str) -> str:
        """The node that a machine is on. LabError if it is not there."""
        found = self.guests.known(path)
        return (found or await self.guests.one(path)).guest.node

    async def outlook(self, blueprint: Blueprint, paths: Collection[str]) -> tuple[Outlook, ...]:
        """Where machines of the lab's own level are or will be, with which CPU, and why."""
        decided = await self._layout(blueprint)
        known = self.guests.all_known()
        return tuple(
            decided.outlook(spec, known.get(spec.path))
            for spec in blueprint.children(self.parent)
            if spec.path in paths
        )

    async def check(self, blueprint: Blueprint, wanted: Collection[str]) -> tuple[str, ...]:
        """Notes about what is tight, or emulated. LabError, before anything is made, when what is to run does not fit
        or cannot be had: with every number and every mistake."""
        refused = hardware.refused(blueprint, self.environment.pve)
        if refused:
            raise LabError("\n".join(refused), hint="Correct the lab file.")
        decided = await self._layout(blueprint, wanted)
        await assignment.check_bridges(self.environment.api, self.environment.pve, blueprint, decided)
        return (*decided.notes(blueprint, wanted), *await assignment.overlaps(self.environment.api, blueprint, decided))

    async def routes(self) -> tuple[str, ...]:
        """The networks of the nodes, which no segment should have: see `addresses.lease`."""
        return await assignment.routes(self.environment.api, self.environment.pve)

    async def platform(self) -> Basis:
        """The nodes that the lab runs on: whether they can nest (None: unknown), and a line that says so."""
        rooms = await nodes.rooms(self.environment.api, self.environment.pve)
        version = await self.environment.api.get("/version")
        used = {found.guest.node for found in self.guests.all_known().values()}
        allowed, where = self.environment.pve.nodes, self.environment.api.where
        return assignment.platform(rooms, used, allowed, str(version.get("version", "")), where)

    async def watched(self) -> Mapping[str, tuple[str, str]]:
        """Machines that high availability manages, by path: its word for them (`vm:100`), and their state there."""
        await self.guests.look(exact=False)
        found = self.guests.all_known().items()
        return {path: (each.guest.sid, each.guest.ha) for path, each in found if each.guest.ha}

    async def parted(self, blueprint: Blueprint, path: str, target: str) -> tuple[str, ...]:
        """The segments that a machine would lose on the node `target`, a line each."""
        reaching = await self._segments.reaching(assignment.outer_segments(blueprint))
        there = {found.mark.path: found.guest.node for found in self.guests.all_known().values()}
        return assignment.parted(blueprint, path, target, there, reaching)

    async def cpus(self) -> int:
        """Of all nodes that may be used and answer; at least 2."""
        rows: Sequence[dict[str, Any]] = await self.environment.api.get("/cluster/resources", {"type": "node"})
        return assignment.cpus(resources.rooms(rows), self.environment.pve)

    async def _images(self) -> frozenset[str]:
        """None where no storage can be asked for them: what then needs one says why."""
        try:
            return await self.environment.stock.present()
        except Unreachable:
            raise
        except LabError:
            return frozenset()

    async def _needs(self, key: str, blueprint: Blueprint) -> str:
        """The node of the first machine that is made from an image, or handed it; "" where none is."""
        specs = [spec for spec in blueprint.children(self.parent) if key in spec.images]
        return (await self._layout(blueprint)).spots[specs[0].path].node if specs else ""

    async def _connect(self, blueprint: Blueprint) -> dict[str, hardware.Wire]:
        outer = blueprint.children("")
        used = {nic.segment for spec in outer for nic in spec.nics}
        tagged = {nic.segment for spec in outer for nic in spec.nics if nic.port}
        return await self._segments.ensure(blueprint.segments, used, tagged)

    async def _create(self, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        """What is there keeps its disk, which grows where it is to be larger; else what runs is not touched."""
        there = await self.guests.find(spec.path)
        found = there[0] if there and not there[0].mark.making else None
        if found is not None and found.mark.digest == spec.digest:
            await self._as_defined(found, spec, blueprint, say)
            return
        if found is None and there:
            await self._remove(spec.path, say)
        refused = hardware.refused(replace(blueprint, specs=(spec,)), self.environment.pve)
        if refused:
            raise LabError("\n".join(refused), hint="Correct the lab file.")
        decided = await self._layout(blueprint)
        wires = await self._connect(blueprint)
        order = Order(spec, blueprint, decided.spots[spec.path], decided.cpu(spec), wires)
        if found is None:
            await self._maker.make(order, say)
        elif found.guest.kind == "qemu" and await self.guests.runs(found.guest) != "stopped":
            raise LabError(f"{spec.path} runs with another definition.", hint="Stop it, then try again.")
        else:
            await self._maker.update(order, found, say)

    async def _as_defined(self, found: Found, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        await self._maker.grow(found, spec, say)
        if await self._maker.settle(found, spec, blueprint, say):
            found = await self.guests.one(spec.path)
            if spec.machine.image.own and spec.machine.by_ssh and await self.guests.runs(found.guest) == "running":
                script = identity.disks_script(spec)
                await (await self.host(spec.path)).run(("sh", "-c", script), check=False, timeout=FINDS)
        if found.mark.names != spec.names and await self.guests.runs(found.guest) == "stopped":
            await self.guests.note(found.guest, lambda mark: told(mark, spec.names))

    async def _boot(self, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        await self._forget(spec.path)
        found = await self.guests.one(spec.path)
        found = await self._maker.rewired(found, spec, await self._connect(blueprint), say)
        found = await self._runner.boot(found, spec, blueprint, say)
        if found.guest.kind == "lxc":
            return  # nothing asks a container by the API; PVE says that it runs
        own = blueprint.images[spec.image].foreign
        if not spec.machine.by_ssh:
            await self.knocking(spec, found).wait(say)
        else:
            await self._runner.reach(found, self._door(found), lambda: self.host(spec.path), say, own=own)
        await self._runner.reached(found)

    async def _remove(self, path: str, say: Say) -> None:
        await self._forget(path)
        for found in await self.guests.find(path):
            await self._runner.remove(found, say)
        self.guests.forget(path)

    async def _running(self, path: str) -> Found:
        found = next(iter(await self.guests.find(path)), None)
        state = await self.guests.runs(found.guest) if found is not None else "absent"
        if found is None or state != "running":
            raise Unreachable(f"{path} does not run: {states.in_words(state)}.", hint="`nestlab up` brings it up.")
        return found

    async def _sshd(self, found: Found) -> Sshd:
        mark, direct = found.mark, self.environment.pve.bridge is not None
        for address in await self._door(found).open(SSH) if direct else ():
            return Sshd(mark.path, SSH, mark.user, address)
        return Sshd(mark.path, SSH, mark.user, carried=True)

    def _door(self, found: Found) -> Door:
        return self.environment.door(found.guest.node, found.guest.vmid, found.mark.path)

    def _host(self, found: Found) -> Host:
        key = _key(found)
        if key not in self._hosts:
            self._hosts[key] = self._reach(found)
        return self._hosts[key]

    def _reach(self, found: Found) -> Host:
        if found.guest.kind == "lxc":
            raise unanswering(found)
        direct = self.environment.pve.bridge is not None
        guest, mark = found.guest, found.mark
        host = self.environment.host(guest.node, guest.vmid, mark.path, mark.user, direct)
        host.slowness = patience.inside(1.0, "kvm" if mark.kvm else "tcg")
        return host

    async def _layout(self, blueprint: Blueprint, wanted: Collection[str] | None = None) -> Layout:
        """Decided once for a blueprint, so that machines made at the same time count each other."""
        async with self._deciding:
            known = self._layouts.get(id(blueprint))
            if known is None or wanted is not None:
                known = self._layouts[id(blueprint)] = await self._decide(blueprint, wanted)
            return known

    async def _decide(
        self, blueprint: Blueprint, wanted: Collection[str] | None, nodes_of: Collection[str] = ()
    ) -> Layout:
        """`nodes_of`: the only nodes that count, where not those that the lab names."""
        environment = self.environment
        pve = replace(environment.pve, nodes=tuple(sorted(nodes_of))) if nodes_of else environment.pve
        rows: Sequence[dict[str, Any]] = await environment.api.get("/cluster/resources")
        assignment.check_pool(rows, pve, environment.api.where)
        rooms, reaching = await asyncio.gather(
            nodes.rooms(environment.api, pve, rows),
            self._segments.reaching(assignment.outer_segments(blueprint)),
        )
        if not self.guests.all_known():
            await self.guests.look(exact=False)
        there = {path: resources.at(found) for path, found in self.guests.all_known().items()}
        return assignment.decide(blueprint, pve, rooms, there, wanted, reaching, self.parent)

    async def _forget(self, path: str) -> None:
        for key in [key for key in self._hosts if key[0] == path]:
            await self._hosts.pop(key).close()


def _key(found: Found) -> tuple[str, int, str]:
    return found.mark.path, found.guest.vmid, found.guest.node
