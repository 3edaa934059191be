"""What an engine is: it makes steps real on one host. Its guests may be hosts of further engines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen

if TYPE_CHECKING:  # their import takes a tenth of `nestlab status`, which needs a part of the engine
    from socket import socket

    from nestlab.base.events import Say
    from nestlab.base.keyboard import Chord
    from nestlab.base.picture import Picture
    from nestlab.hosts.host import Host
    from nestlab.lab.blueprint import Blueprint, Spec
    from nestlab.lab.readiness import Ready
    from nestlab.plan.steps import Observed, Step, Written


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


@frozen
class Sshd:
    """The sshd of a running machine, reached at `host:port` from the host that the machine runs on; `carried`: no
    network leads there, and the engine carries connections to it (see `Carrying`)."""

    path: str
    port: int
    user: str = "root"
    host: str = "127.0.0.1"
    carried: bool = False


@runtime_checkable
class Listening(Protocol):
    """An engine that knows where the sshds of its machines listen."""

    async def sshds(self) -> tuple[Sshd, ...]:
        """Those of the machines that run directly on this host and can be reached."""


@runtime_checkable
class Carrying(Protocol):
    """An engine that carries connections to the sshds of machines that no network leads to."""

    def carried(self, path: str) -> AbstractAsyncContextManager[socket]:
        """A connected socket that leads to the sshd of a running machine while the context is open. Unreachable when
        the machine does not run, or, when the context is left, for what ended the connection."""


@runtime_checkable
class Weighing(Protocol):
    """An engine that can tell what the disks of machines take."""

    async def written(self, paths: Sequence[str]) -> Mapping[str, Written]:
        """What is written, by path, of those machines directly on this host that have a disk, as far as it can be
        told."""


@runtime_checkable
class Renamable(Protocol):
    """An engine whose machines carry the lab's name where they are."""

    async def rename(self, lab: str, intend: Callable[[Collection[int]], None]) -> None:
        """Give them another lab's name; none may run. `intend` is called before the first one gets it, with the numbers
        of all, and keeps that. LabError, before anything is changed, when one cannot be given it."""


@runtime_checkable
class Showing(Protocol):
    """An engine whose machines may have a screen and a keyboard."""

    async def picture(self, path: str) -> Picture:
        """What the screen of a running machine shows. LabError where it has none."""

    async def press(self, path: str, keys: Sequence[Chord]) -> None:
        """Press keys of a running machine's keyboard, one after another."""


@runtime_checkable
class Failing(Protocol):
    """An engine whose machines can be made to fail on purpose."""

    async def kill(self, path: str) -> bool:
        """End a machine that runs at once, as a power cut does. False where it does not run."""

    async def link(self, spec: Spec, segment: str, *, up: bool) -> None:
        """Take the links of a machine to a segment down, or up again; of what is so already, nothing changes. Its
        system sees that (NO-CARRIER). The card that leads to its host stays as it is."""

    async def impair(self, blueprint: Blueprint) -> None:
        """Frames that pass this host are impaired as the user wants them to be, and no others."""


@frozen
class View:
    """The VNC server of a machine: a local path of its unix socket, and a password that lets in for `seconds`."""

    LENGTH: ClassVar[int] = 8
    """Characters of a password: VNC looks at no more."""
    OPEN: ClassVar[float] = 60.0
    """Nominal seconds in which a viewer connects."""

    socket: str
    password: str
    seconds: int


@runtime_checkable
class Viewed(Protocol):
    """An engine whose machines' screens a VNC viewer can show."""

    def viewed(self, path: str) -> AbstractAsyncContextManager[View]:
        """The screen of a running machine, while the context is open. LabError where it has none."""


@runtime_checkable
class Judging(Protocol):
    """An engine that tells from outside how its machines are, of those too that nobody logs in to."""

    async def is_up(self, spec: Spec) -> bool:
        """Whether a machine that runs is up, by what its `ready:` names, or has been since its start."""

    async def shown(self, path: str) -> tuple[str, str]:
        """`vmx` or `svm` (or both words, where it is one of them), if the CPU of a machine that runs shows it, else "";
        and who says so."""


def no_login(path: str, ready: Ready) -> LabError:
    """The error for everything that would need a login to a machine that nestlab does not log in to."""
    hint = f"`nestlab console {path}` shows its serial console. `ready: ssh` is for systems that take the lab's key."
    return LabError(f"nestlab does not log in to {path}: its lab file says or means `{ready.said}`.", hint=hint)


class Inside(Protocol):
    """Makes the engine for the machines inside a hypervisor."""

    def __call__(self, lab: str, parent: Host) -> Engine: ...


__all__ = [
    "Asking",
    "Carrying",
    "Engine",
    "Failing",
    "Inside",
    "Judging",
    "Listening",
    "Renamable",
    "Sequence",
    "Showing",
    "Sshd",
    "View",
    "Viewed",
    "Weighing",
    "no_login",
]
