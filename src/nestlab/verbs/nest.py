"""Which host and which engine serve which machine: a hypervisor that runs is the host of what is inside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, Self, TypeAlias

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines import Asking, Engine, Inside, Judging, Weighing, no_login
from nestlab.hosts.host import Host
from nestlab.kinds.clustering import View
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import level_of, parent_of, within
from nestlab.lab.readiness import Ready
from nestlab.plan.steps import (
    OF_CLUSTERS,
    Boot,
    Create,
    Form,
    HalfMade,
    Join,
    Leave,
    Observed,
    Other,
    Remove,
    Seen,
    SetUp,
    Step,
    Stop,
    Update,
    Written,
)
from nestlab.plan.unseen import complete, learn, made, removed
from nestlab.verbs import cluster_goals, cluster_work, machine_setup
from nestlab.verbs.own_machines import own

ASIDE = 45.0
"""Nominal seconds more that a hypervisor has for what it is asked besides: echoes that stay away take 20, twice under
load."""


LONGEST, WORKS = 3, 0.5
"""How many times its time a hypervisor has while its QEMU takes so much of a CPU."""

WORK = """
spent() { read -r l <"/proc/$1/stat" && set -- ${l##*)} && echo $((${12} + ${13})); }
spent "$1"; sleep 1; spent "$1"
"""
"""Argument: a process. Prints the hundredths of a second that it has computed, now and a second later."""


@frozen
class Aside:
    """A POSIX sh script that a hypervisor runs when its machines are looked at, in the same round trip. `answer`: what
    it prints; nothing sets it where that is not possible."""

    script: str
    words: Sequence[str]
    answer: asyncio.Future[str]


Secrets: TypeAlias = Callable[[str, Sequence[Spec]], Mapping[str, bytes]]
"""What is told to nodes of a cluster (its name) by stdin: `Goal.secrets`."""


Asides = Mapping[str, Aside]
"""By hypervisor."""


Ahead = Mapping[str, asyncio.Future[Observed]]
"""What hypervisors are being asked already."""


@frozen
class _Seen:
    """What was seen so far, at every level. `silent`: hypervisors that did not answer, and why."""

    machines: dict[str, Seen]
    silent: dict[str, str]
    half_made: set[HalfMade]
    others: list[Other]


class Nest:
    """One lab with its hosts and engines at every level, each made when first needed and kept.

    `host`: the lab's own host, which stays the caller's to close. `on` makes the engine there; `inside` makes one for
    what is inside a hypervisor, by its kind. `previous`, the blueprint applied last, is what tells the kind of machines
    that the lab file mentions no more. `answer`: nominal seconds after which a hypervisor counts as not answering when
    its machines are looked at; three times that while its QEMU is at work. `known`: machines as they were seen last.
    `applied`: the blueprint that was applied whole. `secrets`: what nodes of a cluster are told by stdin.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        host: Host,
        on: Inside,
        inside: Mapping[str, Inside],
        *,
        previous: Blueprint | None = None,
        answer: float = 30.0,
        known: Mapping[str, Seen] | None = None,
        applied: Blueprint | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self.lab = blueprint.lab
        self._blueprint = blueprint
        self._applied = applied or previous
        self._secrets = secrets
        self._running: set[str] = set()
        self._specs = blueprint.by_path()
        self._before = previous.by_path() if previous else {}
        self._on = on
        self._inside = inside
        self._answer = answer
        self.known = dict(known or {})
        self.cut: Mapping[str, frozenset[str]] = {}
        """The segments that the user cut machines off, by path."""
        self._hosts: dict[str, Host] = {"": host}
        self._engines: dict[str, Engine] = {}
        self._getting: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def host(self, path: str = "") -> Host:
        """The lab's host ("") or a running machine as a host. Unreachable when it, or one it is in, does not answer."""
        async with self._getting["host", path]:
            if path not in self._hosts:
                spec = self._specs.get(path)
                if spec is not None and not spec.machine.by_ssh and not spec.sealed:
                    raise no_login(path, spec.machine.ready)
                outer = await self.engine(parent_of(path))
                self._hosts[path] = await outer.host(path)
            return self._hosts[path]

    async def engine(self, parent: str = "") -> Engine:
        """The engine of the machines directly inside `parent` ("": on the lab's host). LabError where there is none."""
        async with self._getting["engine", parent]:
            if parent not in self._engines:
                make = self._inside_of(parent) if parent else self._on
                self._engines[parent] = make(self.lab, await self.host(parent))
            return self._engines[parent]

    async def accel(self, path: str) -> Literal["kvm", "tcg"]:
        """The accelerator of a running machine, asked of the process that runs it."""
        return await (await self.engine(parent_of(path))).accel(path)

    async def is_up(self, path: str, ready: Ready | None = None) -> bool:
        """Whether a machine that runs is up, by what its `ready:` names, or by `ready`; see `engines.Judging`."""
        engine, spec = await self.engine(parent_of(path)), self._specs[path]
        by = replace(spec, machine=replace(spec.machine, ready=ready)) if ready else spec
        return isinstance(engine, Judging) and await engine.is_up(by)

    async def shown(self, path: str) -> tuple[str, str]:
        """`vmx` or `svm`, if the CPU of a running machine shows it; see `engines.Judging`."""
        engine = await self.engine(parent_of(path))
        return await engine.shown(path) if isinstance(engine, Judging) else ("", "nobody")

    async def observe(self, asides: Asides | None = None) -> Observed:
        """The lab at every level, all hypervisors asked at once. What is inside one that does not run or does not
        answer is `unknown`, as far as the blueprints mention it. LabError when the lab's host cannot be asked.
        `asides`: what hypervisors are asked in the same round trip, as far as their engines can."""
        asides = asides or {}
        # Those who are talked to anyway, before it is known that they run: their own answer takes far longer.
        ahead = {
            path: asyncio.ensure_future(self._seen_in(path, asides[path])) for path in asides.keys() & self._engines
        }
        try:
            outer = own("", await (await self.engine()).observe())
            found = dict(outer.machines)
            silent: dict[str, str] = {}
            half_made = set(outer.half_made)
            others = list(outer.others)
            await self._look_inside(outer.machines.values(), _Seen(found, silent, half_made, others), asides, ahead)
        finally:
            for each in ahead.values():
                each.cancel()
            await asyncio.gather(*ahead.values(), return_exceptions=True)
        machines = complete(found, silent, {**self._before, **self._specs}, self.known)
        observed = Observed(machines, outer.links, outer.images, outer.lacking, frozenset(half_made), outer.served)
        observed = replace(observed, others=tuple(others))
        self.known = learn(self.known, observed)
        self._running = {path for path, seen in machines.items() if seen.state == "running"}
        return observed

    async def weigh(self, seen: Observed, paths: Iterable[str]) -> Observed:
        """What is seen, with what is written on the disks of some machines, as far as their hosts can be asked."""
        inside: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            if path in seen.machines and not seen.machines[path].remembered:
                inside[parent_of(path)].append(path)
        found = await asyncio.gather(*(self._written(parent, each) for parent, each in inside.items()))
        written = {path: size for each in found for path, size in each.items()}
        machines = {path: replace(each, written=written.get(path)) for path, each in seen.machines.items()}
        return replace(seen, machines=MappingProxyType(machines))

    async def _written(self, parent: str, paths: Sequence[str]) -> Mapping[str, Written]:
        try:
            async with asyncio.timeout(patience.allowed(self._answer, (await self.host(parent)).slowness)):
                engine = await self.engine(parent)
                return await engine.written(paths) if isinstance(engine, Weighing) else {}
        except (LabError, OSError, TimeoutError):
            return {}

    async def ask_setups(self, seen: Observed) -> Observed:
        """What was seen, with what the machines that have a setup and run are stamped with, and what members of
        clusters say of these, as far as they answer."""

        async def ask(path: str) -> Seen:
            each = seen.machines[path]
            try:
                host = await self.host(path)
                async with asyncio.timeout(patience.allowed(self._answer, host.slowness)):
                    return replace(each, setup=await machine_setup.stamped(host))
            except (TimeoutError, LabError, OSError):
                return each

        paths = [path for path, spec in self._specs.items() if spec.setup and path in seen.machines]
        paths = [path for path in paths if _answers(seen, path)]
        told, clusters = await asyncio.gather(asyncio.gather(*map(ask, paths)), self.ask_clusters(seen))
        asked = dict(zip(paths, told, strict=True))
        return replace(seen, machines=MappingProxyType({**seen.machines, **asked}), clusters=clusters)

    async def ask_clusters(self, seen: Observed, seconds: float = cluster_work.ANSWER) -> Mapping[str, View]:
        """What members of clusters say of these, now or by the blueprint before, by path: those that answer."""
        specs = [spec for spec in cluster_work.members(self._blueprint, self._applied) if _answers(seen, spec.path)]
        return await cluster_work.views(self.host, specs, seconds)

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        """Make one step real, where its machine is, and return what is to be known of it. Connections into a machine
        end before it does."""
        if isinstance(step, Boot | Stop | Remove):
            await self.drop(step.machine)
        if isinstance(step, SetUp):
            await machine_setup.set_up(await self.host(step.machine), blueprint[step.machine], say)
            return None
        if isinstance(step, OF_CLUSTERS):
            return await self._cluster(step, blueprint, say)
        engine = await self.engine(step.host)
        if isinstance(step, Remove):
            self.known = removed(self.known, step.machine)
        said = await engine.perform(step, blueprint, say)
        if isinstance(step, Create | Update):
            self.known = made(self.known, blueprint[step.machine])
        if isinstance(step, Boot | Stop | Remove):
            gone = {path for path in self._running if within(path, step.machine)}
            self._running = self._running | {step.machine} if isinstance(step, Boot) else self._running - gone
        return said

    async def _cluster(self, step: Form | Join | Leave, blueprint: Blueprint, say: Say) -> str | None:
        """Make a step about a cluster real, by the way of its members' kind."""
        specs = cluster_goals.specs_of(step, blueprint, self._applied)
        clustering = next((each for each in map(cluster_work.clustering_of, specs) if each is not None), None)
        if clustering is None:
            return "nothing is left of it"
        secrets = self._secrets(step.cluster, specs) if self._secrets is not None else {}
        slow = [self._hosts[spec.path].slowness for spec in specs if spec.path in self._hosts]
        running = frozenset(self._running)
        goal = cluster_goals.goal(step, blueprint, self._applied, running, secrets, max(slow, default=1.0), self.cut)
        return await cluster_work.reach(goal, clustering, self.host, say) or None

    def adopt(self, blueprint: Blueprint, source: str, target: str) -> None:
        """A machine that was at `source` is at `target`, as the blueprint says it."""
        self._specs = blueprint.by_path()
        self.known = removed(self.known, source)
        if target in self._specs:
            self.known = made(self.known, self._specs[target])

    async def drop(self, path: str) -> None:
        """Forget the host and the engine of a machine and of everything inside it ("" for the whole lab). Engines
        close the hosts that they gave."""
        for each in [each for each in self._hosts if each and within(each, path)]:
            del self._hosts[each]
        for each in sorted((each for each in self._engines if within(each, path)), key=level_of, reverse=True):
            with contextlib.suppress(LabError, OSError):
                await self._engines.pop(each).close()

    async def close(self) -> None:
        """Let go of every connection, innermost first; machines go on."""
        await self.drop("")

    async def _look_inside(
        self,
        machines: Iterable[Seen],
        found: _Seen,
        asides: Asides,
        ahead: Ahead,
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for seen in machines:
                if seen.state != "running" or not self._may_hold_machines(seen):
                    continue
                if not seen.ready:
                    found.silent[seen.path] = f"{seen.path} is still booting"
                else:
                    group.create_task(self._look(seen, found, asides, ahead))

    async def _look(self, seen: Seen, found: _Seen, asides: Asides, ahead: Ahead) -> None:
        parent = seen.path
        asking = ahead.get(parent) or asyncio.ensure_future(self._seen_in(parent, asides.get(parent)))
        try:
            seconds = self._answer + (ASIDE if parent in asides else 0)
            inner = own(parent, await self._answered(seen, asking, seconds))
        except (LabError, OSError) as error:
            said = error.what if isinstance(error, LabError) else str(error)
            known = isinstance(error, Unreachable) or parent in said
            found.silent[parent] = said if known else f"{parent} cannot be asked: {said}"
        else:
            found.machines.update(inner.machines)
            found.half_made.update(inner.half_made)
            found.others.extend(inner.others)
            await self._look_inside(inner.machines.values(), found, asides, ahead)
            return
        await self.drop(parent)

    async def _answered(self, seen: Seen, asking: asyncio.Future[Observed], seconds: float) -> Observed:
        """What a hypervisor answers. Unreachable when it does not within its time, which it has several times while its
        QEMU is at work: that is how one looks which has much to do."""
        parent, waited = seen.path, 0.0
        try:
            limit = patience.allowed(seconds, (await self.host(parent)).slowness)
            for turn in range(1, LONGEST + 1):
                done, _ = await asyncio.wait({asking}, timeout=limit)
                if done:
                    return asking.result()
                waited += limit
                share = await self._works(seen)
                if share is None or share < WORKS or turn == LONGEST:
                    break
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})
        busy = "" if share is None else f"; its QEMU takes {100 * share:.0f} % of a CPU"
        raise Unreachable(f"{parent} did not answer within {patience.said(waited)}{busy}", hint=patience.LONGER)

    async def _works(self, seen: Seen) -> float | None:
        """How much of a CPU a machine's QEMU takes; None where that cannot be told."""
        if seen.pid is None:
            return None
        with contextlib.suppress(LabError, OSError):
            host = await self.host(parent_of(seen.path))
            said = (await host.run(("sh", "-c", WORK, "work", str(seen.pid)), timeout=20)).text
            if spent := re.fullmatch(r"([0-9]{1,15})\s+([0-9]{1,15})\s*", said):
                return (int(spent[2]) - int(spent[1])) / 100
        return None

    async def _seen_in(self, parent: str, aside: Aside | None) -> Observed:
        engine = await self.engine(parent)
        if aside is None or aside.answer.done() or not isinstance(engine, Asking):
            return await engine.observe()
        observed, said = await engine.observe_and_ask(aside.script, aside.words)
        if not aside.answer.done():
            aside.answer.set_result(said)
        return observed

    def _may_hold_machines(self, seen: Seen) -> bool:
        """It was made as a hypervisor, or that cannot be told and it is to be one."""
        before = self._before.get(seen.path)
        made_as = before if before is not None and before.digest == seen.digest else self._specs.get(seen.path, before)
        return made_as is not None and made_as.machine.nests

    def _inside_of(self, path: str) -> Inside:
        spec = self._specs.get(path) or self._before.get(path)
        kind = spec.machine.hypervisor if spec and spec.machine.nests else None
        if kind is None:
            raise LabError(
                f"{path} is not a hypervisor.", hint="Machines can only be inside one that has `hypervisor:`."
            )
        if kind not in self._inside:
            known = ", ".join(sorted(self._inside)) or "none"
            raise LabError(f"{path} is a hypervisor of kind {kind}.", hint=f"Kinds with an engine: {known}.")
        return self._inside[kind]


def _answers(seen: Observed, path: str) -> bool:
    """Whether a machine runs, and is up."""
    return path in seen.machines and seen.machines[path].state == "running" and seen.machines[path].ready
