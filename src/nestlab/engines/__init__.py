"""What an engine is: it makes steps real on one host. Its guests may be hosts of further engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from nestlab.base.events import Say
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.steps import Observed, Step


class Engine(Protocol):
    """Engines ask the world, never a state file of their own, and every step may be repeated."""

    async def observe(self) -> Observed:
        """The lab's machines directly on this host, also those that no lab file mentions any more,
        with the segments and images of this host."""

    async def perform(self, step: Step, blueprint: Blueprint, say: Say) -> str | None:
        """Make one step real. LabError when the world refuses. What it returns is to be known of how it was done."""

    async def host(self, path: str) -> Host:
        """The running machine `path` (directly on this host) as a host. Unreachable when it does not answer."""

    async def accel(self, path: str) -> Literal["kvm", "tcg"]:
        """The accelerator of the running machine `path`, asked of the process that runs it (QMP's query-kvm)."""

    async def close(self) -> None:
        """Let go of connections; machines go on."""


@runtime_checkable
class Asking(Protocol):
    """An engine that can look and have its host run a script in the same round trip."""

    async def observe_and_ask(self, script: str, words: Sequence[str]) -> tuple[Observed, str]:
        """See `Engine.observe`, and what a POSIX sh script with arguments, the body of a function, printed on its
        host."""


@dataclass(frozen=True)
class Sshd:
    """The sshd of a running machine, reached at `host:port` from the host that the machine runs on."""

    path: str
    port: int
    user: str = "root"
    host: str = "127.0.0.1"


@runtime_checkable
class Listening(Protocol):
    """An engine that knows where the sshds of its machines listen."""

    async def sshds(self) -> tuple[Sshd, ...]:
        """Those of the machines that run directly on this host and can be reached from it by TCP."""


@runtime_checkable
class Weighing(Protocol):
    """An engine that can tell what the disks of machines take."""

    async def written(self, paths: Sequence[str]) -> Mapping[str, int]:
        """Bytes by path, of those machines directly on this host that have a disk, as far as they can be told."""


class Inside(Protocol):
    """Makes the engine for the machines inside a hypervisor."""

    def __call__(self, lab: str, parent: Host) -> Engine: ...


__all__ = ["Asking", "Engine", "Inside", "Listening", "Sequence", "Sshd", "Weighing"]
