"""Puts a lab back to what a snapshot has of it: all machines load before any goes on, and then they go on together.

What the lab was before stays in `before` until all have loaded: where anything fails, or nestlab is killed, it is put
back, with its machines off, as after a power cut.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.engines.qemu import memory_file, saving
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.home import snapshots as kept
from nestlab.home.directories import LabHome
from nestlab.home.paths import short_id
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.faults import cut_off
from nestlab.lab.snapshots import PARKED, Built, Manifest, SavedMachine, differences, ground_differs
from nestlab.plan.steps import Connect
from nestlab.verbs import connections, faults, inner_machines, ports, renewal, snapshot_recovery
from nestlab.verbs.session import Session, looking
from nestlab.verbs.snapshot_trial import room_of
from nestlab.verbs.snapshots import SPARE, engine_of, ground

Say = Callable[[str], None]


@frozen
class Ready:
    """A snapshot that may be put in the lab's place. `ends`: machines that run now, and end; `loses`: those that it
    does not have, which go with their disks; `memory`: machines go on, else they are off."""

    manifest: Manifest
    blueprint: Blueprint
    memory: bool
    ends: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()


@frozen
class Restored:
    """`seconds`: until all machines went on; `loaded`: of it, until all had loaded; `renewed`: what was renewed of
    each; `left`: machines inside that are still paused; `ports`: those that are kept open."""

    manifest: Manifest
    seconds: float
    loaded: float = 0.0
    renewed: Mapping[str, renewal.Renewed] | None = None
    left: tuple[str, ...] = ()
    ports: ports.Settled | None = None


async def look(session: Session, name: str, say: Say, *, disks_only: bool = False) -> Ready:
    """Look at a snapshot before anything is done. LabError where it cannot be used, and why."""
    engine = await engine_of(session, "restored")
    place = session.place
    manifest = kept.manifest(place, name)
    folder = kept.folder(place, name)
    say("checksums")
    await asyncio.to_thread(_whole, manifest, folder, place)
    blueprint = blueprint_file.load(folder / "lab.json", place.name)
    if blueprint is None:
        raise _damaged(place, name, "lab.json is not there")
    memory = bool(manifest.running) and not disks_only
    await _images(engine, blueprint, manifest)
    if memory:
        await _same(engine, blueprint, manifest, place, say)
    _room(place, manifest, folder)
    ends = tuple(path for path, seen in session.observed.machines.items() if "/" not in path and seen.pid is not None)
    saved = {each.path for each in manifest.machines}
    loses = tuple(path for path in session.observed.machines if "/" not in path and path not in saved)
    return Ready(manifest, blueprint, memory, ends, loses)


def _whole(manifest: Manifest, folder: Path, place: LabHome) -> None:
    """LabError where a file is not what was saved."""
    wanted = [(folder / each.name, each) for each in manifest.papers]
    for machine in manifest.machines:
        wanted += [(folder / short_id(machine.path) / each.name, each) for each in machine.files]
    for path, each in wanted:
        try:
            digest, _ = kept.digest(path)
        except OSError as error:
            raise _damaged(place, manifest.name, f"{path}: {error.strerror}") from error
        if digest != each.digest:
            raise _damaged(place, manifest.name, f"{path} is not what was saved: its checksum is another one")


def _damaged(place: LabHome, name: str, why: str) -> LabError:
    what = f"Snapshot {name} of lab {place.name} is damaged: {why}."
    hint = f"Nothing was done. Restore another one; `nestlab snapshots rm {place.name} {name}` removes it."
    return LabError(what, hint=hint)


async def _images(engine: QemuEngine, blueprint: Blueprint, manifest: Manifest) -> None:
    """LabError where an image is gone that its disks are layers over."""
    for each in manifest.machines:
        spec = blueprint[each.path]
        for key in dict.fromkeys((spec.image, *spec.files, *spec.cargo)):
            await engine.environment.library.artifacts(key, blueprint.images[key])


async def _same(engine: QemuEngine, blueprint: Blueprint, manifest: Manifest, place: LabHome, say: Say) -> None:
    """LabError where what would load it is not what it was saved by."""
    found = list(ground_differs(manifest, await ground(engine)))
    for each in manifest.running:
        version, words = await engine.words(blueprint[each.path], blueprint, room_of(each), say)
        now = saving.of_words(version, words)
        was = each.built
        number = was.version.partition(" ")[0]
        found += [f"{each.path}: {why}" for why in differences(_numbered(was, number), now)]
    if found:
        raise differs(place, manifest.name, found)


def _numbered(built: Built, number: str) -> Built:
    """The same with no more of the version than its number: the rest tells only a QEMU that runs."""
    return Built(number, built.machine, built.cpu, built.accel)


def differs(place: LabHome, name: str, why: Sequence[str]) -> LabError:
    what = f"The memory in snapshot {name} of lab {place.name} cannot be loaded here."
    way = f"`nestlab restore {place.name} {name} --disk-only` puts its disks back; machines then start from them."
    return LabError(what, hint=way, detail="\n".join(f"  {each}" for each in why))


def _room(place: LabHome, manifest: Manifest, folder: Path) -> None:
    needed = sum(each.size for machine in manifest.machines for each in machine.files if each.name != machine.memory)
    free = files.disk_free(place.root)
    if free is not None and free < needed + SPARE:
        what = f"Restoring {folder.name} takes {human(needed)}, and {human(free)} are free in {place.root}."
        raise LabError(what, hint="Make room there: the lab as it is now stays until all is restored.")


async def restore(session: Session, ready: Ready, say: Say) -> Restored:
    """Do it. LabError where that fails: then the lab is what it was before, with its machines off."""
    place, manifest = session.place, ready.manifest
    began = time.monotonic()
    engine = await engine_of(session, "restored")
    await session.nest.drop("")
    for path in ready.ends:
        say(f"ending {path}")
        await engine.kill(path)
    paths = tuple(each.path for each in manifest.machines)
    kept.set_work(place, kept.Work("restore", manifest.name, paths, manifest.inner if ready.memory else ()))
    try:
        say("putting its files in place")
        await asyncio.to_thread(_swap, place, manifest, memory=ready.memory)
        async with looking(session.site, name=place.name) as again:
            return await _up(again, session, ready, began, say)
    except BaseException:
        now = kept.work(place)
        if now is not None and now.verb == "restore":
            await asyncio.shield(snapshot_recovery.roll_back(place, say))
            kept.count(place, manifest.name, failed=True)
        raise


def _swap(place: LabHome, manifest: Manifest, *, memory: bool) -> None:
    """The lab's directory is that of the snapshot; what it was is in `before`. LabError where that fails."""
    folder, before = kept.folder(place, manifest.name), place.root / kept.BEFORE
    try:
        shutil.rmtree(before, ignore_errors=True)
        files.make_folder(before)
        for name in ("m", *kept.PAPERS):
            if (place.root / name).exists():
                files.move(place.root / name, before / name)
        files.replace(before / kept.MOVED, b"", 0o600)
        files.make_folder(place.machines)
        for each in manifest.machines:
            _place(place, folder, each, memory=memory)
    except OSError as error:
        raise files.refused(f"The machines of lab {place.name} cannot be put back", error) from error
    have = {each.name for each in manifest.papers}
    saving.copy(folder, place.root, [name for name in kept.PAPERS if name in have])
    saving.copy(folder, place.root, [name for name in sorted(have) if name.startswith("keys/")])


