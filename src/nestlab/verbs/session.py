"""The verbs of nestlab as plain functions: what the command line, a test or a web page calls.

A lab file is read into a lab, settled into a blueprint, compared with the world, planned, applied and proven. Nothing
here prints or exits; progress is told as events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nestlab import kinds
from nestlab.base import files, patience
from nestlab.base.errors import LabError
from nestlab.base.events import Event, Finished
from nestlab.base.proofs import Verdict
from nestlab.home import faults as kept_faults
from nestlab.home import former_names, journal, labs, last_seen, lock, moved_machines
from nestlab.home.directories import Home, LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.home.labs import Origin
from nestlab.home.moved_machines import NONE, Moves
from nestlab.home.speeds import Speeds
from nestlab.home.step_times import remember, usual_of
from nestlab.images import system_packages
from nestlab.lab import addresses, blueprint_file, clusters
from nestlab.lab.blueprint import Blueprint, Leases, Spec, images_of
from nestlab.lab.faults import Faults
from nestlab.lab.model import Lab
from nestlab.lab.moved_machines import placed
from nestlab.lab.places import Pve
from nestlab.plan import planner
from nestlab.plan.faults import blamed, marked
from nestlab.plan.moved_machines import noted, settled_only
from nestlab.plan.steps import Boot, Build, Create, Observed, Plan, Remove, Stop, Want, Way
from nestlab.plan.unseen import complete
from nestlab.show.render import Acceleration
from nestlab.verbs import (
    apply,
    cluster_secrets,
    connections,
    foreign_notes,
    import_ahead,
    interrupted,
    netboot_notes,
    unknown_packages,
    wanted_lab,
)
from nestlab.verbs.nest import Asides, Nest
from nestlab.verbs.platform import Platform, accelerated
from nestlab.verbs.same_place import left_behind, same_door, stays_in_place
from nestlab.verbs.site import Site

Emit = Callable[[Event], None]

ANSWER = 20.0
"""Nominal seconds a hypervisor has to answer when its machines are looked at."""

IMAGE_SIZE = {"kvm": 1100 << 20, "debian": 700 << 20, "tiny": 450 << 20, "libvirt": 1200 << 20, "pve": 3000 << 20}
"""Bytes of disk that building each of nestlab's own images takes: it (494, 312, 62, 900 MiB), its tree, packages."""


