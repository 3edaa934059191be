"""Values of planning: what there is (`Observed`), what is to be done (`Step`, `Plan`), and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.kinds.clustering import View
from nestlab.lab.disks import MadeDisk
from nestlab.lab.model import parent_of
from nestlab.plan.room import NO_ROOM, Room

State = Literal["running", "paused", "stopped", "died", "killed", "broken", "unknown"]
"""`stopped`: made, and not running because it was stopped or never booted. `died`: it ran and nobody stopped it.
`killed`: it ran, and the user had its power cut (see `lab.faults`).
`broken`: half made, to be made anew. `unknown`: its hypervisor does not run, so nobody can tell."""

Want = Literal["running", "stopped", "gone"]


@frozen
class Drift:
    """Something of a machine that is not as nestlab set it: somebody changed it by hand. `what`: "memory is 1024,
    wanted 2048". `live`: it can be set back while the machine runs."""

    what: str
    live: bool = False


@frozen
class Written:
    """The bytes that are written on a machine's disks. `at_most`: only the size of the disks is known, so that it is no
    more than this. `disks`: those beside its own, by `MadeDisk.id`."""

    size: int
    at_most: bool = False
    disks: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{'up to ' if self.at_most else ''}{human(self.size)}"


@frozen
class Plugs:
    """What a running machine takes while it runs: so many disks on its PCI bus (`virtio`, `nvme`), and any on `scsi`.
    `out`: those on its PCI bus can be taken out, too."""

    pci: int = 0
    scsi: bool = False
    out: bool = False


NO_PLUGS = Plugs()


@frozen
class Seen:
    """One machine as the world shows it. `digest`, `names`, `root` and `disk` (the bytes its disk was asked to have, 0:
    those of its image) are those it was made with; None: cannot be told."""

    path: str
    state: State
    digest: str | None = None
    names: str | None = None
    accel: Literal["kvm", "tcg", "container"] | None = None
    pid: int | None = None
    since: float | None = None
    """When its QEMU started, seconds since the epoch."""
    memory: int | None = None
    """Resident bytes of its QEMU."""
    ready: bool = True
    """It came up: False while it boots, where that can be told."""
    why: str = ""
    """The reason for a state that is not `running`, where one is known."""
    node: str = ""
    """On a cluster: the node that it is on."""
    vmid: int | None = None
    """On a Proxmox VE: its number."""
    drift: tuple[Drift, ...] = ()
    """Changes made by hand. Boot sets them back: all of them while the machine does not run, the `live` ones while it
    does."""
    setup: tuple[str, ...] | None = None
    """The stamps that it has, as it says itself: the steps of its setup that are done. None: it was not asked."""
    root: str | None = None
    disk: int | None = None
    remembered: bool = False
    """Not seen now, because what it is in does not run or does not answer: as it was known before."""
    written: Written | None = None
    """The bytes that its disks take on its host, where that was asked."""
    disks: tuple[MadeDisk, ...] = ()
    """Those that it has beside its own."""
    plugs: Plugs = NO_PLUGS
    ha: bool | None = None
    """Whether high availability watches over it, by nestlab's doing. None: where it is there is none."""
    room: Room = NO_ROOM


@dataclass(frozen=True, order=True)
class HalfMade:
    """A directory that was begun for a machine on `host` ("": the lab's own) and does not say for which: its name is
    all that is known. It is no machine, and has no path."""

    host: str
    folder: str


@frozen
class Other:
    """A guest of the hypervisor `host` that is none of nestlab's: somebody made it there. `what`: for people."""

    host: str
    what: str


@frozen
class Observed:
    """The world, at every level that could be asked. `links`: segments whose switch runs on the lab's host."""

    machines: Mapping[str, Seen] = field(default_factory=lambda: MappingProxyType({}))
    links: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    """Keys of images that are built (or files that exist) on the lab's host."""
    lacking: frozenset[str] = frozenset()
    """Programs that machines on the lab's host need, and that are not there: `qemu`."""
    half_made: frozenset[HalfMade] = frozenset()
    served: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By segment that is served to what boots from it, on the lab's host: the digest of that (`lab.netboot`)."""
    clusters: Mapping[str, View] = field(default_factory=lambda: MappingProxyType({}))
    """What members of clusters say of them, by path, as far as they were asked and answered."""
    cut: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """The segments that the user cut machines off, by path (`lab.faults`)."""
    others: tuple[Other, ...] = ()
    """What people made in hypervisors, as far as those tell. nestlab leaves it alone."""


@frozen
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

    @property
    def host(self) -> str:
        """The path of the hypervisor that it is done on, "" for the lab's own host."""
        return parent_of(self.path)


@frozen
class _OfMachine(Step):
    machine: str

    @property
    def subject(self) -> str:
        return self.machine

    @property
    def path(self) -> str:
        return self.machine


@frozen
class Build(Step):
    """Build an image (by key) on the lab's host."""

    image: str

    @property
    def subject(self) -> str:
        return self.image


