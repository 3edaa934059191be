"""Saves a whole lab at one moment: all machines stand still before any is saved, and go on together.

A snapshot is tried before it is published: another QEMU loads what was saved. Killed at any point, no half of one is
ever listed, and what was paused goes on: a process that stands by lets the outermost machines go at once, and the next
command (`verbs.snapshot_recovery`) all that is left.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from nestlab import __version__
from nestlab.base import files, patience
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.engines.qemu import let_go, memory_file, records, saving
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.home import snapshots as kept
from nestlab.home.paths import short_id
from nestlab.lab.places import called
from nestlab.lab.snapshots import Built, Ground, Manifest, Saved, SavedMachine
from nestlab.verbs import inner_machines, memory_nonce, snapshot_trial
from nestlab.verbs.platform import LocalPlatform
from nestlab.verbs.session import Session
from nestlab.wire import proc
from nestlab.wire.qmp import Monitor

Say = Callable[[str], None]

RUNS = ("running", "paused")

OFF = ("stopped", "died", "killed")

SPARE = 64 << 20
"""Bytes that are left free."""

STANDBY = 30.0
"""Nominal seconds in which the process that stands by is there."""


@frozen
class Machine:
    """One on the lab's own host that is saved. `was`: see `SavedMachine`; `memory`: with its memory."""

    path: str
    root: Path
    was: Literal["running", "paused", "off"]
    memory: bool


async def engine_of(session: Session, what: str) -> QemuEngine:
    """The engine of the lab's own level. LabError where snapshots of such labs are not made: `what` is to be done."""
    engine = await session.nest.engine()
    if not isinstance(session.platform, LocalPlatform) or type(engine) is not QemuEngine:
        where = called(session.blueprint.on)
        hint = "Labs on this machine alone (without `on:`) are saved whole; docs/snapshots.md says what can be done."
        raise LabError(f"Lab {session.blueprint.lab} is on {where}, and cannot be {what} from here.", hint=hint)
    return engine


async def take(
    session: Session, name: str, say: Say, *, memory: bool = True, stopped: Sequence[str] = (), park: bool = False
) -> Manifest:
    """Save the lab as `name`. LabError where that fails: then there is no such snapshot, and all goes on. `stopped`:
    machines inside that were stopped for it; `park`: what ran does not go on."""
    engine = await engine_of(session, "saved")
    place = session.place
    if name in kept.names(place) and not park:
        hint = f"Give another name, or remove that one first: nestlab snapshots rm {place.name} {name}"
        raise LabError(f"Lab {place.name} has a snapshot {name} already.", hint=hint)
    machines = _machines(session, memory=memory)
    inner = inner_machines.running(session) if memory else ()
    await inner_machines.check(session, inner)
    _room(session, machines)
    at = kept.partial(place, name)
    kept.sweep(place)
    try:
        _folders(at, machines)
        nonces = await memory_nonce.put(session) if memory else {}
        taken = time.time()
        saved = await _save(session, engine, machines, inner, at, name, say, park=park)
        made = Manifest(
            name,
            place.name,
            taken,
            kept.current(place),
            any(each.memory for each in machines),
            __version__,
            await ground(engine),
            tuple(saved),
            inner,
            tuple(stopped),
            nonces=nonces,
        )
        made = await _finish(session, engine, made, at, say)
        if park and name in kept.names(place):
            kept.remove(place, name)
        kept.publish(place, made)
    except BaseException:
        await asyncio.shield(_undo(session, machines, inner, at))
        raise
    if park:
        await _end(engine, machines)
    known = kept.work(place)
    left = known.inner if known is not None and not park else ()
    kept.set_work(place, kept.Work("going", name, (), left) if left else None)
    if not park:
        kept.set_current(place, name)
    return made


def _machines(session: Session, *, memory: bool) -> tuple[Machine, ...]:
    """Those on the lab's own host. LabError where one is in no state to be saved."""
    found = []
    for spec in session.blueprint.children(""):
        seen = session.observed.machines.get(spec.path)
        if seen is None:
            continue
        if seen.state not in (*RUNS, *OFF):
            what = f"{spec.path} cannot be saved: it is {seen.state}{f', {seen.why}' if seen.why else ''}."
            raise LabError(what, hint=f"See `nestlab status {session.place.name}`; `nestlab up` makes it whole.")
        if memory and seen.state == "paused":
            what = f"{spec.path} is paused{f': {seen.why}' if seen.why else ''}."
            raise LabError(what, hint=f"Let it go on first (`nestlab start {spec.path}`), or say --disk-only.")
        was: Literal["running", "paused", "off"] = "off"
        if seen.state in RUNS:
            was = "running" if seen.state == "running" else "paused"
        root = session.place.machine(spec.path)
        found.append(Machine(spec.path, root, was, memory and was != "off"))
    if not found:
        hint = f"`nestlab up {session.place.name}` makes it."
        raise LabError(f"Nothing of lab {session.place.name} is there to be saved.", hint=hint)
    return tuple(found)


