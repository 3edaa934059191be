"""What forwards of ports an engine can keep for a machine that runs: as long as it does, without nestlab."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from nestlab.base.frozen import frozen


@frozen
class Rule:
    """`bind:local` of the host that a machine runs on leads to `address:port`, the machine's own. `local` 0: any."""

    bind: str
    local: int
    address: str
    port: int


class PortTaken(Exception):
    """Somebody else listens there, or nobody may."""

    def __init__(self, bind: str, port: int) -> None:
        super().__init__(f"{bind}:{port}")
        self.port = port


class Rules(Protocol):
    """Of one machine."""

    async def all(self) -> tuple[Rule, ...]:
        """Those that there are."""

    async def add(self, rule: Rule) -> Rule:
        """Add one; with the port that it got. PortTaken."""

    async def remove(self, rule: Rule) -> None:
        """Remove one; one that is not there is no error."""


@runtime_checkable
class Forwarding(Protocol):
    """An engine that can forward ports."""

    def forwards(self, path: str) -> AbstractAsyncContextManager[Rules]:
        """Those of a running machine. Unreachable where it does not run."""
