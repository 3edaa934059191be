"""Performs what the dialogues of a migration ask for, between two hosts of the embedded engine.

What goes from one QEMU to the other goes through ssh connections of its own, encrypted and to pinned host keys: the
QEMU at the source talks to a unix socket there, which leads here, and from here to a unix socket at the target. No
network of the lab carries it, and no guest can reach either end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say as Told
from nestlab.engines.qemu import machine_files, step_time
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.engines.qemu.migration_requests import (
    Act,
    Ask,
    Await,
    Journey,
    Keep,
    Look,
    Request,
    Say,
    Side,
    Sockets,
    all_disks,
)
from nestlab.hosts.host import Host
from nestlab.hosts.ssh import SshHost
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import diskless
from nestlab.plan.room import Room
from nestlab.plan.steps import Boot, Create, Remove, Stop
from nestlab.wire.qmp import Monitor

Answer = TypeVar("Answer")

EVENTS = ("MIGRATION", "BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "BLOCK_JOB_ERROR")
"""QEMU's, which tell that it is further."""

JOINED = 600.0
"""Nominal seconds in which two hypervisors are joined for a machine, and its consoles of before are over."""

STREAM, DISKS = "moves", "moves-nbd"
"""The names of the sockets in a machine's directory."""


@dataclass
class End:
    """A machine at one end: its engine there (None: that cannot be reached), under its path there. `absent`: what the
    engine's host is in is down, and so nothing runs there; `blueprint`: that knows the path."""

    path: str
    engine: QemuEngine | None
    blueprint: Blueprint
    absent: bool = False

    @property
    def at(self) -> QemuEngine:
        if self.engine is None:
            raise Unreachable(f"What runs {self.path} cannot be reached.", hint="nestlab status --deep")
        return self.engine

    @property
    def root(self) -> str:
        """Its directory there."""
        return self.at.environment.place.of(self.path).root

    @property
    def sockets(self) -> Sockets:
        """Of what cannot be reached there are none."""
        if self.engine is None:
            return Sockets("", "")
        return Sockets(f"{self.root}/{STREAM}", f"{self.root}/{DISKS}")


