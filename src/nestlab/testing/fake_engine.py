"""A world of pretended machines under the same contract as the real engines: for tests, nestlab's and yours.

world = FakeWorld()
nest = Nest(blueprint, world.host(), world.engine, {"kvm": world.engine})
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from nestlab.base.errors import LabError, Refused, Unreachable
from nestlab.base.events import Say
from nestlab.engines import Engine, Sshd
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host, Result, Running
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, level_of, parent_of, within
from nestlab.lab.netboot import digest_of_service, service_of
from nestlab.plan.steps import (
    Boot,
    Build,
    Clear,
    Connect,
    Create,
    Discard,
    Disconnect,
    HalfMade,
    Install,
    Introduce,
    Observed,
    Remove,
    Seen,
    SetUp,
    State,
    Step,
    Stop,
    Update,
    Written,
)
from nestlab.testing.fake_failing import FakeFailing
from nestlab.testing.fake_judging import FakeJudging
from nestlab.testing.fake_machine import FakeMachine
from nestlab.testing.fake_running import FakeRunning
from nestlab.verbs.machine_setup import STAMPS
from nestlab.wire.result import lines_of

Answer = Callable[[str, Sequence[str]], Result | None]
"""Given where (a path) and the argv: what the command does; None: it ends with status 0 and says nothing."""


class FakeWorld:
    """Everything there is, of all labs, with ways to break it behind nestlab's back.

    `machines` by (lab, path); `half_made` are (lab, what is half made); `links` are (lab, segment); `done` lists (lab,
    step id) in the order of success; `commands` lists (path, argv) of everything run; `open` counts what is not closed.
    """

    def __init__(self, facts: Facts | None = None) -> None:
        self.facts = facts or Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB)
        self.machines: dict[tuple[str, str], FakeMachine] = {}
        self.half_made: set[tuple[str, HalfMade]] = set()
        self.links: set[tuple[str, str]] = set()
        self.served: dict[tuple[str, str], str] = {}
        self.images: set[str] = set()
        self.lacking: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.done: list[tuple[str, str]] = []
        self.commands: list[tuple[str, tuple[str, ...]]] = []
        self.answer: Answer | None = None
        self.failing: set[tuple[str, str]] = set()
        self.open = 0
        self._refused: Counter[str] = Counter()
        self._holds: dict[str, asyncio.Event] = {}

    def host(self) -> FakeHost:
        """The host that the world is on."""
        return FakeHost(self, "", "")

    def engine(self, lab: str, parent: Host) -> Engine:
        """The engine of a lab on one of its hosts: an `Inside`."""
        return FakeEngine(self, lab, parent.path)

    def refuse(self, step: str, times: int = 1) -> None:
        """The next `times` attempts at a step (by id) are refused, half done where a machine is made."""
        self._refused[step] += times

    def hold(self, step: str) -> asyncio.Event:
        """A step (by id) waits, at its start, until this event is set."""
        return self._holds.setdefault(step, asyncio.Event())

    def kill(self, lab: str, path: str, why: str = "killed by signal 9") -> None:
        """A machine dies behind nestlab's back, and what is in it."""
        self._end(lab, path, "died", why)

    def rename(self, lab: str, name: str) -> None:
        """What is there of a lab belongs to another name: its directory was moved."""
        self.machines = {(name if of == lab else of, path): each for (of, path), each in self.machines.items()}

    def pause(self, lab: str, path: str) -> None:
        self.machines[lab, path].state = "paused"

    def spoil(self, lab: str, path: str, why: str = "its disk is missing") -> None:
        """A machine turns out to be half made."""
        self._end(lab, path, "broken", why)

    def silence(self, lab: str, path: str) -> None:
        """A machine runs on and does not answer, until it is booted again."""
        self.machines[lab, path].silent = True

    def answers(self, lab: str, path: str) -> bool:
        """Whether a machine, and every one it is in, runs and answers. The host ("") always does."""
        while path:
            machine = self.machines.get((lab, path))
            if machine is None or machine.state != "running" or machine.silent:
                return False
            path = parent_of(path)
        return True

    def directly_in(self, lab: str, parent: str) -> Mapping[str, Seen]:
        """What an engine sees there. Unreachable when `parent` does not answer."""
        self.reach(lab, parent)
        seen = {}
        for (of, path), machine in self.machines.items():
            if of == lab and path and parent_of(path) == parent:
                accel: Literal["kvm", "tcg"] = "kvm" if parent else "tcg"
                runs = accel if machine.state in ("running", "paused") else None
                setup = self._stamped(machine) if machine.state == "running" else None
                disk = None if machine.root is None else machine.disk
                of_now = Seen(path, machine.state, machine.digest, machine.names, runs, why=machine.why, setup=setup)
                seen[path] = replace(of_now, root=machine.root, disk=disk, disks=machine.disks, plugs=machine.plugs)
        return MappingProxyType(seen)

    @staticmethod
    def _stamped(machine: FakeMachine) -> tuple[str, ...]:
        return tuple(machine.files.get(STAMPS, b"").decode().split())

    def reach(self, lab: str, path: str) -> None:
        """Unreachable when a machine does not answer."""
        if not self.answers(lab, path):
            raise Unreachable(f"{path} does not answer.", hint=f"See whether it runs: nestlab status {lab}")

    async def perform(self, lab: str, parent: str, step: Step, blueprint: Blueprint, say: Say) -> None:
        """Make one step real, as the engine of `parent` would."""
        self.reach(lab, parent)
        if step.id in self._holds:
            say("held")
            await self._holds[step.id].wait()
        for phase in ("preparing", "waiting"):
            say(phase)
            await asyncio.sleep(0)
        self.reach(lab, parent)
        if self._refused[step.id]:
            self._refused[step.id] -= 1
            if isinstance(step, Create) and (lab, step.machine) not in self.machines:
                self.machines[lab, step.machine] = FakeMachine("", "", "broken", "it was refused half way")
            raise Refused(f"The fake world refuses {step.id}.", hint="Try again.")
        self.do(lab, step, blueprint)

    def do(self, lab: str, step: Step, blueprint: Blueprint) -> None:
        """The effect of one step, at once. LabError where a real engine could not do it."""
        self.reach(lab, step.host)
        match step:
            case Build():
                self.images.add(step.image)
            case Install():
                self.lacking.discard(step.program)
            case Connect():
                self.links.add((lab, step.segment))
                self.served[lab, step.segment] = digest_of_service(service_of(blueprint, step.segment))
            case Disconnect():
                self.links.discard((lab, step.segment))
            case Create() | Update():
                self._create(lab, step.machine, blueprint)
            case Boot():
                self._boot(lab, step.machine, blueprint)
            case Introduce():
                self._there(lab, step.machine, "running").names = blueprint[step.machine].names
            case SetUp():
                text = "".join(f"{stamp}\n" for stamp in blueprint[step.machine].setup)
                self._there(lab, step.machine, "running").files[STAMPS] = text.encode()
            case Stop():
                self._end(lab, step.machine, "stopped", "")
            case Remove():
                self._remove(lab, step.machine)
            case Discard():
                there = self._there(lab, step.machine)
                there.disks = tuple(disk for disk in there.disks if disk.name not in step.disks)
            case Clear():
                self.half_made.discard((lab, step.rest))
            case _:
                raise LabError(f"The fake world cannot do {step.id}.", hint="Use the steps of nestlab.plan.steps.")
        self.done.append((lab, step.id))

    def _there(self, lab: str, path: str, *states: State) -> FakeMachine:
        machine = self.machines.get((lab, path))
        if machine is None or (states and machine.state not in states):
            state = machine.state if machine else "not there"
            raise LabError(f"{path} is {state}.", hint=f"It should be {' or '.join(states) or 'there'}.")
        return machine

    def _need_images(self, path: str, blueprint: Blueprint) -> None:
        spec = blueprint[path]
        missing = [key for key in spec.images if key not in self.images]
        if missing:
            raise LabError(f"{path} needs images that are not built: {', '.join(missing)}.", hint="Build them first.")

    def _remove(self, lab: str, path: str) -> None:
        for key in [key for key in self.machines if key[0] == lab and within(key[1], path)]:
            del self.machines[key]

    def _create(self, lab: str, path: str, blueprint: Blueprint) -> None:
        self._need_images(path, blueprint)
        spec = blueprint[path]
        there = self.machines.get((lab, path))
        if there is None or there.state == "broken":
            self._remove(lab, path)
            self.machines[lab, path] = FakeMachine(spec.digest, spec.names, root=spec.root, disk=spec.machine.disk or 0)
            self.machines[lab, path].disks = spec.disks
            return
        runs = there.state in ("running", "paused")
        if there.root not in (None, spec.root):
            raise LabError(f"The disk of {path} was made from something else.", hint="Remove it first.")
        if runs and there.digest != spec.digest:
            raise LabError(f"{path} runs with another definition.", hint="Stop it first.")
        there.digest, there.root, there.disk = spec.digest, spec.root, max(there.disk, spec.machine.disk or 0)
        there.names = there.names if runs else spec.names
        had = {disk.name: disk for disk in there.disks}
        if lost := [disk.name for disk in spec.disks if disk.name in had and disk.source != had[disk.name].source]:
            raise LabError(
                f"The disks {', '.join(lost)} of {path} are over something else.", hint="Discard them first."
            )
        there.disks = spec.disks

    def _boot(self, lab: str, path: str, blueprint: Blueprint) -> None:
        machine = self._there(lab, path, "running", "paused", "stopped", "died")
        spec = blueprint[path]
        if not spec.parent and machine.state in ("stopped", "died"):
            self._need_images(path, blueprint)
        down = [nic.segment for nic in spec.nics if (lab, nic.segment) not in self.links]
        if not spec.parent and down:
            raise LabError(f"{path} cannot join {', '.join(down)}.", hint="Connect the segment first.")
        machine.state, machine.why, machine.silent = "running", "", False

    def _end(self, lab: str, path: str, state: State, why: str) -> None:
        """What is inside is down as well: stopped where it was stopped before, else dead."""
        for (of, each), machine in self.machines.items():
            if of == lab and each != path and within(each, path) and machine.state in ("running", "paused"):
                machine.state, machine.why = "died", f"{path} went down"
        if (lab, path) in self.machines:
            machine = self.machines[lab, path]
            machine.state, machine.why, machine.silent = state, why, False


