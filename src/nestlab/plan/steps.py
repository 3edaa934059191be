"""Values of planning: what there is (`Observed`), what is to be done (`Step`, `Plan`), and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

State = Literal["running", "paused", "stopped", "died", "broken", "unknown"]
"""`stopped`: made, and not running because it was stopped or never booted. `died`: it ran and nobody stopped it.
`broken`: half made, to be made anew. `unknown`: its hypervisor does not run, so nobody can tell."""

Want = Literal["running", "stopped", "gone"]


@dataclass(frozen=True)
class Drift:
    """Something of a machine that is not as nestlab set it: somebody changed it by hand. `what`: "memory is 1024,
    wanted 2048". `live`: it can be set back while the machine runs."""

    what: str
    live: bool = False


@dataclass(frozen=True)
class Seen:
    """One machine as the world shows it. `digest`, `names`, `root` and `disk` (the bytes its disk was asked to have, 0:
    those of its image) are those it was made with; None: cannot be told."""

    path: str
    state: State
    digest: str | None = None
    names: str | None = None
    accel: Literal["kvm", "tcg"] | None = None
    pid: int | None = None
    since: float | None = None
    """When its QEMU started, seconds since the epoch."""
    memory: int | None = None
    """Resident bytes of its QEMU."""
    ready: bool = True
    """It came up: False while it boots, where that can be told."""
    why: str = ""
    """What is known about a state that is not `running`."""
    node: str = ""
    """On a cluster: the node that it is on."""
    vmid: int | None = None
    """On a Proxmox VE: its number."""
    drift: tuple[Drift, ...] = ()
    """What of it was changed by hand. Boot sets that back: of a machine that does not run all of it, of one that runs
    what is `live`."""
    setup: tuple[str, ...] | None = None
    """What it is stamped with, as it says itself: the steps of its setup that are done. None: it was not asked."""
    root: str | None = None
    disk: int | None = None
    remembered: bool = False
    """Not seen now, because what it is in does not run or does not answer: as it was known before."""
    written: int | None = None
    """Bytes that its disk takes on its host, where that was asked."""


@dataclass(frozen=True)
class Observed:
    """The world, at every level that could be asked. `links`: segments whose switch runs on the lab's host."""

    machines: Mapping[str, Seen] = field(default_factory=lambda: MappingProxyType({}))
    links: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    """Keys of images that are built (or files that exist) on the lab's host."""
    lacking: frozenset[str] = frozenset()
    """Programs that machines on the lab's host need, and that are not there: `qemu`."""


@dataclass(frozen=True)
class Step:
    """One thing to do. `id` is unique in a plan; `needs` are ids of steps that must have succeeded before."""

    why: str
    needs: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def id(self) -> str:
        return f"{self.verb}:{self.subject}"

    @property
    def verb(self) -> str:
        return type(self).__name__.lower()

    @property
    def subject(self) -> str:
        raise NotImplementedError

    @property
    def path(self) -> str:
        """The machine it is about, or ""."""
        return ""


@dataclass(frozen=True)
class _OfMachine(Step):
    machine: str

    @property
    def subject(self) -> str:
        return self.machine

    @property
    def path(self) -> str:
        return self.machine


@dataclass(frozen=True)
class Build(Step):
    """Build an image (by key) on the lab's host."""

    image: str

    @property
    def subject(self) -> str:
        return self.image


@dataclass(frozen=True)
class Install(Step):
    """Fetch a program that machines on the lab's host run on, and that this host lacks."""

    program: str

    @property
    def subject(self) -> str:
        return self.program


@dataclass(frozen=True)
class Connect(Step):
    """Make a segment work on the lab's host."""

    segment: str

    @property
    def subject(self) -> str:
        return self.segment


@dataclass(frozen=True)
class Disconnect(Step):
    """Take a segment away from the lab's host."""

    segment: str

    @property
    def subject(self) -> str:
        return self.segment


@dataclass(frozen=True)
class Create(_OfMachine):
    """Make what the machine needs on its host: identity, names, disk. Of one that is there: as `Update`."""


@dataclass(frozen=True)
class Update(_OfMachine):
    """Give a machine that is there the definition of now: its next boot has it. Its disk stays, and grows where it is
    to be larger; that is all that a running one is given. What is half made or not there is made. LabError for a
    machine whose disk was made from something else: only `Remove` deletes a disk."""


@dataclass(frozen=True)
class Boot(_OfMachine):
    """Start it, with what was changed by hand set back, and wait until it can be reached. Of a paused machine: let it
    go on; of a running one: set back what can be while it runs, and make sure that it can be reached."""

    keep: bool = field(default=False, kw_only=True)
    """If it does not come up it stays as it is, to be looked at, instead of being ended."""


@dataclass(frozen=True)
class Introduce(_OfMachine):
    """Tell a running machine the names of the others, and who may log in."""


@dataclass(frozen=True)
class SetUp(_OfMachine):
    """Do in a running machine what is left of its setup: write files, run commands."""


@dataclass(frozen=True)
class Stop(_OfMachine):
    """Shut it down, cleanly where it answers. Its disk stays."""


@dataclass(frozen=True)
class Remove(_OfMachine):
    """End it and delete everything of it, with all that is inside. Of what is not there: nothing."""


STEPS: tuple[type[Step], ...] = (
    Build,
    Install,
    Connect,
    Disconnect,
    Create,
    Update,
    Boot,
    Introduce,
    SetUp,
    Stop,
    Remove,
)

Way = Literal["live", "restart", "anew", "remove"]
"""How a change reaches a machine that is there: `live` without a restart; `restart` with a stop and a start, its disk
kept; `anew` with its disk deleted; `remove`: it is deleted."""


@dataclass(frozen=True)
class Change:
    """One machine that is there and is to be another, or gone. `why` is a sentence for a person that begins with the
    way. `deletes`: it has something to lose. `written`: bytes that are lost with its disk, where that was asked."""

    path: str
    way: Way
    why: str
    deletes: bool = False
    written: int | None = None

    def data(self) -> dict[str, Any]:
        """The change as JSON data."""
        return {"path": self.path, "way": self.way, "why": self.why, "deletes": self.deletes, "written": self.written}


@dataclass(frozen=True)
class Plan:
    """Steps in an order that respects their needs. Empty: the world is as wanted. `changes`: of machines that are
    there, one for each that is to be another or gone."""

    lab: str
    steps: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def losses(self) -> tuple[Change, ...]:
        """What it deletes."""
        return tuple(change for change in self.changes if change.deletes)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def data(self) -> dict[str, Any]:
        """The plan as JSON data."""
        rows = [{"id": s.id, "do": s.verb, "on": s.subject, "why": s.why, "needs": list(s.needs)} for s in self.steps]
        return {"lab": self.lab, "steps": rows, "changes": [change.data() for change in self.changes]}
