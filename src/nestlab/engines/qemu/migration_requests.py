"""What a migration's dialogues ask for, and what they are about. Pure.

A dialogue is a generator: it yields requests and is sent what they are answered. So every branch of it, and a kill of
nestlab at every request, is a unit test.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.lab.moved_machines import Phase

Side = Literal["source", "target"]


@frozen
class Ask:
    """Commands for a QEMU's monitor, sent at once; answered by a list of what they return. LabError is thrown in where
    it refuses one, or does not answer."""

    side: Side
    commands: tuple[tuple[str, Mapping[str, Any]], ...]


@frozen
class Await:
    """Wait for an event of the source's QEMU, or so many nominal seconds. Answered by the state of the migration that
    the last event told, or nothing."""

    seconds: float


@frozen
class Act:
    """`receive`: make the machine at the target, and start its QEMU, which waits. `join`: have the sockets at the
    source lead to those at the target. `end`: end the machine at a side, and delete it there; LabError is thrown in
    where that cannot be done now. Of one that does not move while it runs: `stop` and `start` it, `make` it at the
    target, `carry` what is in its directory there."""

    what: Literal["receive", "join", "end", "stop", "make", "carry", "start"]
    side: Side = "target"


@frozen
class Look:
    """How a side's QEMU is: its run state, `absent` where none runs, `unseen` where nobody can tell."""

    side: Side


@frozen
class Keep:
    """Write down how far it is; None: it is over, and nothing is left to do. `quick`: it need not outlast a power cut,
    which ends both QEMUs."""

    phase: Phase | None
    quick: bool = False


@frozen
class Say:
    text: str


Request: TypeAlias = Ask | Await | Act | Look | Keep | Say


@frozen
class Disk:
    """A writable disk of a machine: what it is called in both QEMUs (a drive of the command line, or a block node)."""

    name: str
    is_node: bool = False


@frozen
class Sockets:
    """Unix sockets, on the hosts of source and target: the stream of the migration, and the disks' NBD server."""

    stream: str
    disks: str


@frozen
class Journey:
    """A machine on its way. `runs`: it is not paused; `down`: its cards whose links are down, as QEMU calls them."""

    path: str
    source: Sockets
    target: Sockets
    disks: tuple[Disk, ...] = ()
    runs: bool = True
    down: tuple[str, ...] = ()


@frozen
class Moved:
    """`downtime`, `total` in seconds: for how long no instruction of it ran, as QEMU measured it, and how long its
    memory took; `sent`: bytes of its memory."""

    downtime: float = 0.0
    total: float = 0.0
    sent: int = 0


Dialogue: TypeAlias = Generator[Request, Any, Moved]

TICK = 1.0
"""Nominal seconds between two looks at how far it is."""


def node_of(disk: Disk) -> str:
    """The block node at the source that leads to a disk at the target."""
    return f"moves-{disk.name}"


def ask(side: Side, command: str, **arguments: Any) -> Generator[Request, Any, Any]:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    answers = yield Ask(side, ((command, named),))
    return answers[0]


def tolerant(side: Side, command: str, **arguments: Any) -> Generator[Request, Any, None]:
    try:
        yield from ask(side, command, **arguments)
    except LabError:
        return


def all_disks(own: bool, others: Sequence[str]) -> tuple[Disk, ...]:
    """The disks of a machine: its own, if it has one, and those beside it by their block nodes."""
    return (*((Disk("d0"),) if own else ()), *(Disk(each, is_node=True) for each in others))