def _room(session: Session, machines: Sequence[Machine]) -> None:
    """LabError where the disk surely has not enough room: it is better said before anything stands still."""
    needed = sum(kept.disk_usage(each.root) for each in machines)
    for each in machines:
        seen = session.observed.machines[each.path]
        if each.memory and seen.memory is not None:
            needed += min(seen.memory, session.blueprint[each.path].machine.memory)
    free = files.disk_free(session.place.root)
    if free is not None and free < needed + SPARE:
        what = f"A snapshot of lab {session.place.name} may take {human(needed)}, and {human(free)} are free"
        raise LabError(
            f"{what} in {session.place.root}.", hint="Make room there; `nestlab snapshots` shows what takes it."
        )


def _folders(at: Path, machines: Sequence[Machine]) -> None:
    try:
        for each in machines:
            files.make_folder(at / short_id(each.path) / "tpm")
    except OSError as error:
        raise files.refused(f"The snapshot {at} cannot be made", error) from error


async def _save(
    session: Session,
    engine: QemuEngine,
    machines: Sequence[Machine],
    inner: Sequence[str],
    at: Path,
    name: str,
    say: Say,
    *,
    park: bool,
) -> list[SavedMachine]:
    """All at one moment. When this returns, what ran goes on, unless it is parked."""
    place = session.place
    live = [each for each in machines if each.was == "running"]
    async with AsyncExitStack() as stack:
        monitors: dict[str, Monitor] = {}
        ways: dict[str, memory_file.Way] = {}
        left: list[str] = []
        for each in machines:
            if each.was != "off":
                monitors[each.path] = await stack.enter_async_context(engine.monitor(each.path))
                if each.memory:
                    ways[each.path] = await memory_file.way_of(monitors[each.path], each.path)
        built = {
            each.path: await saving.built(engine, monitors[each.path], each.path) for each in machines if each.memory
        }
        await stack.enter_async_context(standing_by(engine, [each.path for each in live]))
        outer = tuple(each.path for each in live)
        kept.set_work(place, kept.Work("snapshot", name, outer, tuple(inner), park))
        say("pausing")
        if park:  # nobody can be talked to inside what stands still
            await inner_machines.pause(session, inner)
            await session.nest.drop("")
        else:
            left = await stack.enter_async_context(inner_machines.paused(session, inner))
        pauses = await _together(machines, live, monitors, ways, at, say, park=park)
    if not park:  # what is left to do, if this one is killed, is to remove what was made
        kept.set_work(place, kept.Work("snapshot", name, (), tuple(left)))
    saved = [await _saved(engine, each, built.get(each.path), pauses.get(each.path, 0.0)) for each in machines]
    return [replace(each, way=ways.get(each.path, "plain")) for each in saved]


async def _together(
    machines: Sequence[Machine],
    live: Sequence[Machine],
    monitors: Mapping[str, Monitor],
    ways: Mapping[str, memory_file.Way],
    at: Path,
    say: Say,
    *,
    park: bool,
) -> dict[str, float]:
    """Pause, save, let go. For how many seconds each stood still."""
    clock = time.monotonic
    began: dict[str, float] = {}
    pauses: dict[str, float] = {}

    async def stop(each: Machine) -> None:
        began[each.path] = clock()
        await monitors[each.path].execute("stop")

    async def go(each: Machine) -> None:
        await memory_file.resume(monitors[each.path], each.path)
        if each.path in began:
            pauses[each.path] = clock() - began[each.path]

    let_them = not park
    try:
        await asyncio.gather(*map(stop, live))
        say("saving")
        await _all(
            *(
                _memory(monitors[each.path], each, at / short_id(each.path), ways[each.path])
                for each in machines
                if each.memory
            ),
            *(asyncio.to_thread(saving.copy_all, each.root, at / short_id(each.path)) for each in machines),
            asyncio.to_thread(_papers, at.parent.parent, at),
        )
    except BaseException:
        let_them = True
        raise
    finally:
        if let_them:
            await asyncio.shield(asyncio.gather(*map(go, live), return_exceptions=True))
    return pauses