@dataclass
class Session:
    """One lab, open: what is wanted (`blueprint`), what was applied last (`previous`), and what there is."""

    site: Site
    place: LabHome
    blueprint: Blueprint
    previous: Blueprint | None
    nest: Nest
    platform: Platform
    origin: Origin | None = None
    leases: Leases | None = None
    observed: Observed = field(default_factory=Observed)
    faults: Faults = ()
    """Those that are made on purpose, as they were when the world was seen."""
    moves: Moves = NONE
    """Where machines are that were moved, and which migrations are not over."""
    _started: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)
    """What was booted and ended since the world was seen."""

    async def look(self, asides: Asides | None = None, *, setups: bool = False) -> Observed:
        """Ask the world, at every level; `setups`: also what is done of the setups of machines, which a plan needs."""
        self._saw(await self.nest.observe(asides))
        self._started, self._ended = set(), set()
        if setups:
            self.observed = await self.nest.ask_setups(self.observed)
        return self.observed

    async def glance(self) -> Observed:
        """The observed world as far as it is known at once: of a lab on a Proxmox VE only its own level, in a few
        requests. Elsewhere as `look`."""
        seen = await self.platform.glance()
        if seen is None:
            return await self.look()
        hypervisors = {spec.parent for spec in self.blueprint.specs if spec.parent}
        why = "what is inside is looked at by `nestlab status --deep`"
        silent = {path: why for path in hypervisors if path in seen and seen[path].state == "running"}
        return self._saw(Observed(complete(seen, silent, self.blueprint.by_path(), self.nest.known)))

    def _saw(self, found: Observed) -> Observed:
        self.faults = kept_faults.load(self.place)
        self.observed = marked(settled_only(found, self.moves.passages), self.faults)
        self.nest.cut = self.observed.cut
        return self.observed

    def plan(self, want: Want = "running", machines: Sequence[str] = (), *, leave: Collection[str] = ()) -> Plan:
        """Plans for the whole lab or for the machines given (with what is inside them, and for
        `running` what they are in). LabError for a machine that is not there. `leave`: what is not to be started."""
        wanted = planner.targets(want, machines, self.blueprint, self.observed) if machines else want
        return planner.plan(self.blueprint, self.observed, wanted, previous=self.previous, leave=leave)

    def plan_again(self, way: Literal["restart", "anew"], machines: Sequence[str]) -> Plan:
        """What it takes to restart machines as they are, with what runs inside them, or to make them anew."""
        wanted: dict[str, Want] = dict.fromkeys(machines, "running")
        if way == "anew":
            wanted = planner.targets("running", machines, self.blueprint, self.observed)
        again: dict[str, Way] = dict.fromkeys(machines, way)
        return planner.plan(self.blueprint, self.observed, wanted, previous=self.previous, again=again)

    async def weighed(self, plan: Callable[[], Plan]) -> Plan:
        """What `plan` plans, whose reasons tell how much is written on the disks that it deletes."""
        todo = plan()
        broken = {path for path, seen in self.observed.machines.items() if seen.state == "broken"}
        doomed = broken | {change.path for change in todo.losses}
        if not doomed:
            return todo
        self.observed = await self.nest.weigh(self.observed, sorted(doomed))
        return plan()

    def usual(self, todo: Plan) -> dict[str, float]:
        """Seconds that steps of a plan usually take, by id, as far as such were done before."""
        return usual_of(self.site.home, todo, self.blueprint)

    async def check(self, todo: Plan) -> tuple[str, ...]:
        """Notes about what is tight. LabError when the lab does not fit, or images cannot be built here."""
        builds = [step for step in todo.steps if isinstance(step, Build)]
        missing = self.site.needs() if any(not self._is_foreign(step.image) for step in builds) else ()
        if missing:
            raise system_packages.lacking(missing, system_packages.release_here(), root=os.geteuid() == 0)
        unknown_packages.check(unknown_packages.built(self.blueprint, todo), self.site.home.cache)
        sizes = {step.image: IMAGE_SIZE.get(self.blueprint.images[step.image].base or "", 0) for step in builds}
        ends = {step.path for step in todo.steps if step.verb in ("stop", "remove")}
        starts = {step.path for step in todo.steps if step.verb in ("create", "update", "boot")}
        run = {path for path, seen in self.observed.machines.items() if seen.state == "running"}
        wanted = (run - ends) | starts
        tight = await self.platform.check(self.blueprint, self.observed, wanted, sizes)
        made = {step.path for step in todo.steps if step.verb in ("create", "update")}
        host = None if isinstance(self.blueprint.on, Pve) else self.platform.host
        foreign = await foreign_notes.notes(self.blueprint, made, host)
        even = (note for cluster in self.blueprint.clusters if (note := clusters.even(cluster)))
        return (*tight, *foreign, *even, *netboot_notes.notes(self.blueprint, made))

    async def outer_accelerations(self, todo: Plan) -> tuple[Acceleration, ...]:
        """The accelerators of machines that a plan starts on the lab's own level. LabError where a machine insists on
        KVM and cannot have it."""
        booted = {step.path for step in todo.steps if isinstance(step, Boot)}
        return await self.platform.outlook(self.blueprint, booted)

    async def accelerations(self) -> tuple[Acceleration, ...]:
        """The accelerators of all machines, as far as the hypervisors that they are in can be asked now."""
        outer = await self.platform.outlook(self.blueprint, self.blueprint.by_path())
        told = {each.path: each for each in outer}
        found = {}
        for spec in self.blueprint.specs:
            seen = self.observed.machines.get(spec.path)
            if spec.machine.nests and seen is not None and seen.state == "running":
                with contextlib.suppress(LabError):  # then it is left open, as for one that does not run
                    found[spec.path] = await (await self.nest.host(spec.path)).facts()

        def inside(spec: Spec) -> Acceleration:
            emulated = spec.parent in told and told[spec.parent].accel == "tcg"
            contains = self._contains(spec.parent)
            return accelerated(spec, found.get(spec.parent), spec.parent, containers=contains, emulated=emulated)

        return tuple(inside(spec) if spec.parent else told[spec.path] for spec in self.blueprint.specs)

    def _contains(self, hypervisor: str) -> bool:
        """Whether nestlab makes containers inside it."""
        kind = kinds.kinds().get(self.blueprint[hypervisor].machine.hypervisor or "")
        return kind is not None and kind.containers

    async def apply(self, todo: Plan, emit: Emit, *, verb: str = "up", limit: int | None = None) -> None:
        """Make a plan real. Cancelled, it ends cleanly and raises `apply.Interrupted`, which says what is left."""
        self._remember(todo)
        with journal.start(self.place.journal, verb) as kept:
            took: dict[str, float] = {}

            def tell(event: Event) -> None:
                if isinstance(event, Finished):
                    took[event.step] = event.seconds
                kept.write(event)
                emit(event)

            stopping = apply.Stopping()
            asyncio.get_running_loop().call_later(import_ahead.LULL, import_ahead.start)
            outer = await self.platform.boots()
            work = asyncio.ensure_future(
                apply.apply(
                    todo, self.blueprint, self.nest, tell, verb=verb, limit=limit, outer=outer, stopping=stopping
                )
            )
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                stopping.press()
                await work
                raise
            finally:
                remember(self.site.home, todo, self.blueprint, took)
                await connections.refresh(self)
        self._started = {step.path for step in todo.steps if isinstance(step, Boot)}
        self._ended = {step.path for step in todo.steps if isinstance(step, Stop | Remove)} - self._started
        blueprint_file.save(self.place.applied, self.blueprint)
        self.previous = self.blueprint

    async def verify(self, emit: Emit) -> Verdict:
        """The proofs of the lab as it runs."""
        from nestlab.verbs.verify import verify

        if not (self.observed.machines or self._started):  # else what was seen last, and done since, tells what runs
            await self.look()
        seen = self.observed.machines
        paths = [spec.path for spec in self.blueprint.specs]
        down = {path for path in paths if path not in seen or seen[path].state != "running"}
        down = (down - self._started) | self._ended
        below = self.platform.proofs(self.blueprint)
        verdict = await verify(self.nest, self.blueprint, self.look, below, emit, frozenset(down))
        return noted(blamed(verdict, self.faults, time.time()), self.moves.aways, time.time())

    def _remember(self, todo: Plan) -> None:
        """What is needed to go on after any interruption, on the disk before the first step."""
        self.site.home.join()
        LabKeys(self.place.root).make(step.path for step in todo.steps if isinstance(step, Create))
        wanted = {self.place.blueprint: blueprint_file.blueprint_to_json(self.blueprint).encode()}
        if self.leases is not None:
            wanted[self.place.leases] = addresses.leases_to_json(self.leases).encode()
        if self.origin is not None and labs.load(self.place) != self.origin:
            wanted[self.place.root / labs.NAME] = labs.to_json(self.origin)
        if self.moves != moved_machines.load(self.place):
            moved_machines.save(self.place, self.moves)
        files.replace_changed({path: (data, 0o600) for path, data in wanted.items()})

    def _is_foreign(self, key: str) -> bool:
        return self.blueprint.images[key].foreign


