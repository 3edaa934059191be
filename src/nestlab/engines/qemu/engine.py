"""The embedded engine: QEMU processes on a host, at any level, with no daemon, no root and no libvirt.

One engine serves one lab on one host. What it makes is marked with the lab's name and the machine's path in QEMU's
command line; what a machine was made from stands in `made` in its directory.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.engines import Sshd
from nestlab.engines.disk_hotplug import Attached
from nestlab.engines.names_and_keys import introduce
from nestlab.engines.qemu import attached_disk, launch, observed, scripts, shutdown
from nestlab.engines.qemu.accel import Accelerator, Choice, choose, presume
from nestlab.engines.qemu.argv import Launch, argv, name_of
from nestlab.engines.qemu.boot import Boot, cancelled, start
from nestlab.engines.qemu.cargo import Cargo
from nestlab.engines.qemu.create import Maker
from nestlab.engines.qemu.environment import Environment, Programs, Wires
from nestlab.home.paths import short_id
from nestlab.hosts import speed
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.hosts.ssh import SshHost
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.plan.steps import Boot as BootStep
from nestlab.plan.steps import (
    Build,
    Connect,
    Create,
    Disconnect,
    Install,
    Introduce,
    Observed,
    Remove,
    Seen,
    Step,
    Stop,
    Update,
)

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

__all__ = ["Environment", "Programs", "QemuEngine", "Wires"]

Said = tuple[str, bool]
"""What a QEMU says of itself: its state, and whether it runs on KVM."""

ROOT_DRIVE = "d0"
"""A machine's own disk to QEMU: the first that `argv` gives it."""

KNOCK = 3.0
"""Nominal seconds in which a machine that is up answers ssh."""

DOUBT = 30.0
"""Nominal seconds after which a machine that still is not up makes nestlab ask whether KVM was rightly presumed."""

GRACE = 60.0
"""Nominal seconds that a machine gets to shut down by itself."""

MEASURED = 5.0
"""Seconds after a machine's start until its host is measured: most are up by then, and none is kept waiting."""