async def _all(*work: Awaitable[object]) -> None:
    """All of it to its end, whatever fails: nothing works on when machines are let go. The first error then."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each


async def _memory(monitor: Monitor, each: Machine, folder: Path, way: memory_file.Way) -> None:
    file = folder / saving.MEMORY
    files.replace(file, b"", 0o600, synced=False)
    await memory_file.save(monitor, each.path, str(file), way)


def _papers(root: Path, at: Path) -> None:
    saving.copy(root, at, [name for name in kept.PAPERS if (root / name).is_file()])
    keys = root / "keys"
    if keys.is_dir():
        files.make_folder(at / "keys")
        saving.copy(keys, at / "keys", [each.name for each in os.scandir(keys) if each.is_file(follow_symlinks=False)])


async def _saved(engine: QemuEngine, each: Machine, built: Built | None, pause: float) -> SavedMachine:
    room = tuple(records.of_room(await engine.room(each.path))) if each.memory else ()
    memory = saving.MEMORY if each.memory else ""
    return SavedMachine(each.path, each.was, (), memory, built or Built(), room, round(pause, 3))


async def ground(engine: QemuEngine) -> Ground:
    """The host, as machines on KVM depend on it."""
    facts = await engine.parent.facts()
    return Ground(await asyncio.to_thread(_cpu), facts.kernel)


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:120]
    return ""


async def _finish(session: Session, engine: QemuEngine, made: Manifest, at: Path, say: Say) -> Manifest:
    """The manifest with the checksums of all that was saved, which was tried: what cannot be loaded is no snapshot."""
    say("checksums")
    made = await asyncio.to_thread(with_digests, made, at)
    if made.running:
        say("trying to load it")
        await snapshot_trial.tried(session, engine, made, at, say)
    return made


def with_digests(made: Manifest, at: Path) -> Manifest:
    """The manifest, with all files that are in the snapshot. LabError where they cannot be read."""
    try:
        machines = tuple(replace(each, files=tuple(_digests(at / short_id(each.path)))) for each in made.machines)
        papers = [each for each in _digests(at, deep=False) if each.name in kept.PAPERS]
        keys = [replace(each, name=f"keys/{each.name}") for each in _digests(at / "keys")]
    except OSError as error:
        raise files.refused(f"The snapshot {at} cannot be read", error) from error
    return replace(made, machines=machines, papers=(*papers, *keys))


def _digests(folder: Path, *, deep: bool = True) -> list[Saved]:
    found: list[Saved] = []
    if not folder.is_dir():
        return found
    for each in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if each.is_file(follow_symlinks=False):
            found.append(Saved(each.name, *kept.digest(Path(each.path))))
        elif deep and each.is_dir(follow_symlinks=False):
            found += [replace(inner, name=f"{each.name}/{inner.name}") for inner in _digests(Path(each.path))]
    return found


async def _undo(session: Session, machines: Sequence[Machine], inner: Sequence[str], at: Path) -> None:
    """All goes on, and nothing is left of the snapshot."""
    if kept.work(session.place) is not None:
        for each in machines:
            if each.was == "running":
                with suppress(LabError, OSError):
                    await asyncio.to_thread(let_go.let_go, f"{each.root}/qmp", each.path)
        left = await inner_machines.let_go(session, inner)
        name = at.name.removeprefix(".").removesuffix(".new")
        kept.set_work(session.place, kept.Work("snapshot", name, (), left) if left else None)
    await asyncio.to_thread(shutil.rmtree, at, True)


async def _end(engine: QemuEngine, machines: Sequence[Machine]) -> None:
    """End what is parked: it stands still, and all of it is saved."""
    for each in machines:
        if each.was != "off":
            await engine.kill(each.path)
            await engine.parent.write(engine.environment.place.of(each.path).stopped, b"")


@asynccontextmanager
async def standing_by(engine: QemuEngine, paths: Sequence[str]) -> AsyncIterator[None]:
    """A process lets these machines go on if this one is killed while the context is open."""
    sockets = [engine.environment.place.of(path).qmp for path in paths]
    async with proc.start([sys.executable, "-m", let_go.__name__, *sockets]) as process:
        async with asyncio.timeout(patience.allowed(STANDBY, 1.0)):
            async for _ in process.chunks():
                break
            else:
                raise LabError("The process that stands by while machines are paused ended.", hint="Is memory short?")
        yield