def _place(place: LabHome, folder: Path, each: SavedMachine, *, memory: bool) -> None:
    source, target = folder / short_id(each.path), place.machine(each.path)
    old = place.root / kept.BEFORE / "m" / target.name
    files.make_folder(target / "tpm")
    saving.copy(source, target, [saved.name for saved in each.files if saved.name != each.memory])
    for log in sorted(old.glob("console*.log")):  # what it said stays
        with suppress(LabError):
            files.fill(log, target / log.name, 0o600, synced=False)
    if each.memory and memory:
        for name in ("stopped", "boot"):
            (target / name).unlink(missing_ok=True)
    elif each.was != "off":
        files.replace(target / "stopped", b"", 0o600, synced=False)


async def _up(again: Session, session: Session, ready: Ready, began: float, say: Say) -> Restored:
    """The machines of the snapshot load, and go on."""
    place, manifest = session.place, ready.manifest
    engine = await engine_of(again, "restored")
    await again.look()
    blueprint = again.blueprint
    loaded = 0.0
    if ready.memory:
        for segment in blueprint.segments:
            await engine.perform(Connect("it is restored", segment.name), blueprint, say)
        say("loading")
        await asyncio.gather(*(_load(engine, again, each, say) for each in manifest.running))
        loaded = time.monotonic() - began
        kept.set_work(place, kept.Work("going", manifest.name, tuple(x.path for x in manifest.running), manifest.inner))
        await asyncio.gather(*(_go(engine, each) for each in manifest.running if each.was == "running"))
        kept.count(place, manifest.name, failed=False)
    seconds = time.monotonic() - began
    renewed, left = await _settled(again, ready, say)
    if again.faults:
        await faults.settle(again)
    opened = await ports.settle(again)
    kept.set_current(place, manifest.parent if manifest.name == PARKED else manifest.name)
    kept.set_work(place, kept.Work("going", manifest.name, (), left) if left else None)
    await asyncio.to_thread(shutil.rmtree, place.root / kept.BEFORE, True)
    session.nest.known = again.nest.known
    await connections.refresh(again)
    return Restored(manifest, seconds, loaded, renewed, left, opened)


