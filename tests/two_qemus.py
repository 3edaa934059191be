"""Two pretended QEMUs, of which one moves its machine to the other: what a migration's dialogues are tried on.

They keep what QEMU 10 does (docs/devel/migration): the source goes on where a migration fails, it says `completed` only
when the target has loaded all, and the target's QEMU ends where what it loads breaks off.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.qemu.migration_requests import Act, Ask, Await, Keep, Look, Request, Side
from nestlab.lab.moved_machines import Phase


class Killed(Exception):
    """nestlab was killed."""


@dataclass
class Qemu:
    """`state`: its run state, None where it does not run. `there`: the machine's directory; `disk`: what was written
    on its disk."""

    state: str | None = None
    there: bool = False
    disk: int = 0
    reached: bool = True
    version: int = 10


@dataclass
class Pair:
    """`completes`: a migration that nobody waits for any more ends all the same, rather than to break off."""

    disks: int = 1
    source: Qemu = field(default_factory=lambda: Qemu("running", there=True, disk=7))
    target: Qemu = field(default_factory=Qemu)
    phase: Phase | None = None
    kept: list[Phase | None] = field(default_factory=list)
    migration: str = "none"
    jobs: dict[str, int] = field(default_factory=dict)
    nodes: set[str] = field(default_factory=set)
    serving: bool = False
    pauses: bool = False
    joined: bool = False
    events: bool = True
    """Events tell how a migration is."""
    completes: bool = False
    refuses: str = ""
    """A command that a QEMU refuses."""
    asked: list[str] = field(default_factory=list)
    both: bool = False
    """At some moment two ran."""

    def side(self, side: Side) -> Qemu:
        return self.source if side == "source" else self.target

    def answer(self, request: Request) -> Any:
        match request:
            case Ask(side, commands):
                return [self._command(side, name, named) for name, named in commands]
            case Await():
                before = self.migration
                self._pass()
                return self.migration if self.events and self.migration != before else None
            case Act(what, side):
                self.asked.append(f"{what} {side}")
                self._act(what, side)
            case Look(side):
                qemu = self.side(side)
                return "unseen" if not qemu.reached else qemu.state or "absent"
            case Keep(phase):
                self.phase = phase
                self.kept.append(phase)
        self.both |= self.source.state == self.target.state == "running"
        return None

    def lose(self) -> None:
        """Whoever performed it is gone, and with him what the two talked through."""
        if self.joined and self.migration in ("active", "pre-switchover"):
            if self.completes and self.migration == "active" and not self.pauses:
                self._complete()
            else:
                self._break_off()
        self.jobs.clear()
        self.joined = False

    def fail(self, side: Side) -> None:
        """A hypervisor goes down, with all that runs in it."""
        self.side(side).state = None
        self.side(side).reached = True
        if side == "target" and self.migration in ("active", "pre-switchover"):
            self.migration = "failed"
            self.source.state = "running"
        self.jobs.clear()

    def _act(self, what: str, side: Side) -> None:
        qemu = self.side(side)
        if what == self.refuses:
            raise LabError(f"{what} cannot be done.", hint="")
        if not qemu.reached:
            raise Unreachable("nobody answers", hint="")
        match what:
            case "receive":
                qemu.there, qemu.state, qemu.disk = True, "inmigrate", 0
            case "join":
                self.joined = True
            case "end":
                qemu.there, qemu.state, qemu.disk = False, None, 0
            case "stop":
                qemu.state = None
            case "make":
                qemu.there = True
            case "carry":
                self.target.disk = self.source.disk
            case "start":
                assert qemu.there
                qemu.state = "running"

    def _command(self, side: Side, name: str, named: Mapping[str, Any]) -> Any:
        qemu = self.side(side)
        self.asked.append(name)
        if not qemu.reached or qemu.state is None:
            raise Unreachable("nobody answers", hint="")
        if name == self.refuses:
            raise LabError(f"QEMU refused {name}.", hint="")
        match name:
            case "query-version":
                return {"qemu": {"major": qemu.version, "minor": 0, "micro": 0}}
            case "query-pci":
                return [{"bus": 0, "devices": [{"slot": 1, "function": 0, "id": {"vendor": 1, "device": 2}}]}]
            case "query-block":
                return [{"device": f"d{n}", "inserted": {"node-name": f"#block{n}"}} for n in range(self.disks)]
            case "migrate-set-capabilities" if side == "source":
                self.pauses = "pause-before-switchover" in {each["capability"] for each in named["capabilities"]}
            case "nbd-server-start":
                self.serving = True
            case "nbd-server-stop":
                if not self.serving:
                    raise LabError("NBD server not running", hint="")
                self.serving = False
            case "blockdev-add":
                assert self.serving
                self.nodes.add(named["node-name"])
            case "blockdev-del":
                if named["node-name"] not in self.nodes or self.jobs:
                    raise LabError("in use, or not there", hint="")
                self.nodes.discard(named["node-name"])
            case "blockdev-mirror":
                self.jobs[named["job-id"]] = 0
            case "query-block-jobs":
                return [{"device": j, "offset": n, "len": 2, "ready": n >= 2} for j, n in self.jobs.items()]
            case "block-job-cancel":
                if named["device"] not in self.jobs:
                    raise LabError("no such job", hint="")
                if self.jobs.pop(named["device"]) >= 2 and not named.get("force"):
                    self.target.disk = self.source.disk
            case "migrate-incoming":
                assert qemu.state == "inmigrate"
            case "migrate":
                self.migration = "active"
            case "query-migrate":
                ram = {"transferred": 5, "remaining": 0, "total": 5}
                return {"status": self.migration, "ram": ram, "downtime": 30, "total-time": 1000}
            case "migrate-continue":
                if self.migration != "pre-switchover":
                    raise LabError("Migration is not in the expected state", hint="")
                assert not self.jobs
                self._complete()
            case "migrate_cancel":
                self._break_off()
            case "cont":
                assert qemu.state in ("paused", "postmigrate", "running")
                qemu.state = "running"
        return {}

    def _pass(self) -> None:
        """Some time."""
        self.jobs = {job: done + 1 for job, done in self.jobs.items()}
        if self.source.state == "running":
            self.source.disk += 1
        if self.migration == "active":
            if self.pauses:
                self.migration, self.source.state = "pre-switchover", "finish-migrate"
            else:
                self._complete()

    def _complete(self) -> None:
        self.migration, self.source.state, self.target.state = "completed", "postmigrate", "paused"
        if not self.disks:
            self.target.disk = self.source.disk

    def _break_off(self) -> None:
        self.migration, self.source.state, self.target.state = "failed", "running", None


def perform(
    pair: Pair,
    dialogue: Generator[Request, Any, Any],
    *,
    killed_at: int | None = None,
    done: bool = True,
    before: Callable[[int], None] = lambda _: None,
) -> int:
    """How many requests it took. `killed_at`: nestlab is killed at that one, once it is `done` or before; `before` is
    called ahead of each."""
    answer: Any = None
    error: LabError | None = None
    count = 0
    while True:
        try:
            request = dialogue.throw(error) if error is not None else dialogue.send(answer)
        except StopIteration:
            return count
        answer, error = None, None
        before(count)
        if count == killed_at and not done:
            raise Killed
        try:
            answer = pair.answer(request)
        except LabError as refused:
            error = refused
        if count == killed_at:
            raise Killed
        count += 1
