"""For how long a machine that moves answers nobody: a hypervisor that is on a network with it sends it echoes."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import parent_of
from nestlab.verbs.session import Session

BETWEEN = 0.1
"""Seconds between two echoes."""

AFTER = 10
"""Echoes that are waited for once it has moved, and for each at most so many nominal seconds:"""
LATEST = 3.0

MOST = 100_000
"""Answers that are kept: a hypervisor that says more of them than three hours have is not heard any longer."""

_REPLY = re.compile(rb"\[([0-9]{1,12}\.[0-9]{1,9})\] .*icmp_seq=[0-9]+.*time=.*")


@dataclass
class Echoes:
    """`times`: when each answer came, by the clock of who asked."""

    times: list[float] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def longest(self) -> float | None:
        """The longest time between two answers, less what lies between two questions; None where too few came."""
        seen = len(self.times)
        with contextlib.suppress(TimeoutError):
            while len(self.times) < seen + AFTER:
                self.came.clear()
                async with asyncio.timeout(patience.allowed(LATEST, 1.0)):
                    await self.came.wait()
        return gap(self.times)


def gap(times: Sequence[float]) -> float | None:
    """The longest silence in answers to echoes that were sent every BETWEEN seconds."""
    if len(times) < 2:
        return None
    return max(0.0, max(after - before for before, after in itertools.pairwise(times)) - BETWEEN)


def reply(line: bytes) -> float | None:
    """When the answer of a line of `ping -D` came; None for other lines."""
    found = _REPLY.fullmatch(line[:200].strip())
    return float(found[1]) if found else None


@asynccontextmanager
async def listening(session: Session, path: str, arrival: str, *, wanted: bool) -> AsyncIterator[Echoes | None]:
    """Echoes to a machine while the context is open; None where no hypervisor at an end is on a network with it."""
    spec = session.blueprint[path]
    for outer in (parent_of(arrival), parent_of(path)):
        address = shared(spec, session.blueprint[outer]) if wanted else None
        if address is not None:
            echoes = Echoes()
            asking = asyncio.ensure_future(_ask(await session.nest.host(outer), address, echoes))
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience.allowed(LATEST, 1.0)):
                        await echoes.came.wait()
                yield echoes
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            return
    yield None


async def _ask(host: Host, address: str, echoes: Echoes) -> None:
    with contextlib.suppress(LabError, OSError):
        async with host.lines(("ping", "-n", "-D", "-i", str(BETWEEN), address)) as lines:
            async for line in lines:
                if (at := reply(line)) is not None:
                    echoes.times.append(at)
                    echoes.came.set()
                if len(echoes.times) >= MOST:
                    return


def shared(spec: Spec, outer: Spec) -> str | None:
    """The address of a machine on a network that its hypervisor has an address on, too."""
    nets = [ipaddress.ip_interface(each).network for nic in outer.nics for each in nic.addresses]
    for nic in spec.nics:
        for each in nic.addresses:
            if ipaddress.ip_interface(each).network in nets:
                return each.partition("/")[0]
    return None
