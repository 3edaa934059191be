"""Plans the way from the observed world to a blueprint, each step with its reason. Pure, and linear.

Ends come first (inside-out), then what the lab's host must have (segments, images), then starts (outside-in).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from nestlab.base.did_you_mean import closest
from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import Image, parent_of, within
from nestlab.lab.netboot import Service, digest_of_service, service_of
from nestlab.lab.urls import shown_url
from nestlab.plan.cluster_steps import World
from nestlab.plan.cluster_writer import ClusterWriter
from nestlab.plan.decisions import NOTHING, Fate, Fates
from nestlab.plan.setup_due import why_set_up
from nestlab.plan.steps import (
    Boot,
    Build,
    Change,
    Clear,
    Connect,
    Create,
    Discard,
    Disconnect,
    Install,
    Introduce,
    Observed,
    Plan,
    Pull,
    Remove,
    SetUp,
    Step,
    Stop,
    Update,
    Want,
    Way,
)


def plan(
    blueprint: Blueprint,
    observed: Observed,
    want: Mapping[str, Want] | Want = "running",
    *,
    previous: Blueprint | None = None,
    again: Mapping[str, Way] | None = None,
    leave: Collection[str] = (),
) -> Plan:
    """The steps that make the world what the blueprint says; none if it is so already.

    One `want` is for the whole lab: then what the blueprint does not mention is removed too (`running`, `gone`) or
    stopped. A mapping (see `targets`) leaves alone what it does not name, except what is inside a machine that ends.
    `previous`, the blueprint applied last, is needed to say what changed and which address is in use until when, and
    for machines that an earlier nestlab made. `again`: machines to be restarted or made anew although nothing changed.
    `leave`: machines that do not run and are not to be started, nor what is inside them.
    """
    goals = _goals(blueprint, observed, want, leave)
    fates = Fates(blueprint, observed, goals, previous, again or {})
    return _Writer(blueprint, observed, want, goals, fates.decide(), previous).write(tuple(fates.changes.values()))


def targets(want: Want, paths: Iterable[str], blueprint: Blueprint, observed: Observed) -> dict[str, Want]:
    """The wanted states for a verb given machines: each with all inside it and, to run, the hypervisors it is in.

    LabError for a path that is neither in the blueprint nor seen.
    """
    known = [*blueprint.by_path(), *_strays(blueprint, observed)]
    wanted: dict[str, Want] = {}
    for path in paths:
        inside = [each for each in known if path and within(each, path)]
        if not inside:
            raise _no_such_machine(path, blueprint.lab, known)
        wanted.update(dict.fromkeys(inside, want))
        while want == "running" and (path := parent_of(path)):
            wanted[path] = want
    return wanted


def _no_such_machine(path: str, lab: str, known: list[str]) -> LabError:
    close = closest(path, tuple(known))
    hint = f"Did you mean {close}?" if close else f"Its machines: {', '.join(known[:20]) or 'none'}."
    return LabError(f"Lab {lab} has no machine {path}.", hint=hint)


def _strays(blueprint: Blueprint, observed: Observed) -> list[str]:
    """The machines that are seen and not in the blueprint, outer ones first."""
    return sorted(observed.machines.keys() - blueprint.by_path().keys(), key=lambda path: path.split("/"))


_RANK: dict[Want | None, int] = {"gone": 0, "stopped": 1, None: 2, "running": 2}


def _goals(
    blueprint: Blueprint, observed: Observed, want: Mapping[str, Want] | Want, leave: Collection[str]
) -> dict[str, Want | None]:
    """The state that each machine should get, outer ones first. None: it is left alone. No machine outlives the one
    that it is in."""
    goals: dict[str, Want | None] = {}
    for spec in blueprint.specs:
        goals[spec.path] = want if isinstance(want, str) else want.get(spec.path)
    for path in _strays(blueprint, observed):
        whole: Want = "stopped" if want == "stopped" else "gone"
        stated = whole if isinstance(want, str) else want.get(path)
        goals[path] = None if stated == "running" else stated
    for path in goals:
        if goals[path] == "running" and any(within(path, each) for each in leave):
            goals[path] = None
    for path in goals:
        outer = goals.get(parent_of(path))
        if _RANK[outer] < _RANK[goals[path]]:
            goals[path] = outer
    for spec in reversed(blueprint.specs):
        if goals[spec.path] == "running" and spec.parent and goals[spec.parent] is None:
            goals[spec.parent] = "running"
    return goals


class _Writer:
    """Writes fates down as steps with needs."""

    def __init__(
        self,
        blueprint: Blueprint,
        observed: Observed,
        want: Mapping[str, Want] | Want,
        goals: Mapping[str, Want | None],
        fates: dict[str, Fate],
        previous: Blueprint | None,
    ) -> None:
        self._blueprint = blueprint
        self._observed = observed
        self._want = want
        self._goals = goals
        self._fates = fates
        self._before = previous.by_path() if previous else {}
        self._steps: list[Step] = []
        self._ends: dict[str, str] = {}
        """By path: the step after which the machine does not run any more."""
        self._outer_ends: list[str] = []
        self._clears: dict[str, list[str]] = {}
        """By host: what must be gone before a machine is made there, which may be to have the same directory."""
        self._builds: dict[str, str] = {}
        self._installs: tuple[str, ...] = ()
        self._connects: dict[str, str] = {}
        self._setups: dict[str, str] = {}
        self._in_use: dict[tuple[str, str], str] = {}
        """By segment and MAC or address: the machine that has it until it ends."""
        world = World(blueprint, observed, goals, fates, previous)
        self._clusters = ClusterWriter(world, self._add, whole=want == "running")

    def write(self, changes: tuple[Change, ...]) -> Plan:
        self._write_ends()
        self._write_clears()
        self._write_segments()
        self._write_builds()
        self._write_installs()
        self._write_starts()
        for path, fate in self._fates.items():
            if fate.late and not fate.boots:
                self._write_late_end(path, fate)
        return Plan(self._blueprint.lab, tuple(self._steps), changes)

    def _add(self, step: Step) -> str:
        self._steps.append(step)
        return step.id

    def _write_ends(self) -> None:
        inside: dict[str, list[str]] = {}
        for path, fate in reversed(self._fates.items()):
            before = inside.pop(path, [])
            if fate.end and not fate.late:
                before = [*before, *self._clusters.before_end(path)]
                cls = Stop if fate.end == "stop" else Remove
                self._ends[path] = self._add(cls(fate.end_why, path, needs=tuple(before)))
                self._note_in_use(path)
                before = [self._ends[path]]
            inside.setdefault(parent_of(path), []).extend(before)
        self._outer_ends = inside.get("", [])

    def _write_clears(self) -> None:
        """Clear away half-made directories that do not name their machine; they go with the hypervisor that they are
        in."""
        if self._want not in ("running", "gone"):
            return
        for rest in sorted(self._observed.half_made):
            if not any(within(rest.host, path) for path in self._ends):
                step = self._add(Clear("it was only half made, and does not say for which machine", rest))
                self._clears.setdefault(rest.host, []).append(step)

    def _note_in_use(self, path: str) -> None:
        before, seen = self._before.get(path), self._observed.machines[path]
        if before is not None and seen.digest == before.digest and seen.state in ("running", "paused"):
            for key in _cards(before):
                self._in_use[key] = path

    def _write_segments(self) -> None:
        outer = [spec for spec in self._blueprint.specs if not spec.parent and self._goals[spec.path] == "running"]
        used: dict[str, bool] = {}
        for spec in outer:
            for nic in spec.nics:
                seen = self._observed.machines.get(spec.path)
                runs = seen is not None and seen.state == "running" and not self._fates.get(spec.path, NOTHING).end
                used[nic.segment] = used.get(nic.segment, False) or runs
        for segment, runs in used.items():
            service = service_of(self._blueprint, segment)
            why = ""
            if segment not in self._observed.links:
                why = "machines that run need it, and it is not there" if runs else "not there yet"
            elif self._observed.served.get(segment, "") != digest_of_service(service):
                why = (
                    f"it is to serve {service.netboot.title}" if service else "nothing is to be booted from it any more"
                )
            if why:
                built = self._image_to_serve(service) if service is not None else ()
                self._connects[segment] = self._add(Connect(why, segment, needs=built))
        if not isinstance(self._want, str):
            return
        if outer:
            used.update((segment.name, False) for segment in self._blueprint.segments)
        needs = tuple(self._outer_ends)
        why = "no machine uses it any more" if outer else "no machine is to run"
        for segment in sorted(self._observed.links - used.keys()):
            needs = (self._add(Disconnect(why, segment, needs=needs)),)

    def _image_to_serve(self, service: Service) -> tuple[str, ...]:
        """Build or download what a segment serves, where it is not there."""
        wanted = service.netboot.images()
        keys = [key for key, image in self._blueprint.images.items() if image in wanted]
        missing = [key for key in keys if key not in self._observed.images]
        self._add_builds({key: f"segment {service.segment}" for key in missing if key not in self._builds})
        return tuple(self._builds[key] for key in missing)

    def _write_builds(self) -> None:
        """Images for what is created anywhere, and for what boots on the lab's host, where they are its drives."""
        missing: dict[str, str] = {}
        for spec in self._blueprint.specs:
            fate = self._fates.get(spec.path, NOTHING)
            if fate.start in ("make", "renew") or fate.grows or (fate.boots and not spec.parent):
                for key in spec.images:
                    if key not in self._observed.images:
                        missing.setdefault(key, spec.path)
        self._add_builds({key: path for key, path in missing.items() if key not in self._builds})

    def _add_builds(self, missing: Mapping[str, str]) -> None:
        """`missing`: what needs each, by key."""
        for key, path in missing.items():
            image = self._blueprint.images.get(key)
            if image is not None and image.url is not None:
                self._builds[key] = self._add(Pull(f"{path} needs it: {_from(image)}", key))
            else:
                runs = ": its installer runs once, unattended" if image is not None and image.install else ""
                self._builds[key] = self._add(Build(f"{path} needs it{runs}", key))

    def _write_installs(self) -> None:
        """Programs for what is made or boots on the lab's host."""
        starts = [spec.path for spec in self._blueprint.specs if not spec.parent and self._boots(spec.path)]
        if starts:
            why = f"{starts[0]} runs on it, and what this host has is missing or too old"
            self._installs = tuple(self._add(Install(why, each)) for each in sorted(self._observed.lacking))

    def _write_starts(self) -> None:
        """Machines inside follow what they are in; where there are clusters, a level is done before the next."""
        specs: Iterable[Spec] = self._blueprint.specs
        if self._clusters.any:
            specs = sorted(specs, key=lambda spec: spec.level)
        level = 1
        for spec in specs:
            if spec.level > level:
                self._clusters.write(level, self._ends, self._setups)
                level = spec.level
            self._write_start(spec)
        self._clusters.write(level, self._ends, self._setups)

    def _boots(self, path: str) -> bool:
        return self._fates.get(path, NOTHING).boots

    def _write_start(self, spec: Spec) -> None:
        fate = self._fates.get(spec.path, NOTHING)
        if fate.boots:
            self._write_boot(spec, fate)
        if fate.grows:
            needs = (f"boot:{spec.path}",) if fate.boots else self._images_of(spec)
            if fate.discards:
                needs = (self._add(Discard(fate.grows, spec.path, fate.discards, needs=needs)),)
            self._add(Update(fate.grows, spec.path, needs=needs))
        if fate.introduce or fate.may_run:
            needs = (f"boot:{spec.path}",) if fate.boots else ()
            self._add(Introduce(self._why_introduced(spec, fate), spec.path, needs=needs))
        seen, starts = self._observed.machines.get(spec.path), fate.boots and not fate.goes_on
        why = why_set_up(spec, seen, anew=fate.remade, starts=starts)
        if why and self._goals[spec.path] == "running":
            after = [f"boot:{spec.path}"] * fate.boots + [f"introduce:{spec.path}"] * (fate.introduce or fate.may_run)
            self._setups[spec.path] = self._add(SetUp(why, spec.path, needs=tuple(after)))

    def _why_introduced(self, spec: Spec, fate: Fate) -> str:
        before = self._before.get(spec.path)
        if not fate.introduce:
            return "it may know old names"
        return "its ssh keys changed" if before and before.hosts == spec.hosts else "its names changed"

    def _write_boot(self, spec: Spec, fate: Fate) -> None:
        outer = self._fates.get(spec.parent, NOTHING)
        needs = [f"boot:{spec.parent}"] if outer.boots else []
        needs += [self._setups[spec.parent]] if spec.parent in self._setups else []
        needs += self._clusters.before_guests(spec.parent)
        if fate.start != "boot" or not spec.parent:
            needs += self._images_of(spec)
        if not spec.parent:
            needs += self._installs
        if spec.path in self._ends and not fate.vanishes:
            needs.insert(0, self._ends[spec.path])
        if fate.late:
            needs.append(self._write_late_end(spec.path, fate))
        if fate.discards:
            needs = [self._add(Discard(fate.why, spec.path, fate.discards, needs=tuple(needs)))]
        if fate.start != "boot":
            cls = Create if fate.start == "make" else Update
            needs = [self._add(cls(fate.why, spec.path, needs=(*needs, *self._clears.get(spec.parent, ()))))]
        if not spec.parent:
            needs += [self._connects[nic.segment] for nic in spec.nics if nic.segment in self._connects]
        displaced = {self._in_use[key]: None for key in _cards(spec) if key in self._in_use}
        needs += [self._ends[path] for path in displaced if path != spec.path]
        self._add(Boot(fate.why, spec.path, needs=tuple(needs)))

    def _images_of(self, spec: Spec) -> tuple[str, ...]:
        keys = dict.fromkeys(spec.images)
        return tuple(self._builds[key] for key in keys if key in self._builds)

    def _write_late_end(self, path: str, fate: Fate) -> str:
        """A machine that cannot be seen ends once the machine that it is in runs."""
        cls = Stop if fate.end == "stop" else Remove
        return self._add(cls(fate.end_why, path, needs=(f"boot:{parent_of(path)}",)))


def _from(image: Image) -> str:
    """Where an image is downloaded from, as far as that is known without asking."""
    said = f"a download from {urlsplit(image.url or '').hostname}"
    if image.checksum is None:
        return f"{said}, whose checksum `up` reads first ({shown_url(image.sums or '')})"
    return f"{said}, its size not known before"


def _cards(spec: Spec) -> Iterable[tuple[str, str]]:
    for nic in spec.nics:
        yield nic.segment, nic.mac
        for address in nic.addresses:
            yield nic.segment, address.partition("/")[0]