@dataclass
class Mover:
    """One machine's. `keep` writes down how far it is. In a context: what it holds open is closed when that is left."""

    source: End
    target: End
    keep: Callable[[Keep], Awaitable[None]]
    say: Told
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _talks: dict[Side, AsyncExitStack] = field(default_factory=dict)
    _monitors: dict[Side, Monitor] = field(default_factory=dict)
    _event: asyncio.Event = field(default_factory=asyncio.Event)
    _told: str | None = None
    _console: machine_files.Console | None = None

    async def __aenter__(self) -> Mover:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for side in list(self._talks):
            await self._hang_up(side)
        await self._stack.aclose()

    async def perform(self, dialogue: Generator[Request, Any, Answer]) -> Answer:
        """Go through a dialogue to its end."""
        answer: Any = None
        error: LabError | None = None
        while True:
            try:
                request = dialogue.throw(error) if error is not None else dialogue.send(answer)
            except StopIteration as end:
                found: Answer = end.value
                return found
            answer, error = None, None
            try:
                answer = await self._answer(request)
            except LabError as refused:
                error = refused

    async def _answer(self, request: Request) -> Any:
        match request:
            case Ask(side, commands):
                monitor = await self._monitor(side)
                try:
                    return await asyncio.gather(*(monitor.command(name, named) for name, named in commands))
                except Unreachable:
                    await self._hang_up(side)
                    raise
            case Await(seconds):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience.allowed(seconds, 1.0)):
                        await self._event.wait()
                self._event.clear()
                told, self._told = self._told, None
                return told
            case Look(side):
                return await self._look(side)
            case Keep():
                await self.keep(request)
            case Say(text):
                self.say(text)
            case Act(what, side):
                await self._act(what, side)
        return None

    def _end(self, side: Side) -> End:
        return self.source if side == "source" else self.target

    async def _monitor(self, side: Side) -> Monitor:
        if side not in self._monitors:
            end, stack = self._end(side), AsyncExitStack()
            try:
                monitor = await stack.enter_async_context(end.at.monitor(end.path))
                if side == "source":
                    events = await stack.enter_async_context(monitor.events(*EVENTS))
                    listening = asyncio.ensure_future(self._listen(events))
                    stack.callback(listening.cancel)
            except OSError as error:
                await stack.aclose()
                raise Unreachable(f"QEMU of {end.path} does not answer: {error}.", hint="nestlab status") from error
            except BaseException:
                await stack.aclose()
                raise
            self._talks[side], self._monitors[side] = stack, monitor
        return self._monitors[side]

    async def _listen(self, events: AsyncIterator[Any]) -> None:
        with contextlib.suppress(Exception):  # the next command tells what is wrong
            async for event in events:
                if event["event"] == "MIGRATION":
                    self._told = str(event["data"]["status"])
                self._event.set()

    async def _hang_up(self, side: Side) -> None:
        self._monitors.pop(side, None)
        stack = self._talks.pop(side, None)
        if stack is not None:
            with contextlib.suppress(LabError, OSError):
                await stack.aclose()

    async def _look(self, side: Side) -> str:
        end = self._end(side)
        if end.absent:
            return "absent"
        if end.engine is None:
            return "unseen"
        try:
            if not await end.engine.lives(end.path):
                return "absent"
            return await (await self._monitor(side)).status()
        except (LabError, OSError):
            await self._hang_up(side)
            return "unseen"

    async def _act(self, what: str, side: Side) -> None:
        end = self._end(side)
        engine, blueprint = end.at, end.blueprint
        match what:
            case "receive":
                await engine.receive(blueprint[end.path], blueprint, await self._room(blueprint[end.path]), self.say)
            case "join":
                here, there = self.source.at.parent, self.target.at.parent
                what = f"{here.path} and {there.path} could not be joined for {self.source.path}"
                async with step_time.within(JOINED, max(here.slowness, there.slowness), what):
                    await self._join()
            case "end":
                await self._finish_console(side)
                await self._hang_up(side)
                await engine.perform(Remove("it was moved", end.path), blueprint, self.say)
            case "stop":
                await engine.perform(Stop("it is moved", end.path), blueprint, self.say)
            case "make":
                await engine.perform(Create("it is moved", end.path), blueprint, self.say)
            case "start":
                await engine.perform(Boot("it was moved", end.path), blueprint, self.say)
            case "carry":
                await self._carry()

    async def _room(self, spec: Spec) -> Room:
        """What the machine can become where it is: the QEMU at the target is started as that there was."""
        here, path = self.source.at.parent, self.source.path
        async with step_time.within(JOINED, here.slowness, f"{here.path} does not tell how {path} was started"):
            found = await self.source.at.room(path)
        if found.asked not in ((0, 0), (spec.machine.memory, spec.machine.cpus)):
            raise LabError(f"{path} was given other memory or CPUs half-way.", hint="`nestlab up` first, then move it.")
        if found.cores > spec.machine.cpus:
            what = f"{path} was started with {found.cores} CPUs, and has {spec.machine.cpus} now."
            hint = f"With fewer than then it does not move while it runs: `nestlab restart {path}` first, or --cold."
            raise LabError(what, hint=hint)
        return found

    async def _carry(self) -> None:
        """What a machine that is off has written."""
        target = self.target.at
        spec = self.target.blueprint[self.target.path]
        below = await target.below(spec, self.target.blueprint, self.say)
        roots = self.source.root, self.target.root
        await machine_files.whole(self.source.at.parent, target.parent, roots, below, self.say)

    async def _join(self) -> None:
        """The sockets at the source lead to those at the target, and what its console says goes on there."""
        here, there = self.source.at, self.target.at
        froms, tos = self.source.sockets, self.target.sockets
        await here.parent.run(("rm", "-f", froms.stream, froms.disks), timeout=machine_files.SILENT)
        near, far = [await self._own(engine.parent) for engine in (here, there)]
        for mine, other in ((froms.stream, tos.stream), (froms.disks, tos.disks)):
            local = await self._stack.enter_async_context(far.unix(other))
            await self._stack.enter_async_context(near.back(mine, local))
        root, new = self.source.root, self.target.root
        self._console = machine_files.Console(here.parent, there.parent, root, new)
        await self._stack.enter_async_context(self._console.following())

    async def _own(self, host: Host) -> Any:
        """A connection of its own to a host: what goes over must not keep others waiting."""
        if not isinstance(host, SshHost):
            raise LabError("Nothing moves from or to the lab's own host.", hint="From a hypervisor to another it does.")
        connection = await (await host.connect()).another()
        self._stack.push_async_callback(connection.close)
        return connection

    async def _finish_console(self, side: Side) -> None:
        if side == "source" and self._console is not None:
            await self._console.finish()


def journey(source: End, target: End, *, runs: bool, down: tuple[str, ...] = ()) -> Journey:
    """What a live migration is about."""
    spec = target.blueprint.by_path().get(target.path)
    own = spec is not None and (spec.machine.disk is not None or not diskless(spec.machine.image))
    disks = all_disks(own, [disk.id for disk in spec.disks] if spec is not None else ())
    return Journey(source.path, source.sockets, target.sockets, disks, runs, down)