def read(file: Path, environ: Mapping[str, str], sets: Sequence[str] = ()) -> tuple[Lab, Origin]:
    """The lab in a lab file. Mistakes, all of them, when there are any."""
    from nestlab.labfile import parse

    return parse(file, environ=environ, sets=sets), Origin(file.resolve(), tuple(sets))


def read_again(home: Home, name: str, environ: Mapping[str, str], sets: Sequence[str] = ()) -> tuple[Lab, Origin]:
    """The lab of a name, from the lab file that it was made from. LabError if that is gone or another lab's now."""
    place = labs.existing(home, name)
    known = labs.load(place)
    if known is None:
        raise LabError(f"Which lab file lab {name} was made from is not known.", hint="Name the file: nestlab up FILE")
    if not known.file.is_file():
        raise LabError(
            f"The lab file of lab {name}, {known.file}, is gone.",
            hint=f"Name it where it is now (nestlab up FILE); `nestlab start {name}` starts the lab as it was made.",
        )
    lab, found = read(known.file, environ, (*known.sets, *sets))
    if lab.name != name:
        raise former_names.another_name(place, known.file, lab.name)
    return lab, found


def forget(place: LabHome) -> None:
    """Delete the directory of a lab, keys included: nothing of the lab is left. For labs without machines."""
    doomed = place.root.with_name(f".{place.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if not place.root.exists():
        return
    try:
        files.move(place.root, doomed)  # on the disk before anything in it goes: no half of a lab after a power cut
    except OSError as error:
        raise files.refused(f"{place.root} cannot be removed", error) from error
    shutil.rmtree(doomed, ignore_errors=True)  # `nestlab gc` finds what cannot be removed now


@asynccontextmanager
async def changing(
    site: Site,
    verb: str,
    *,
    lab: Lab | None = None,
    name: str = "",
    source: Origin | None = None,
    wait: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Session]:
    """A lab open for changes, and nobody else's meanwhile: by what is wanted (`lab`), or as it was made (`name`).

    `wait`: seconds for another nestlab to finish (None: as long as it takes; then `say` tells whom it waits for).
    """
    if lab is not None and any(image.sums for image in images_of(lab)):
        from nestlab.images import pins

        lab = await pins.settled(lab, site.home, say)
    while True:
        place = site.home.lab(lab.name) if lab is not None else labs.existing(site.home, name)
        async with lock.held(place.lock, place.name, verb, wait=wait, say=say) as stands:
            if not stands():
                continue  # the lab was removed meanwhile, and the lock with it
            for folder in (site.home.state, place.root, place.root / "keys"):
                files.sweep(folder)
            resolve = await interrupted.before(place, say)
            try:
                async with _open(site, place, lab, source) as session:
                    await session.look(setups=verb in ("up", "start"))
                    made = blueprint_file.load(place.blueprint, place.name)
                    left_behind(place, made, session.blueprint, session.observed)
                    await resolve(session)
                    try:
                        yield session
                    finally:
                        if place.blueprint.exists():
                            last_seen.save(place, session.nest.known)
            finally:
                if not place.blueprint.exists():
                    with contextlib.suppress(LabError):  # what went wrong before says more; `nestlab gc` finds it
                        forget(place)  # nothing was ever applied: no trace is left
            return


@asynccontextmanager
async def looking(
    site: Site, *, lab: Lab | None = None, name: str = "", answer: float = ANSWER
) -> AsyncIterator[Session]:
    """A lab open to be looked at: by what is wanted, or as it was made. Nothing is locked and nothing written.

    `answer`: nominal seconds a hypervisor has to answer when its machines are looked at.
    """
    if lab is not None:
        place = site.home.existing(lab.name) or LabHome(lab.name, site.home.state / "labs" / lab.name)
    else:
        place = labs.existing(site.home, name)
    try:
        async with _open(site, place, lab, None, answer) as session:
            yield session
    finally:
        with contextlib.suppress(OSError):
            place.root.rmdir()  # an engine may have made it; only an empty one goes


@asynccontextmanager
async def _open(
    site: Site, place: LabHome, lab: Lab | None, source: Origin | None, answer: float = ANSWER
) -> AsyncIterator[Session]:
    made = blueprint_file.load(place.blueprint, place.name)
    applied = blueprint_file.load(place.applied, place.name)
    if lab is not None and made is not None:
        stays_in_place(place, made, lab)
    if lab is not None and any(image.sums for image in images_of(lab)):
        from nestlab.images import pins  # few labs have such images, and every command would pay for it

        lab = pins.known(lab, site.home)
    on = lab.on if lab is not None else made.on if made is not None else None
    known = Speeds(place.speeds).of("")
    stretch = lab.patience if lab is not None else made.patience if made is not None else 1
    patience.of_lab(stretch, known.slowness if known else None)
    named = lab is None or lab.named or (made is not None and made.on is not None and same_door(made.on, on))
    platform = site.platform(place, on, named=named)
    try:
        await platform.enter()
        wanted = await wanted_lab.wanted(place, lab, made, platform)
        aways = moved_machines.load(place).aways
        before, last = (placed(each, aways) if each is not None else None for each in (made, applied or made))
        nest = Nest(
            wanted.blueprint,
            platform.host,
            platform.on,
            site.inside,
            previous=before,
            answer=answer,
            known=last_seen.load(place),
            applied=applied,
            secrets=cluster_secrets.of(place.root),
        )
        async with nest:
            yield Session(
                site, place, wanted.blueprint, last, nest, platform, source, wanted.leases, moves=wanted.moves
            )
    finally:
        await platform.close()