@dataclass
class QemuEngine:
    """See `nestlab.engines.Engine`."""

    parent: Host
    environment: Environment
    _hosts: dict[tuple[str, int], SshHost] = field(default_factory=dict)
    _stock: Cargo = field(init=False)
    _maker: Maker = field(init=False)
    _measuring: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._stock = Cargo(self.parent, self.environment.library)
        self._maker = Maker(self.parent, self.environment, self._stock)
        known = self.environment.speeds.of(self.parent.path)
        if known is not None:
            self.parent.slowness = known.slowness

    async def observe(self) -> Observed:
        return await self._observed(await self._look())

    async def observe_and_ask(self, script: str, words: Sequence[str]) -> tuple[Observed, str]:
        """See `nestlab.engines.Asking`."""
        both = scripts.together(self._looking(), (script, words))
        asked = {path: asyncio.ensure_future(self._said(path)) for path, _ in self._hosts}
        try:
            result = await self.parent.run(both)
            looked, said = scripts.apart(result.text)
            found = observed.parse(looked, now=time.time(), parent=self.parent.path)
            return await self._observed(found, asked), said
        finally:
            for each in asked.values():
                each.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)

    async def _observed(
        self, found: Sequence[observed.Look], asked: Mapping[str, Future[Said]] | None = None
    ) -> Observed:
        """`asked`: machines whose QEMU is being asked already."""
        looks = await asyncio.gather(*(self._state(each, (asked or {}).get(each.seen.path)) for each in found))
        wires = self.environment.wires
        links = await wires.observe() if wires else frozenset[str]()
        images = self.environment.library.present() if self.parent.level == 0 else frozenset[str]()
        seen = {each.path: each for each in looks}
        own = self.environment.own_qemu
        lacking = frozenset({"qemu"}) if own is not None and await own.lacking(self.parent) else frozenset[str]()
        return Observed(MappingProxyType(seen), links, images, lacking)

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        match step:
            case Build(image=key):
                await self.environment.library.build(key, blueprint.images[key], say)
            case Install():
                if self.environment.own_qemu is not None:
                    await self.environment.own_qemu.install(say)
            case Connect():
                if self.environment.wires:
                    names = (segment.name for segment in blueprint.segments)
                    await self.environment.wires.ensure(names, self.parent)
            case Disconnect(segment=segment):
                if self.environment.wires:
                    await self.environment.wires.remove(segment)
            case Create(machine=path) | Update(machine=path):
                await self._create(blueprint[path], blueprint, say)
            case BootStep(machine=path, keep=keep):
                await self._boot(blueprint[path], blueprint, say, keep=keep)
            case Introduce(machine=path):
                await self._introduce(blueprint[path], blueprint)
            case Stop(machine=path):
                return await self._stop(path, say)
            case Remove(machine=path):
                await self._remove(path)
            case _:
                raise TypeError(f"the QEMU engine knows no {type(step).__name__}")
        return None

    async def host(self, path: str) -> SshHost:
        host = next((each for (known, _), each in self._hosts.items() if known == path), None)
        if host is None:
            found = next((each for each in await self._look() if each.seen.path == path), None)
            if found is None or found.seen.state != "running":
                state = found.seen.state if found else "absent"
                said = "it died" if state == "died" else f"it is {state}"
                raise Unreachable(f"{path} does not run: {said}.", hint="`nestlab up` brings it up.")
            told = found.boot
            host = self._reach(path, int(told["port"]), str(told.get("user", "root")), str(told.get("accel", "")))
        return host

    async def sshds(self) -> tuple[Sshd, ...]:
        """See `nestlab.engines.Listening`."""
        found = [each for each in await self._look() if each.seen.state == "running" and "port" in each.boot]
        return tuple(Sshd(each.seen.path, int(each.boot["port"]), str(each.boot.get("user", "root"))) for each in found)

    async def choice(self, spec: Spec) -> Choice:
        """The accelerator of a machine on this host, and why."""
        where = self.parent.path or "this machine"
        presumed = presume(self._maker.glance, spec.machine, where) if self._maker.glance else None
        return presumed or choose(await self.parent.facts(), spec.machine, spec.path, where)

    async def accel(self, path: str) -> Accelerator:
        async with self._monitor(path) as monitor:
            return "kvm" if await monitor.kvm() else "tcg"

    def attached(self, path: str, file: str, serial: str, *, writable: bool = False) -> Attached:
        """See `nestlab.engines.disk_hotplug`."""
        return attached_disk.attached(lambda: self._monitor(path), file, serial, writable=writable)

    async def close(self) -> None:
        hosts, self._hosts = list(self._hosts.values()), {}
        await self._maker.close()
        await asyncio.gather(*(host.close() for host in hosts))

    async def _look(self) -> list[observed.Look]:
        script, words = self._looking()
        if isinstance(self.parent, LocalHost) and not Path(words[0]).exists():
            return []
        result = await self.parent.run(("sh", "-c", scripts.alone(script), "look", *words))
        return observed.parse(result.text, now=time.time(), parent=self.parent.path)

    def _looking(self) -> tuple[str, tuple[str, str]]:
        return observed.SCRIPT, (self.environment.place.machines, self.environment.lab)

    async def _said(self, path: str) -> Said:
        """What its QEMU says: its state, and whether that is KVM."""
        from nestlab.wire import qmp

        questions = ("query-status", "query-kvm")
        async with self.parent.unix(self.environment.place.of(path).qmp) as socket:
            status, kvm = await asyncio.to_thread(
                qmp.ask, socket, questions, timeout=self._allowed(qmp.TIMEOUT), where=path
            )
        return str(status["status"]), bool(kvm["enabled"])

    async def _state(self, found: observed.Look, asked: Future[Said] | None = None) -> Seen:
        """What QEMU itself says of a machine whose process lives."""
        seen = found.seen
        if seen.state != "running":
            return seen
        try:
            said, kvm = await (asked or self._said(seen.path))
        except LabError as error:
            return replace(seen, accel=None, why=f"its QMP does not answer: {error.what}")
        state, why = observed.RUN_STATES.get(said, ("running", ""))
        seen = replace(seen, state=state, accel="kvm" if kvm else "tcg", why=why or seen.why)
        if state == "running" and not seen.ready and await self._answers(found):
            return replace(seen, ready=True, why="")
        return seen

    async def _answers(self, found: observed.Look) -> bool:
        """Whether a machine whose console does not tell answers ssh by now."""
        boot, path = found.boot, found.seen.path
        if not boot.get("asked"):
            return False
        try:
            host = self._reach(path, int(boot["port"]), str(boot.get("user", "root")), str(boot.get("accel", "")))
            async with asyncio.timeout(patience.allowed(KNOCK, self.parent.slowness)):
                await host.connect()
            await self.parent.write(self.environment.place.of(path).answered, b"")
        except (LabError, OSError, TimeoutError, KeyError, ValueError, TypeError):
            return False
        return True

    @asynccontextmanager
    async def _monitor(self, path: str) -> AsyncIterator[Monitor]:
        from nestlab.wire.qmp import TIMEOUT, connect

        qmp = self.environment.place.of(path).qmp
        async with (
            self.parent.unix(qmp) as socket,
            connect(socket, timeout=self._allowed(TIMEOUT), where=path) as monitor,
        ):
            yield monitor

    def _allowed(self, seconds: float) -> float:
        """A nominal time for what is asked of this host's processes."""
        return patience.allowed(seconds, self.parent.slowness)

    def _reach(self, path: str, port: int, user: str, accel: str) -> SshHost:
        known = self._hosts.get((path, port))
        if known is None:
            measured = self.environment.speeds.of(path)
            slow = measured.slowness if measured else patience.inside(self.parent.slowness, accel)
            host = self.environment.lab_keys.host(path, self.parent, port, user, slowness=slow)
            known = self._hosts[path, port] = host
        return known

    async def _measure(self) -> None:
        """How slow the host is, while a machine boots on it; unless that was measured lately."""
        await asyncio.sleep(MEASURED)
        speeds, path = self.environment.speeds, self.parent.path
        async with self._measuring:
            known = speeds.of(path)
            if known is not None and known.fresh(time.time()):
                return
            with suppress(LabError, OSError):
                self.parent.slowness = await speed.measure(self.parent)
                speeds.keep(path, self.parent.slowness)

    async def _boot(self, spec: Spec, blueprint: Blueprint, say: Say, *, keep: bool) -> None:
        """Start it and wait for it. Where KVM was only presumed and the machine does not come up, or takes its time,
        its host is asked what it can do, and what cannot run under KVM starts again, emulated."""
        choice = await self.choice(spec)
        starting = asyncio.ensure_future(self._start(spec, blueprint, choice, say, keep=keep))
        measuring = asyncio.ensure_future(self._measure())
        try:
            if choice.presumed:
                await asyncio.wait({starting}, timeout=patience.allowed(DOUBT, self.parent.slowness))
                if (not starting.done() or starting.exception()) and not (await self.parent.facts()).hardware:
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

    async def _start(self, spec: Spec, blueprint: Blueprint, choice: Choice, say: Say, *, keep: bool) -> None:
        environment = self.environment
        qemu = await environment.programs.qemu(choice.accel, say)
        library, images = environment.library, blueprint.images
        artifacts = await library.artifacts(spec.image, images[spec.image])
        files = await self._stock.files(artifacts, say)
        cargo = []
        for key in spec.cargo:
            inner = await library.artifacts(key, images[key])
            cargo.append((inner, await self._stock.cargo(inner, say)))
        paths = environment.place.of(spec.path)
        plan = Launch(
            lab=environment.lab,
            spec=spec,
            paths=paths,
            accel=choice.accel,
            port=0,
            management_mac=environment.management_mac(spec.path),
            qemu=qemu.argv,
            version=qemu.version,
            kernel=launch.kernel_of(artifacts, files),
            drives=launch.drives_of(spec, paths, artifacts, cargo),
            cdroms=launch.cdroms_of(paths, artifacts, files),
            keep=keep,
            switch=environment.place.switch if environment.wires else None,
        )
        say(f"starting under {'KVM' if choice.accel == 'kvm' else 'emulation'}")
        user = spec.machine.image.user
        await self._forget(spec.path)
        opening = self._maker.opening
        opening = opening if opening is not None and opening.path == spec.path else None
        boot = Boot(self.parent, plan, argv, dict(qemu.env), user, "cdrom" not in files, opening, keep)
        await start(boot, lambda port: self._reach(spec.path, port, user, choice.accel), say)
        if boot.asked:
            await self.parent.write(paths.answered, b"")

    async def _create(self, spec: Spec, blueprint: Blueprint, say: Say) -> None:
        size = await self._maker.create(spec, blueprint, say)
        if size is None:
            return
        say("making its disk larger")
        async with self._monitor(spec.path) as monitor:
            await monitor.grow(ROOT_DRIVE, size)
        await self._write_papers(spec, blueprint)
        if blueprint.images[spec.image].file is None:
            host = await self.host(spec.path)
            await host.run(("sh", "-c", scripts.GROW), check=False)

    async def _introduce(self, spec: Spec, blueprint: Blueprint) -> None:
        """New names, for the running machine and for its next boot."""
        await introduce(await self.host(spec.path), spec)
        await self._write_papers(spec, blueprint)

    async def _write_papers(self, spec: Spec, blueprint: Blueprint) -> None:
        root = self.environment.place.of(spec.path).root
        papers = self._maker.papers(spec, blueprint)
        papers["made"] = papers.pop("made.new")
        await self.parent.write_many({f"{root}/{name}": paper for name, paper in papers.items()})

    async def written(self, paths: Sequence[str]) -> Mapping[str, int]:
        """See `nestlab.engines.Weighing`."""
        place = self.environment.place
        by_name = {short_id(path): path for path in paths}
        result = await self.parent.run(("sh", "-c", scripts.WRITTEN, "written", place.machines, *by_name))
        found = {}
        for line in result.text.splitlines():
            size, _, name = line.partition("\t")
            path = by_name.get(name.partition("/")[0])
            if path is not None and size.isdecimal():
                found[path] = int(size) << 10
        return found

    async def _stop(self, path: str, say: Say) -> str | None:
        paths, name = self.environment.place.of(path), name_of(self.environment.lab, path)
        agent = self.environment.place.of(path).agent
        asked = await shutdown.ask_to_end(self.parent, path, agent, lambda: self.host(path), self._monitor)
        slow = patience.inside(self.parent.slowness, "kvm")
        grace = round(5 * patience.allowed(GRACE, slow)) if asked else 0
        say("shutting down" if asked else "ending it: it does not answer")
        ended = await self.parent.run(("sh", "-c", scripts.STOP, "stop", name, paths.root, str(grace), "asked"))
        await self._forget(path)
        return scripts.forced(ended.text, grace / 5)

    async def _kill(self, path: str) -> None:
        paths, name = self.environment.place.of(path), name_of(self.environment.lab, path)
        await self.parent.run(("sh", "-c", scripts.STOP, "stop", name, paths.root, "0", "crash"))
        await self._forget(path)

    async def _remove(self, path: str) -> None:
        place = self.environment.place
        # a directory that does not even say whose it is: its name is all that is known
        last = path.rpartition("/")[2]
        root = f"{place.machines}/{last[1:]}" if last.startswith("?") else place.of(path).root
        name = name_of(self.environment.lab, path)
        await self.parent.run(("sh", "-c", scripts.REMOVE, "remove", name, root))
        await self._forget(path)

    async def _forget(self, path: str) -> None:
        for key in [key for key in self._hosts if key[0] == path]:
            await self._hosts.pop(key).close()