@dataclass
class FakeEngine(FakeJudging, FakeFailing):
    """The engine of one lab in one place of a fake world."""

    world: FakeWorld
    lab: str
    parent: str
    given: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world.open += 1

    async def observe(self) -> Observed:
        await asyncio.sleep(0)
        machines = self.world.directly_in(self.lab, self.parent)
        half_made = frozenset(
            rest for lab, rest in self.world.half_made if lab == self.lab and rest.host == self.parent
        )
        if self.parent:
            return Observed(machines, half_made=half_made)
        links = frozenset(segment for lab, segment in self.world.links if lab == self.lab)
        images, lacking = frozenset(self.world.images), frozenset(self.world.lacking)
        served = {each: self.world.served.get((self.lab, each), "") for each in links}
        return Observed(machines, links, images, lacking, half_made, served)

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> None:
        await self.world.perform(self.lab, self.parent, step, blueprint, say)

    async def host(self, path: str) -> Host:
        await asyncio.sleep(0)
        self.world.reach(self.lab, path)
        self.given.append(FakeHost(self.world, self.lab, path))
        return self.given[-1]

    async def sshds(self) -> tuple[Sshd, ...]:
        """Pretended ports, in the order of paths: nothing listens there."""
        seen = self.world.directly_in(self.lab, self.parent)
        running = sorted(path for path, each in seen.items() if each.state == "running")
        return tuple(Sshd(path, 20001 + number) for number, path in enumerate(running))

    async def accel(self, path: str) -> Literal["kvm", "tcg"]:
        self.world.reach(self.lab, path)
        return "kvm" if self.parent else "tcg"

    async def written(self, paths: Sequence[str]) -> Mapping[str, Written]:
        await asyncio.sleep(0)
        known = {path: self.world.machines.get((self.lab, path)) for path in paths}
        there = {path: machine for path, machine in known.items() if machine is not None}
        return {path: Written(sum(map(len, machine.files.values()))) for path, machine in there.items()}

    async def close(self) -> None:
        self.world.open -= 1
        while self.given:
            await self.given.pop().close()


