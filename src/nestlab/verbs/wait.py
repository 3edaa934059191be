"""Waiting until machines are as far as somebody needs them: reached over ssh, proven, or with a port or unit up.

What is waited for is watched where it happens: a login is held open until the machine's sshd takes it, a unit by its
journal, a port in the machine itself. Only what has no event (a machine that nobody has started yet) is looked for
again and again, at growing intervals.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines import no_login
from nestlab.lab.readiness import Ready
from nestlab.plan import states

if TYPE_CHECKING:
    from nestlab.hosts.host import Host
    from nestlab.verbs.session import Session

FIRST, LONGEST = 0.5, 5.0
"""Seconds between two looks, growing."""

GOALS = "ready, ssh, proofs, quorum, port:8006 or unit:NAME"

PORT = r"""
hex=$(printf %04X "$1")
listens() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q ":$hex [0-9A-F]*:0000 0A "; }
listens || echo "- nothing listens on port $1"
until listens; do sleep 1; done
echo "+ port $1 is listened on"
"""
"""Argument: a TCP port. 0A is TCP_LISTEN (Linux, net/tcp_states.h); who listens has no peer, whose port is 0."""

UNIT = r"""
unit=$1
command -v systemctl >/dev/null || { echo "! it has no systemd"; exit 0; }
case $unit in *.*) ;; *) unit=$unit.service ;; esac
seen=
look() { # 0: it is as wanted, or never will be; what changed is said
  load= active= sub=
  found=$(systemctl show -p LoadState -p ActiveState -p SubState -- "$unit")
  while IFS='=' read -r key value; do
    case $key in LoadState) load=$value ;; ActiveState) active=$value ;; SubState) sub=$value ;; esac
  done <<END