async def _load(engine: QemuEngine, again: Session, each: SavedMachine, say: Say) -> None:
    """A machine that is there, paused, as it was."""
    place, blueprint = again.place, again.blueprint
    spec = blueprint[each.path]
    file = kept.folder(place, kept_name(again)) / short_id(each.path) / each.memory
    await engine.receive(spec, blueprint, room_of(each), lambda _: None, generation=str(uuid.uuid4()), made=True)
    async with engine.monitor(each.path) as monitor:
        if why := differences(each.built, await saving.built(engine, monitor, each.path)):
            raise differs(place, kept_name(again), [f"{each.path}: {reason}" for reason in why])
        cut = cut_off(again.faults, each.path)
        for number, nic in enumerate(spec.nics):
            if nic.segment in cut:
                await monitor.execute("set_link", name=f"n{number}", up=False)
        await memory_file.load(monitor, each.path, str(file), each.way)
        for number, nic in enumerate(spec.nics):
            await monitor.execute("set_link", name=f"n{number}", up=nic.segment not in cut)


def kept_name(session: Session) -> str:
    """The snapshot that is being put in place."""
    known = kept.work(session.place)
    assert known is not None
    return known.name


async def _go(engine: QemuEngine, each: SavedMachine) -> None:
    async with engine.monitor(each.path) as monitor:
        await monitor.execute("cont")
        with suppress(LabError):
            await monitor.execute("announce-self", initial=50, max=550, rounds=5, step=100)


async def _settled(again: Session, ready: Ready, say: Say) -> tuple[Mapping[str, renewal.Renewed], tuple[str, ...]]:
    """What was renewed of each machine, and those inside that are still paused."""
    if not ready.memory:
        return {}, ()
    say("renewing what two copies must not share")
    outer = [each.path for each in ready.manifest.running if each.was == "running"]
    renewed = dict(await renewal.renew(again, outer, ready.manifest))
    left = await inner_machines.let_go(again, ready.manifest.inner)
    await again.look()
    inner = [path for path in ready.manifest.nonces if "/" in path and path not in left]
    renewed |= await renewal.renew(again, inner, ready.manifest)
    return renewed, left