class FakeHost:
    """A place of a fake world as a host: files are kept, commands are noted and answered by `world.answer`."""

    def __init__(self, world: FakeWorld, lab: str, path: str) -> None:
        self.world = world
        self.lab = lab
        self.slowness = 1.0
        self._path = path
        world.open += bool(path)

    @property
    def path(self) -> str:
        return self._path

    @property
    def level(self) -> int:
        return level_of(self._path)

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        await self._answer()
        self.world.commands.append((self._path, tuple(argv)))
        given = self.world.answer(self._path, argv) if self.world.answer else None
        result = given or Result(tuple(argv), 0, b"", b"")
        if check and result.status:
            raise LabError(f"{argv[0]} failed with status {result.status}.", detail=result.stderr.decode())
        return result

    def lines(self, argv: Sequence[str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._lines(argv)

    @asynccontextmanager
    async def _lines(self, argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.start(argv) as running:
            yield lines_of(running, self._path or "the host")

    def start(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Running]:
        return self._start(argv)

    @asynccontextmanager
    async def _start(self, argv: Sequence[str]) -> AsyncIterator[Running]:
        yield FakeRunning(await self.run(argv, check=False))

    async def read(self, path: str) -> bytes:
        await self._answer()
        if path not in self._files:
            raise LabError(f"There is no file {path} on {self._path or 'the host'}.", hint="Write it first.")
        return self._files[path]

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        await self._answer()
        self._files[path] = data

    async def write_many(self, files: Mapping[str, tuple[bytes, int]]) -> None:
        await self._answer()
        self._files.update({path: data for path, (data, _mode) in files.items()})

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        await self.write(path, await asyncio.to_thread(source.read_bytes), mode=mode)

    def unix(self, path: str) -> AbstractAsyncContextManager[str]:
        raise LabError(f"{self._path or 'The host'} is pretended: it has no socket {path}.", hint="Use a real engine.")

    async def facts(self) -> Facts:
        await self._answer()
        return replace(self.world.facts)

    async def close(self) -> None:
        self.world.open -= bool(self._path)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        self.world.reach(self.lab, self._path)

    @property
    def _files(self) -> dict[str, bytes]:
        return self.world.machines[self.lab, self._path].files if self._path else self.world.files
