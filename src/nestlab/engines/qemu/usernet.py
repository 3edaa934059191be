"""The ports that a machine's QEMU forwards to it, by its management card: asked, added and removed while it runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from nestlab.base.errors import LabError
from nestlab.engines.port_rules import PortTaken, Rule
from nestlab.wire.shapes import odd

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

NETDEV = "mgmt"

MOST = 1000
"""Forwards of one machine that are read."""

_HUB = re.compile(r"(?:Hub -?[0-9]+ \((\w+)\)|(\w+)):?")
_ROW = re.compile(r"\s*TCP\[HOST_FORWARD\]\s+[0-9]+\s+([0-9.]{7,15})\s+([0-9]{1,5})\s+([0-9.]{7,15})\s+([0-9]{1,5})\s")


def rules(text: str) -> tuple[Rule, ...]:
    """The forwards of the management card in what `info usernet` printed, and nothing else in it."""
    found, ours = [], False
    for line in text.splitlines():
        if head := _HUB.match(line.strip()) if not line.startswith(" ") else None:
            ours = NETDEV in head.groups()
        elif ours and (row := _ROW.match(f"{line} ")):
            found.append(Rule(row[1], int(row[2]), row[3], int(row[4])))
    return tuple(found[:MOST])


class Usernet:
    """See `nestlab.engines.port_rules.Rules`."""

    def __init__(self, monitor: Monitor, path: str) -> None:
        self._monitor = monitor
        self._path = path

    async def all(self) -> tuple[Rule, ...]:
        return rules(await self._said("info usernet"))

    async def add(self, rule: Rule) -> Rule:
        before = await self.all()
        said = await self._said(f"hostfwd_add {NETDEV} tcp:{rule.bind}:{rule.local}-{rule.address}:{rule.port}")
        if "Could not set up host forwarding rule" in said:
            raise PortTaken(rule.bind, rule.local)
        if said:
            raise LabError(f"QEMU of {self._path} does not forward port {rule.port}: {said[:200]}.")
        new = [each for each in await self.all() if each not in before and each.port == rule.port]
        if len(new) != 1:
            raise odd(f"QEMU of {self._path}", "info usernet", "the port that was added is not in it")
        return new[0]

    async def remove(self, rule: Rule) -> None:
        await self._said(f"hostfwd_remove {NETDEV} tcp:{rule.bind}:{rule.local}")

    async def _said(self, line: str) -> str:
        said = await self._monitor.execute("human-monitor-command", command_line=line)
        if not isinstance(said, str):
            raise odd(f"QEMU of {self._path}", line.partition(" ")[0], "it is no text")
        return said.strip()


def opened(
    monitor: Callable[[], AbstractAsyncContextManager[Monitor]], path: str
) -> AbstractAsyncContextManager[Usernet]:
    """The forwards of a running machine."""

    @asynccontextmanager
    async def rules_of() -> AsyncIterator[Usernet]:
        async with monitor() as connected:
            yield Usernet(connected, path)

    return rules_of()