$found
END
  case $load/$active in
    */active) echo "+ $unit is active ($sub)"; return 0 ;;
    */failed) echo "! $unit failed"; return 0 ;;
    not-found/*) now="there is no unit $unit" ;;
    *) now="$unit is $active ($sub)" ;;
  esac
  [ "$now" = "$seen" ] || echo "- $now"
  seen=$now
  return 1
}
look && exit 0
{ journalctl -q -f -n 1 -o cat "UNIT=$unit" & while sleep 5; do echo; done; } 2>/dev/null | while read -r line; do
  look && exit 0
done
"""
"""Argument: a unit. What systemd says about it in the journal is the event; every five seconds it is looked at anyway,
for what is done without a word."""


@frozen
class Goal:
    """What is waited for. `what`: the port or the unit."""

    kind: Literal["ready", "ssh", "proofs", "quorum", "port", "unit"]
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.what}" if self.what else self.kind


@frozen
class Outcome:
    """How it ended for one machine ("" for the lab as a whole). `seen`: what was seen last."""

    path: str
    ok: bool
    seen: str


def parse_goal(text: str) -> Goal:
    """`ready`, `ssh`, `proofs`, `quorum`, `port:8006` or `unit:nginx`. LabError for anything else."""
    kind, _, what = text.partition(":")
    for word in ("ready", "ssh", "proofs", "quorum"):
        if text == word:
            return Goal(word)
    if kind == "port" and what.isascii() and what.isdigit() and 0 < int(what) < 65536:
        return Goal("port", str(int(what)))
    if kind == "unit" and what and not what.startswith("-") and what.isprintable() and " " not in what:
        return Goal("unit", what)
    raise LabError(f"{text!r} is nothing that can be waited for.", hint=f"--for takes {GOALS}.")


async def wait(
    session: Session, paths: Sequence[str], goal: Goal, timeout: float | None, say: Callable[[str, str], None]
) -> list[Outcome]:
    """Wait for all of these machines, at most `timeout` seconds (None: as long as it takes). `say` is told what is seen
    of each whenever that changes. LabError where a goal needs a login to a machine that nestlab does not log in to."""
    for spec in (session.blueprint[path] for path in paths if goal.kind in ("ssh", "unit")):
        if not spec.machine.by_ssh and not spec.sealed:
            raise no_login(spec.machine.name, spec.machine.ready)
    if goal.kind == "quorum":
        paths = _members(session, paths)
    watch = _Watch(session, goal, say)
    if goal.kind == "proofs":
        work = [asyncio.ensure_future(watch.proofs(paths))]
    else:
        work = [asyncio.ensure_future(watch.machine(path)) for path in paths]
    try:
        await asyncio.wait(work, timeout=timeout)
    finally:
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    for each in work:
        if not each.cancelled() and (error := each.exception()) is not None:
            raise error
    if goal.kind == "proofs":
        return [work[0].result() if not work[0].cancelled() else Outcome("", False, watch.seen.get("", "nothing yet"))]
    return [
        each.result() if not each.cancelled() else Outcome(path, False, watch.seen.get(path, "nothing yet"))
        for path, each in zip(paths, work, strict=True)
    ]


def _members(session: Session, paths: Sequence[str]) -> list[str]:
    """Those of the machines that are members of clusters. LabError where none is."""
    members = {path for cluster in session.blueprint.clusters for path in cluster.members}
    found = [path for path in paths if path in members]
    if not found:
        what = f"None of {', '.join(paths[:5])} is a member of a cluster."
        raise LabError(what, hint="`clusters:` in the lab file says who is (docs/clusters.md).")
    return found


class _Watch:
    def __init__(self, session: Session, goal: Goal, say: Callable[[str, str], None]) -> None:
        self.seen: dict[str, str] = {}
        self._session = session
        self._goal = goal
        self._say = say
        self._looking = asyncio.Lock()

    def _note(self, path: str, text: str) -> None:
        if self.seen.get(path) != text:
            self.seen[path] = text
            self._say(path, text)

    async def machine(self, path: str) -> Outcome:
        async for _ in _again():
            try:
                if self._session.blueprint[path].machine.by_ssh:
                    outcome = await self._on(await self._session.nest.host(path), path)
                else:
                    outcome = await self._outside(path)
            except LabError as error:
                self._note(path, await self._state(path) or error.what.rstrip("."))
                continue
            if outcome is not None:
                return outcome
        raise AssertionError("it is looked for again and again")

    async def _on(self, host: Host, path: str) -> Outcome | None:
        """On a machine that can be reached. None: it must be looked at again."""
        if self._goal.kind in ("ready", "ssh"):
            await host.run(("true",))
            return Outcome(path, True, "it answers over ssh")
        if self._goal.kind == "quorum":
            return await self._quorum(host, path)
        script = PORT if self._goal.kind == "port" else UNIT
        async with host.lines(("sh", "-c", script, "wait", self._goal.what)) as lines:
            async for line in lines:
                mark, _, text = line.decode(errors="replace").partition(" ")
                if mark in ("+", "!"):
                    return Outcome(path, mark == "+", text)
                self._note(path, text)
        return None

    async def _quorum(self, host: Host, path: str) -> Outcome | None:
        """By its own view of its cluster. None: it must be looked at again."""
        from nestlab.verbs import cluster_work

        clustering = cluster_work.clustering_of(self._session.blueprint[path])
        if clustering is None:
            raise LabError(f"nestlab makes no clusters of what {path} is.")
        view = await cluster_work.look(host, clustering)
        votes = f"{view.total} of {view.expected} votes"
        if view.usable and view.quorate:
            return Outcome(path, True, f"cluster {view.cluster} is quorate: {votes}")
        self._note(path, view.why or f"cluster {view.cluster} has no quorum: {votes}")
        return None

    async def _outside(self, path: str) -> Outcome | None:
        """Of a machine that nestlab does not log in to. None: it must be looked at again."""
        ready = self._session.blueprint[path].machine.ready
        if self._goal.kind == "port":
            ready = Ready("port", port=int(self._goal.what))
        state = await self._state(path)
        if not state and await self._session.nest.is_up(path, ready):
            return Outcome(path, True, ready.seen)
        self._note(path, state or ready.unseen)
        return None

    async def _state(self, path: str) -> str:
        """Why a machine cannot be reached, as far as its state tells; "" where it runs. One look at a time: each asks
        at every level."""
        async with self._looking:
            await self._session.nest.drop(path)
            try:
                seen = (await self._session.look()).machines.get(path)
            except LabError as error:
                return error.what.rstrip(".")
        if seen is None:
            return "it is not made yet"
        if seen.why and (seen.state == "unknown" or seen.remembered):  # what it is in does not run
            return seen.why
        if seen.state != "running":
            return f"{states.said(seen)}{f': {seen.why}' if seen.why else ''}"
        return "" if seen.ready else "it is still booting"

    async def proofs(self, paths: Sequence[str]) -> Outcome:
        wanted = set(paths)
        async for _ in _again():
            try:
                verdict = await self._session.verify(lambda _: None)
            except LabError as error:
                self._note("", error.what.rstrip("."))
                continue
            failed = [proof for proof in verdict.failed() if not proof.path or proof.path in wanted]
            if not failed:
                count = sum(proof.ok is True and proof.path in wanted for proof in verdict.proofs)
                return Outcome("", True, f"{count} claims hold")
            first = failed[0]
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            self._note("", f"{first.path or 'the host'}: {first.claim}: {first.seen}{more}")
        raise AssertionError("it is looked for again and again")


async def _again() -> AsyncIterator[None]:
    """Now, and again and again at growing intervals."""
    pause = FIRST
    while True:
        yield
        await asyncio.sleep(pause)
        pause = min(LONGEST, pause * 1.5)
