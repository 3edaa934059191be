"""The embedded engine: QEMU processes on a host, at any level, with no daemon, no root and no libvirt.

One engine serves one lab on one host. What it makes is marked with the lab's name and the machine's path in QEMU's
command line; what a machine was made from stands in `made` in its directory.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import ClassVar

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.engines import Sshd
from nestlab.engines.names_and_keys import introduce
from nestlab.engines.qemu import readiness, scripts, shutdown, step_time, vlan_ports
from nestlab.engines.qemu.accel import Choice, choose, contained, presume
from nestlab.engines.qemu.argv import name_of, plugs
from nestlab.engines.qemu.boot import cancelled, start
from nestlab.engines.qemu.booting import Boot
from nestlab.engines.qemu.by_monitor import ByMonitor
from nestlab.engines.qemu.cargo import Cargo
from nestlab.engines.qemu.create import Maker
from nestlab.engines.qemu.environment import Environment, Programs, Wires
from nestlab.engines.qemu.live_disks import LiveDisks
from nestlab.engines.qemu.machine_files import Below
from nestlab.engines.qemu.observed import Look, Report
from nestlab.engines.qemu.observer import Observer, Said
from nestlab.engines.qemu.slowness import Slowness
from nestlab.engines.qemu.starting import Start, composed
from nestlab.hosts.host import Host, called
from nestlab.hosts.ssh import SshHost
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.faults import cut_off
from nestlab.plan import states
from nestlab.plan.room import Room
from nestlab.plan.steps import Boot as BootStep
from nestlab.plan.steps import (
    Build,
    Clear,
    Connect,
    Create,
    Discard,
    Disconnect,
    Install,
    Introduce,
    Observed,
    Remove,
    Step,
    Stop,
    Update,
    Written,
)

__all__ = ["Environment", "Programs", "QemuEngine", "Wires"]

KNOCK = 3.0
"""Nominal seconds in which a machine that is up answers ssh."""

DOUBT = 30.0
"""Nominal seconds after which a machine that still is not up makes nestlab ask whether KVM was rightly presumed."""

GRACE = 60.0
"""Nominal seconds that a machine gets to shut down by itself."""


@dataclass
class QemuEngine(ByMonitor):
    """See `nestlab.engines.Engine`."""

    live: ClassVar[bool] = True
    """Whether its machines may go to another host while they run, and others come."""

    parent: Host
    environment: Environment
    _hosts: dict[tuple[str, int], SshHost] = field(default_factory=dict)
    _stock: Cargo = field(init=False)
    _maker: Maker = field(init=False)
    _observer: Observer = field(init=False)
    _slow: Slowness = field(init=False)

    def __post_init__(self) -> None:
        self._stock = Cargo(self.parent, self.environment.library, self.environment.uploads)
        self._maker = Maker(self.parent, self.environment, self._stock)
        self._observer = Observer(self.parent, self.environment)
        self._slow = Slowness(self.parent, self.environment.speeds)

    async def observe(self) -> Observed:
        return await self._observed(await self._observer.report())

    async def observe_and_ask(self, script: str, words: Sequence[str]) -> tuple[Observed, str]:
        """See `nestlab.engines.Asking`."""
        asked = {path: asyncio.ensure_future(self._observer.said(path)) for path, _ in self._hosts}
        try:
            found, said = await self._observer.report_and_ask(script, words)
            return await self._observed(found, asked), said
        finally:
            for each in asked.values():
                each.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)

    async def _observed(self, found: Report, asked: Mapping[str, Future[Said]] | None = None) -> Observed:
        """`asked`: machines whose QEMU is being asked already."""
        asked = asked or {}
        looks = await asyncio.gather(
            *(self._observer.state(each, self._answers, asked.get(each.seen.path)) for each in found.machines)
        )
        wires = self.environment.wires
        links = await wires.observe() if wires else frozenset[str]()
        served = await wires.served() if wires else {}
        images = self.environment.library.present() if self.parent.level == 0 else frozenset[str]()
        seen = {each.path: each for each in looks}
        own = self.environment.own_qemu
        lacking = frozenset({"qemu"}) if own is not None and await own.lacking(self.parent) else frozenset[str]()
        return Observed(MappingProxyType(seen), links, images, lacking, found.half_made, served)

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        async with step_time.in_time(self.environment.library, self.parent, step, blueprint):
            return await self._perform(step, blueprint, say)

    async def _perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        match step:
            case Build(image=key):
                await self.environment.library.build(key, blueprint.images[key], say)
            case Install():
                if self.environment.own_qemu is not None:
                    await self.environment.own_qemu.install(say)
            case Connect(segment=segment):
                await self._connect(blueprint)
                from nestlab.engines.qemu import netboot  # few segments serve anything

                await netboot.serve(segment, blueprint, self.environment, self.parent, say)
            case Disconnect(segment=segment):
                if self.environment.wires:
                    await self.environment.wires.remove(segment)
            case Create(machine=path) | Update(machine=path):
                await self._create(blueprint[path], blueprint, say, again=isinstance(step, Update))
            case BootStep(machine=path, keep=keep):
                await self._boot(blueprint[path], blueprint, say, keep=keep)
            case Introduce(machine=path):
                await self._introduce(blueprint[path], blueprint)
            case Stop(machine=path):
                return await self._stop(path, say)
            case Remove(machine=path):
                await self._remove(path, self.environment.place.of(path).root)
            case Discard(machine=path, disks=names):
                there = {each.seen.path: each.seen.state for each in (await self._observer.report()).machines}
                if path in there:
                    await self._disks(path).discard(names, say, runs=there[path] in ("running", "paused"))
                    if (spec := blueprint.by_path().get(path)) is not None and not spec.disks:
                        await self._write_papers(spec, blueprint, ("identity", "seed.iso"))  # it looks for none
            case Clear(rest=rest):
                await self._remove("", self.environment.place.folder(rest.folder))
            case _:
                raise TypeError(f"the QEMU engine knows no {type(step).__name__}")
        return None

    async def _connect(self, blueprint: Blueprint) -> None:
        if self.environment.wires:
            names = (segment.name for segment in blueprint.segments)
            await self.environment.wires.ensure(names, self.parent, vlan_ports.vlans_of(blueprint))
            if any(each.kind == "impair" for each in self.environment.faults()):
                await self.impair(blueprint)

    async def host(self, path: str) -> SshHost:
        host = next((each for (known, _), each in self._hosts.items() if known == path), None)
        if host is None:
            found = next((each for each in (await self._observer.report()).machines if each.seen.path == path), None)
            if found is None or found.seen.state != "running":
                said = states.in_words(found.seen.state if found else "absent")
                raise Unreachable(f"{path} does not run: {said}.", hint="`nestlab up` brings it up.")
            host = self._reached(found)
            if host is None:
                hint = f"`nestlab restart {path}` starts it again."
                raise Unreachable(f"{path} runs, and where its sshd listens is not known.", hint=hint)
        return host

    async def sshds(self) -> tuple[Sshd, ...]:
        """See `nestlab.engines.Listening`."""
        found = [each for each in (await self._observer.report()).machines if each.seen.state == "running"]
        return tuple(Sshd(each.seen.path, each.boot.port, each.boot.user) for each in found if each.boot.port)

    async def choice(self, spec: Spec) -> Choice:
        """The accelerator of a machine on this host, and why."""
        where = called(self.parent)
        if spec.machine.container:
            return Choice("kvm", contained(where))  # as fast as that
        presumed = presume(self._maker.glance, spec.machine, where) if self._maker.glance else None
        if spec.machine.hardware.uefi or spec.machine.hardware.tpm:  # what its hypervisor is decides, too
            presumed = None
        return presumed or choose(await self.parent.facts(), spec.machine, spec.path, where)

    async def close(self) -> None:
        hosts, self._hosts = list(self._hosts.values()), {}
        await self._maker.close()
        await asyncio.gather(*(host.close() for host in hosts))

    async def _answers(self, found: Look) -> bool:
        """Whether a machine whose console does not tell answers ssh by now."""
        path = found.seen.path
        if found.boot.ready.by != "ssh":
            return await readiness.came_up(self._at(path, found.boot.ready))
        host = self._reached(found)
        if host is None:
            return False
        try:
            async with asyncio.timeout(patience.allowed(KNOCK, self.parent.slowness)):
                await host.connect()
                await self.parent.write(self.environment.place.of(path).answered, b"")
        except (LabError, OSError, TimeoutError):
            return False
        return True

    def _reached(self, found: Look) -> SshHost | None:
        """A machine that runs as a host; None where it is not known how to reach it."""
        boot = found.boot
        return self._reach(found.seen.path, boot.port, boot.user, boot.accel or "") if boot.port else None

    def _reach(self, path: str, port: int, user: str, accel: str) -> SshHost:
        known = self._hosts.get((path, port))
        if known is None:
            host = self.environment.lab_keys.host(path, self.parent, port, user)
            known = self._hosts[path, port] = self._slow.tell(host, accel)
        return known

    async def _boot(self, spec: Spec, blueprint: Blueprint, say: Say, *, keep: bool) -> None:
        """Start it and wait for it. Where KVM was only presumed and the machine does not come up, or takes its time,
        its host is asked what it can do, and what cannot run under KVM starts again, emulated."""
        choice = await self.choice(spec)
        starting = asyncio.ensure_future(self._start(spec, blueprint, choice, say, keep=keep))
        measuring = asyncio.ensure_future(self._slow.measure())
        try:
            if choice.presumed:
                await asyncio.wait({starting}, timeout=patience.allowed(DOUBT, self.parent.slowness))
                if (not starting.done() or starting.exception()) and await self._has_no_kvm():
                    await cancelled(starting)
                    await self._kill(spec.path)
                    self._maker.glance = None
                    choice = await self.choice(spec)
                    say(f"starting again: {choice.why}")
                    starting = asyncio.ensure_future(self._start(spec, blueprint, choice, say, keep=keep))
            await starting
        finally:
            await cancelled(measuring)
            await cancelled(starting)

    async def _has_no_kvm(self) -> bool:
        """Whether the host says so. One that is too busy to tell may have it."""
        try:
            return not (await self.parent.facts()).hardware
        except Overdue:
            return False

    async def _start(self, spec: Spec, blueprint: Blueprint, choice: Choice, say: Say, *, keep: bool) -> None:
        begun = await composed(self._maker, spec, blueprint, choice, say, keep=keep)
        how = "" if spec.machine.container else " under KVM" if choice.accel == "kvm" else " under emulation"
        say(f"starting{how}")
        await self._begin(begun, spec, blueprint, choice, say)

    async def _begin(
        self, begun: Start, spec: Spec, blueprint: Blueprint, choice: Choice, say: Say, *, incoming: bool = False
    ) -> None:
        await self._forget(spec.path)
        opening = self._maker.opening
        opening = opening if opening is not None and opening.path == spec.path else None
        ports = await self._ports(spec, blueprint)
        cut = frozenset() if incoming else cut_off(self.environment.faults(), spec.path)
        # A container's are down from their start, and are not there yet when its monitor answers.
        links = partial(self.take_down, spec, cut) if cut and not spec.machine.container else None
        plan = replace(begun.launch, extra=(*begun.launch.extra, "-S"), cut=cut) if cut else begun.launch
        keep = begun.launch.keep
        boot = Boot(self.parent, plan, begun.words, begun.env, begun.user, begun.ready, opening, keep)
        boot = replace(boot, plugs=plugs(plan), ports=ports, links=links, incoming=incoming)
        boot = boot if spec.machine.container else self._as_run(boot)
        await start(boot, lambda port: self._reach(spec.path, port, begun.user, choice.accel), say)
        if boot.asked or incoming:
            await self.parent.write(begun.launch.paths.answered, b"")
        self._observer.up.add(spec.path)

    def _as_run(self, boot: Boot) -> Boot:
        """A start of a virtual machine, as it is done here."""
        return boot

    async def receive(
        self, spec: Spec, blueprint: Blueprint, room: Room, say: Say, *, generation: str = "", made: bool = False
    ) -> None:
        """Make a machine that comes from elsewhere, unless it is `made` here, where it has `room`, and start its QEMU,
        which waits for what it was there. `generation`: its VM generation ID, if that is to be another."""
        async with step_time.in_time(self.environment.library, self.parent, BootStep("", spec.path), blueprint):
            if not made:
                await self._create(spec, blueprint, say, again=False)
            choice = await self.choice(spec)
            begun = await self._waiting(spec, blueprint, choice, room, say)
            begun = replace(begun, launch=replace(begun.launch, generation=generation or begun.launch.generation))
            await self._begin(begun, spec, blueprint, choice, say, incoming=True)

    async def words(self, spec: Spec, blueprint: Blueprint, room: Room, say: Say) -> tuple[str, list[str]]:
        """The version and the command line of the QEMU that `receive` would start."""
        begun = await self._waiting(spec, blueprint, await self.choice(spec), room, say)
        return ".".join(map(str, begun.launch.version)), begun.words(begun.launch)

    async def _waiting(self, spec: Spec, blueprint: Blueprint, choice: Choice, room: Room, say: Say) -> Start:
        begun = await composed(self._maker, spec, blueprint, choice, say)
        return replace(begun, launch=replace(begun.launch, extra=("-incoming", "defer", "-S"), room=room))

    async def lives(self, path: str) -> bool:
        """Whether a machine has a process here."""
        machines = (await self._observer.report()).machines
        return any(each.seen.path == path and each.seen.pid is not None for each in machines)

    async def below(self, spec: Spec, blueprint: Blueprint, say: Say) -> tuple[Below, ...]:
        """What the disks of a machine are layers over on this host."""
        return await self._maker.below(spec, blueprint, say)

    async def _ports(self, spec: Spec, blueprint: Blueprint) -> Callable[[], Awaitable[None]] | None:
        """What sets up the ports of a machine once it is started. Those of the switch are there before."""
        if not spec.parent:
            if {nic.segment for nic in spec.nics} & vlan_ports.vlans_of(blueprint).keys():
                await self._connect(blueprint)
            return None
        outer, directory = blueprint.by_path().get(spec.parent), self.environment.place.of(spec.path).root
        if outer is None:  # the tiny guest of a proof is in no lab file, and on no segment
            return None
        if spec.machine.container:
            await vlan_ports.prepare(self.parent, spec, outer)
        words = vlan_ports.words(spec, outer)
        return (lambda: vlan_ports.set_up(self.parent, spec, outer, directory, words)) if words else None

    async def _create(self, spec: Spec, blueprint: Blueprint, say: Say, *, again: bool) -> None:
        state, size = await self._maker.create(spec, blueprint, say, again=again)
        if state not in ("running", "live"):
            return
        size = size if state == "live" else 0
        disks = self._disks(spec.path)
        drives = await disks.settle(spec, blueprint, size, say) or (again and bool(spec.disks))
        sizes = again and await self._sizes(spec.path).settle(spec, say)
        if drives or sizes:
            await self._write_papers(spec, blueprint)
        if drives:
            await disks.tell(spec, lambda: self.host(spec.path), grown=bool(size))

    def _disks(self, path: str) -> LiveDisks:
        return LiveDisks(self.parent, self._maker, path, lambda: self._monitor(path))

    async def _introduce(self, spec: Spec, blueprint: Blueprint) -> None:
        """New names, for the running machine, if nestlab logs in to it, and for its next boot."""
        if spec.machine.by_ssh:
            await introduce(await self.host(spec.path), spec)
        await self._write_papers(spec, blueprint)

    async def _write_papers(self, spec: Spec, blueprint: Blueprint, only: Sequence[str] = ()) -> None:
        root = self.environment.place.of(spec.path).root
        papers = self._maker.papers(spec, blueprint)
        papers["made"] = papers.pop("made.new")
        papers = {name: paper for name, paper in papers.items() if not only or name in only}
        await self.parent.write_many({f"{root}/{name}": paper for name, paper in papers.items()})

    async def written(self, paths: Sequence[str]) -> Mapping[str, Written]:
        """See `nestlab.engines.Weighing`."""
        return await self._observer.written(paths)

    async def _stop(self, path: str, say: Say) -> str | None:
        paths, name = self.environment.place.of(path), name_of(self.environment.lab, path)
        asked = await shutdown.ask_to_end(self.parent, path, paths, lambda: self.host(path), self._monitor)
        grace = round(5 * patience.allowed(GRACE, patience.inside(self.parent.slowness, "kvm"))) if asked else 0
        say("shutting down" if asked else "ending it: it does not answer")
        script = scripts.on_host(scripts.STOP, self.parent.level)
        ended = await self.parent.run(("sh", "-c", script, "stop", name, paths.root, str(grace), "asked"))
        await self._forget(path)
        return scripts.forced(ended.text, grace / 5)

    async def _kill(self, path: str) -> None:
        root, name = self.environment.place.of(path).root, name_of(self.environment.lab, path)
        await self.parent.run(("sh", "-c", scripts.STOP, "stop", name, root, "0", "crash"))
        await self._forget(path)

    async def _remove(self, path: str, root: str) -> None:
        await self.parent.run(("sh", "-c", scripts.REMOVE, "remove", name_of(self.environment.lab, path), root))
        await self._forget(path)

    async def _forget(self, path: str) -> None:
        self._observer.up.discard(path)
        for key in [key for key in self._hosts if key[0] == path]:
            await self._hosts.pop(key).close()
