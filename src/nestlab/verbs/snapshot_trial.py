"""Tries a snapshot before it counts as one: a QEMU of its own loads the memory of each machine, and is ended before it
runs an instruction. It is on no network, has copies of what is written, and layers over disks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.engines.qemu import memory_file, saving
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.home import snapshots as kept
from nestlab.home.paths import Place, short_id
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.snapshots import Manifest, SavedMachine
from nestlab.plan.room import NO_ROOM, Room
from nestlab.verbs.session import Session

HINT = (
    "Nothing was kept, and all goes on. Try again: what a virtual CPU did at that moment may be the reason. With "
    "--stop-guests what runs inside is stopped for it; with --disk-only no memory is saved."
)


async def tried(session: Session, engine: QemuEngine, made: Manifest, at: Path, say: Callable[[str], None]) -> None:
    """LabError where a machine of the snapshot in the folder `at` does not load. It is counted, if there is one
    then."""
    root = session.place.root / kept.TRIAL
    environment = replace(engine.environment, place=Place(str(root)))
    trial = QemuEngine(engine.parent, environment)
    try:
        for each in made.running:
            await _try(trial, session.blueprint, each, at / short_id(each.path), root, say)
    finally:
        await trial.close()
        shutil.rmtree(root, ignore_errors=True)
    kept.count(session.place, made.name, failed=False, at=at)


async def _try(
    trial: QemuEngine, blueprint: Blueprint, saved: SavedMachine, source: Path, root: Path, say: Callable[[str], None]
) -> None:
    spec = blueprint[saved.path]
    paths = trial.environment.place.of(saved.path)
    target = Path(paths.root)
    names = list(saving.written(source))
    disks = [name for name in names if name.endswith(".qcow2")]
    files.make_folder(target / "tpm")
    saving.copy(source, target, [name for name in names if name not in disks and name not in ("stopped", "boot")])
    tool = await trial.environment.programs.qemu_img(say)
    for name in disks:
        words = (*tool.argv, "create", "-q", "-f", "qcow2", "-b", str(source / name), "-F", "qcow2", str(target / name))
        await trial.parent.run(words, env=tool.env)
    try:
        await trial.receive(spec, blueprint, room_of(saved), lambda _: None, made=True)
        async with trial.monitor(saved.path) as monitor:
            await memory_file.load(monitor, saved.path, str(source / saved.memory), saved.way)
            status = await monitor.status()
            if status != "paused":
                what = f"The memory of {saved.path} could not be loaded: its QEMU is {status}."
                raise LabError(what, hint=HINT)
    except LabError as error:
        said = (target / "qemu.log").read_text(errors="replace")[-2000:] if (target / "qemu.log").exists() else ""
        raise LabError(f"The snapshot is none that can be loaded. {error.what}", hint=HINT, detail=said) from error
    finally:
        await trial.kill(saved.path)


def room_of(saved: SavedMachine) -> Room:
    """What the QEMU of a machine can become, as it was written down."""
    if len(saved.room) != 7:
        return NO_ROOM
    memory, more, cores, cpus, plugged, *asked = saved.room
    return Room(memory, more, cores, cpus, plugged == 1, (asked[0], asked[1]))
