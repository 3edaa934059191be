"""Looks at the machines of a lab on one host: in one round trip, and each QEMU for its state."""

from __future__ import annotations

import asyncio
import re
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.qemu import observed, scripts, step_time
from nestlab.engines.qemu.environment import Environment
from nestlab.engines.qemu.observed import Look, Report
from nestlab.home.paths import short_id
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.plan.steps import Seen, Written
from nestlab.wire.own_thread import own_thread

Said = tuple[str, bool]
"""What a QEMU says of itself: its state, and whether it runs on KVM."""

AT_ONCE = 16
"""QEMUs that are asked for their state at one time."""

_WRITTEN = re.compile(r"([0-9]{1,15})\t([0-9a-f]{8})/(disk(?:-[0-9a-f]{8})?)\.qcow2")


@dataclass
class Observer:
    """At one lab's machines on one host. `up`: machines that nestlab itself saw coming up since they were started."""

    parent: Host
    environment: Environment
    up: set[str] = field(default_factory=set)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def report(self) -> Report:
        """What there is. LabError in the host's name when it answers too late, too much, or nonsense."""
        script, words = self._question()
        if isinstance(self.parent, LocalHost) and not Path(words[0]).exists():
            return Report()
        argv = ("sh", "-c", scripts.alone(script), "look", *words)
        return self._told((await self.parent.run(argv, timeout=self.limit(step_time.LOOK))).text)

    async def report_and_ask(self, script: str, words: Sequence[str]) -> tuple[Report, str]:
        """The same, and what a script prints there, in one round trip."""
        both = scripts.together(self._question(), (script, words))
        result = await self.parent.run(both, timeout=self.limit(step_time.ASKED))
        looked, *said = scripts.apart(result.text)
        return self._told(looked), "".join(said)

    async def said(self, path: str) -> Said:
        """What a machine's QEMU says. Unreachable when it does not answer as one does."""
        from nestlab.wire import qmp

        questions = ("query-status", "query-kvm")
        limit = patience.allowed(qmp.TIMEOUT, self.parent.slowness)
        async with self._turns, self.parent.unix(self.environment.place.of(path).qmp) as socket:
            status, kvm = await own_thread(lambda: qmp.ask(socket, questions, timeout=limit, where=path))
        if not isinstance(status, dict) or not isinstance(kvm, dict):
            what = f"QEMU of {path} answers what no QEMU does."
            raise Unreachable(what, hint=f"`nestlab stop {path}` and `up` start it again.")
        return str(status.get("status")), kvm.get("enabled") is True

    async def state(
        self, found: Look, answers: Callable[[Look], Awaitable[bool]], asked: Future[Said] | None = None
    ) -> Seen:
        """A machine with what its QEMU says of it, if its process lives. `answers`: whether one whose console does not
        tell answers by now; `asked`: its QEMU is being asked already."""
        seen = found.seen
        if seen.state != "running":
            return seen
        try:
            said, kvm = await (asked or self.said(seen.path))
        except LabError as error:
            return replace(seen, accel=None, why=f"its QMP does not answer: {error.what}")
        state, why = observed.RUN_STATES.get(said, ("running", ""))
        seen = replace(seen, state=state, accel="kvm" if kvm else "tcg", why=why or seen.why)
        if found.boot.accel == "container":
            seen = replace(seen, accel="container")
        if state == "running" and not seen.ready and found.boot.asked and await answers(found):
            return replace(seen, ready=True, why="")
        return seen

    async def written(self, paths: Sequence[str]) -> Mapping[str, Written]:
        """See `nestlab.engines.Weighing`."""
        place = self.environment.place
        by_name = {short_id(path): path for path in paths}
        argv = ("sh", "-c", scripts.WRITTEN, "written", place.machines, *by_name)
        result = await self.parent.run(argv, timeout=self.limit(step_time.LOOK))
        rows = [row for line in result.text.splitlines() if (row := _WRITTEN.fullmatch(line))]
        sizes: dict[str, dict[str, int]] = {}
        for row in rows:
            if row[2] in by_name:
                sizes.setdefault(by_name[row[2]], {})[row[3]] = int(row[1]) << 10
        return {path: _sum(each) for path, each in sizes.items()}

    def limit(self, seconds: float) -> float | None:
        """Nominal seconds for what a hypervisor is asked; this machine has as long as it takes."""
        return seconds if self.parent.level else None

    def _told(self, text: str) -> Report:
        return observed.parse(text, now=time.time(), parent=self.parent.path)

    def _question(self) -> tuple[str, tuple[str, ...]]:
        known = " ".join(short_id(path) for path in sorted(self.up))
        return observed.SCRIPT, (self.environment.place.machines, self.environment.lab, known)


def _sum(sizes: Mapping[str, int]) -> Written:
    """`sizes`: of all disks of a machine, by the names of their files."""
    return Written(sum(sizes.values()), disks=tuple((disk, size) for disk, size in sizes.items() if disk != "disk"))
