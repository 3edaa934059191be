"""Makes a step about a cluster real: asks the nodes, lets their kind decide, does what it says, until it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from nestlab import kinds
from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.base.printable import printable
from nestlab.hosts.as_root import as_root
from nestlab.hosts.host import Host
from nestlab.kinds.clustering import (
    REQUESTS,
    Answer,
    Clustering,
    Done,
    Goal,
    Known,
    Refused,
    Request,
    Requests,
    View,
    Wait,
)
from nestlab.lab.blueprint import Blueprint, Spec

ANSWER = 60.0
"""Nominal seconds in which a node says what it is in."""

SAID, SHOWN = 1 << 18, 2000
"""Letters of an answer that are read, and of what a node said that an error shows."""

AGAIN = 0.25
"""Nominal seconds between two looks at nodes that are waited for."""

CHANGES = 20
"""How many times as long as without any change is waited where something changes: a node may be hostile, and say
something else each time."""

Hosts: TypeAlias = Callable[[str], Awaitable[Host]]
"""The machine of a path as a host: `Nest.host`."""


def clustering_of(spec: Spec | None) -> Clustering | None:
    """How the kind of a machine makes clusters; None where nestlab makes none."""
    kind = kinds.kinds().get(spec.machine.hypervisor or "") if spec is not None else None
    return kind.clustering if kind is not None else None


async def look(host: Host, clustering: Clustering, seconds: float = ANSWER) -> View:
    """What a node says of its cluster. LabError when it does not answer within so many nominal seconds."""
    said = await host.run(as_root(clustering.ask), check=False, timeout=seconds)
    return clustering.read(said.text[:SAID])


async def views(hosts: Hosts, specs: Iterable[Spec], seconds: float = ANSWER) -> Mapping[str, View]:
    """What members say, by path: those that answer. All are asked at once."""

    async def ask(spec: Spec, clustering: Clustering) -> View | None:
        try:
            return await look(await hosts(spec.path), clustering, seconds)
        except (LabError, OSError):
            return None

    asked = [(spec, clustering) for spec in specs if (clustering := clustering_of(spec)) is not None]
    found = await asyncio.gather(*(ask(spec, clustering) for spec, clustering in asked))
    return MappingProxyType({spec.path: view for (spec, _), view in zip(asked, found, strict=True) if view is not None})


def members(*blueprints: Blueprint | None) -> list[Spec]:
    """The machines that are members of clusters in any of the blueprints; the first that knows one says what it is."""
    known = [blueprint for blueprint in blueprints if blueprint is not None]
    paths = dict.fromkeys(path for each in known for cluster in each.clusters for path in cluster.members)
    specs = (next((each.by_path()[path] for each in known if path in each.by_path()), None) for path in paths)
    return [spec for spec in specs if spec is not None]


async def reach(goal: Goal, clustering: Clustering, hosts: Hosts, say: Say) -> str:
    """Do what it takes; what is to be known afterwards. LabError, with what a node said, where it cannot be."""
    work = _Work(goal, clustering, hosts, say)
    while True:
        known = await work.look()
        action = clustering.next(goal, known)
        match action:
            case Done():
                return action.note
            case Refused():
                raise LabError(action.what, hint=action.hint, detail=printable(action.detail[-SHOWN:]))
            case Wait():
                await work.wait(action, known)
            case Requests():
                await work.perform(action)


class _Work:
    def __init__(self, goal: Goal, clustering: Clustering, hosts: Hosts, say: Say) -> None:
        self._goal = goal
        self._clustering = clustering
        self._hosts = hosts
        self._say = say
        self._answers: list[Answer] = []
        self._rounds = 0
        self._waits: tuple[str, Mapping[str, View]] | None = None
        self._since = self._begun = 0.0
        self._said = ""

    @property
    def _asked(self) -> dict[str, str]:
        """The paths of those that run, by name."""
        nodes = [*self._goal.nodes, *([self._goal.qdevice] if self._goal.qdevice is not None else [])]
        return {node.name: node.path for node in nodes if node.name in self._goal.running and node.path}

    async def look(self) -> Known:
        async def ask(path: str) -> View | str:
            try:
                return await look(await self._hosts(path), self._clustering)
            except LabError as error:
                return error.what

        found = dict(zip(self._asked, await asyncio.gather(*map(ask, self._asked.values())), strict=True))
        seen = {name: each for name, each in found.items() if isinstance(each, View)}
        silent = {name: each for name, each in found.items() if isinstance(each, str)}
        return Known(MappingProxyType(seen), MappingProxyType(silent), tuple(self._answers))

    async def wait(self, action: Wait, known: Known) -> None:
        """Until it is worth to look again. Overdue when nothing changed for too long."""
        self._tell(action.what)
        before, self._waits = self._waits, (action.what, known.views)
        now = time.monotonic()
        if before is None:
            self._begun = now
        if before != self._waits:
            self._since = now
        limit = patience.allowed(action.seconds, self._goal.slowness)
        if now - self._since > limit or now - self._begun > CHANGES * limit:
            waited = f"Nothing changed for {patience.said(limit)}."
            if now - self._since <= limit:
                waited = f"It goes on changing, and is not done after {patience.said(now - self._begun)}."
            what = f"Cluster {self._goal.cluster}: {action.what}. {waited}"
            raise Overdue(what, hint="\n".join(filter(None, (action.hint, patience.LONGER))))
        await asyncio.sleep(patience.allowed(AGAIN, self._goal.slowness))

    async def perform(self, action: Requests) -> None:
        self._waits = None
        self._rounds += 1
        if self._rounds > REQUESTS or not action.requests:
            titles = ", ".join(dict.fromkeys(answer.request.title for answer in self._answers[-4:]))
            what = f"Cluster {self._goal.cluster} does not become what it is to be: {titles} was done again and again."
            raise LabError(what, hint="`nestlab verify` says what its members see.")
        for title in dict.fromkeys(request.title for request in action.requests):
            self._tell(title)
        self._answers += await asyncio.gather(*map(self._ask, action.requests))

    async def _ask(self, request: Request) -> Answer:
        path = self._asked.get(request.node)
        if path is None:
            return Answer(request, None, err=f"{request.node} does not run.")
        try:
            host = await self._hosts(path)
            script = as_root(request.script, *request.words)
            ended = await host.run(script, input=request.input or None, check=False, timeout=request.seconds)
        except (Unreachable, Overdue) as error:
            return Answer(request, None, err=error.what)
        out, err = (each[:SAID].decode(errors="replace") for each in (ended.stdout, ended.stderr))
        return Answer(request, ended.status, out, err)

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