@frozen
class Pull(Build):
    """Download an image (by key) to the lab's host."""


@frozen
class Install(Step):
    """Fetch a program that machines on the lab's host run on, and that this host lacks."""

    program: str

    @property
    def subject(self) -> str:
        return self.program


@frozen
class Connect(Step):
    """Make a segment work on the lab's host."""

    segment: str

    @property
    def subject(self) -> str:
        return self.segment


@frozen
class Disconnect(Step):
    """Take a segment away from the lab's host."""

    segment: str

    @property
    def subject(self) -> str:
        return self.segment


@frozen
class Create(_OfMachine):
    """Make what the machine needs on its host: identity, names, disk. Of one that is there: as `Update`."""


@frozen
class Update(_OfMachine):
    """Give a machine that is there the definition of now: its next boot has it. Its disks stay, grow where they are to
    be larger, and get others beside them; that is all that a running one is given. What is half made or not there is
    made. LabError for a machine whose disk was made from something else: only `Remove` and `Discard` delete a disk."""


@frozen
class Boot(_OfMachine):
    """Start it, with what was changed by hand set back, and wait until it can be reached. Of a paused machine: let it
    go on; of a running one: set back what can be while it runs, and make sure that it can be reached."""

    keep: bool = field(default=False, kw_only=True)
    """If it does not come up it stays as it is, to be looked at, instead of being ended."""


@frozen
class Introduce(_OfMachine):
    """Tell a running machine the names of the others, and who may log in."""


@frozen
class SetUp(_OfMachine):
    """Do in a running machine what is left of its setup: write files, run commands."""


@frozen
class Stop(_OfMachine):
    """Shut it down, cleanly where it answers. Its disk stays."""


@frozen
class Remove(_OfMachine):
    """End it and delete everything of it, with all that is inside. Of what is not there: nothing."""


@frozen
class Discard(_OfMachine):
    """Take disks away from a machine, by name, and delete them; of one that runs, while it does. Of what is not there:
    nothing."""

    disks: tuple[str, ...] = ()


@frozen
class Clear(Step):
    """Delete a directory that was begun for a machine. Of what is not there: nothing."""

    rest: HalfMade

    @property
    def subject(self) -> str:
        return f"{self.rest.host}/{self.rest.folder}" if self.rest.host else self.rest.folder

    @property
    def host(self) -> str:
        return self.rest.host


@frozen
class Form(Step):
    """Make machines members of a cluster, which may be there or not, and see that it is fit for use."""

    cluster: str
    members: tuple[str, ...]
    """Paths."""

    @property
    def subject(self) -> str:
        return self.cluster


@frozen
class Join(_OfMachine):
    """Make one more machine a member of a cluster."""

    cluster: str


@frozen
class Leave(Step):
    """Take a node (by its host name) out of a cluster, and clean away what its others have of it. `machine`: its path,
    "" where that is not known any more."""

    cluster: str
    node: str
    machine: str = ""

    @property
    def subject(self) -> str:
        return f"{self.cluster}.{self.node}"


OF_CLUSTERS = (Form, Join, Leave)

STEPS: tuple[type[Step], ...] = (
    Build,
    Pull,
    Install,
    Connect,
    Disconnect,
    Create,
    Update,
    Boot,
    Introduce,
    SetUp,
    Form,
    Join,
    Leave,
    Stop,
    Remove,
    Discard,
    Clear,
)

Way = Literal["live", "restart", "anew", "remove"]
"""How a change reaches a machine that is there: `live` without a restart; `restart` with a stop and a start, its disk
kept; `anew` with its disk deleted; `remove`: it is deleted."""


@frozen
class Change:
    """One machine that is there and is to be another, or gone. `why` is a sentence for a person that begins with the
    way. `deletes`: it has something to lose. `written`: what is lost with its disk, where that was asked."""

    path: str
    way: Way
    why: str
    deletes: bool = False
    written: Written | None = None

    def data(self) -> dict[str, Any]:
        """The change as JSON data."""
        row = {"path": self.path, "way": self.way, "why": self.why, "deletes": self.deletes}
        written = self.written
        return row | {
            "written": written.size if written else None,
            "written_at_most": written.at_most if written else False,
        }


@frozen
class Plan:
    """Steps in an order that respects their needs. Empty: the world is as wanted. `changes`: of machines that are
    there, one for each that is to be another or gone."""

    lab: str
    steps: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def losses(self) -> tuple[Change, ...]:
        """The changes that delete something."""
        return tuple(change for change in self.changes if change.deletes)

    def __bool__(self) -> bool:
        return bool(self.steps)

    def data(self) -> dict[str, Any]:
        """The plan as JSON data."""
        rows = [{"id": s.id, "do": s.verb, "on": s.subject, "why": s.why, "needs": list(s.needs)} for s in self.steps]
        return {"lab": self.lab, "steps": rows, "changes": [change.data() for change in self.changes]}
