"""Whether a machine may move from one hypervisor of its lab to another, how, and why not. Pure.

What a CPU that runs guests of its own carries is no whole state for QEMU (measured: with guests that run, one load of
three fails), so a hypervisor with guests moves only when it is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from nestlab import kinds
from nestlab.base.did_you_mean import closest
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.model import level_of, parent_of, within
from nestlab.lab.moved_machines import OTHER
from nestlab.plan.steps import Observed, Seen

Way = Literal["live", "restart", "off"]
"""`live`: while it runs; `restart`: it is stopped, moved and started; `off`: it does not run, and is not started."""

_ABLE = "Between hypervisors of kind `kvm`, of kind `libvirt`, and members of one cluster of `pve` it does."

SPARE = 64 << 20
"""Bytes that a hypervisor needs beside the memory of a machine, for its QEMU."""


@frozen
class Cpu:
    """What decides whether a guest can go on: of a hypervisor, as it says itself."""

    arch: str = ""
    vendor: str = ""
    model: str = ""
    flags: frozenset[str] = frozenset()


@frozen
class End:
    """A hypervisor at one end. `moves`: its engine moves machines; `live`: also while they run; `kind`: what it is;
    `kvm`: guests run on KVM there; `free`: bytes of memory that are not used; None: it does not tell."""

    path: str
    moves: bool = True
    live: bool = True
    kind: str = ""
    cpu: Cpu = Cpu()
    kvm: bool | None = None
    free: int | None = None


@frozen
class Ruling:
    """`refused`: why it may not, as an error; `notes`: what else a person should know."""

    path: str
    target: str
    way: Way = "live"
    refused: LabError | None = None
    notes: tuple[str, ...] = ()

    @property
    def arrival(self) -> str:
        """The path that it will have."""
        return arrival(self.path, self.target)


def arrival(path: str, target: str) -> str:
    return f"{target}/{path.rpartition('/')[2]}"


def check_places(blueprint: Blueprint, observed: Observed, path: str, target: str) -> None:
    """LabError where such a move makes no sense, whatever the two hypervisors say of themselves."""
    specs, parent = blueprint.by_path(), parent_of(path)
    if target not in specs:
        raise _no_hypervisor(blueprint, target)
    spec, outer = specs[path], specs[target]
    name = path.rpartition("/")[2]
    others = [each.path for each in blueprint.specs if each.machine.nests and each.path not in (parent, path)]
    known = f"Hypervisors of the lab: {', '.join(others) or 'none other'}."
    if not parent:
        what = f"{path} is in no hypervisor of the lab, but on the lab's own host, which is one."
        raise LabError(what, hint="What is inside a hypervisor moves: nestlab migrate hv1/web hv2")
    if target == parent:
        raise LabError(f"{path} is in {target} already.", hint=known)
    if not outer.machine.nests:
        raise LabError(f"{target} is no hypervisor that nestlab works in.", hint=known)
    if within(target, path):
        raise LabError(f"{path} cannot move into itself.", hint=known)
    if level_of(target) != level_of(parent):
        what = f"{path} is at level {spec.level}, and in {target} it would be at level {level_of(target) + 1}."
        raise LabError(what, hint="Its way to its host is another there. Machines move within a level.")
    if arrival(path, target) in specs or arrival(path, target) in observed.machines:
        raise LabError(f"There is a machine {name} in {target} already.", hint="Remove it, or call it otherwise.")
    if spec.machine.nests and any(each.parent == path for each in blueprint.specs):
        what = f"{path} is a hypervisor with machines of the lab inside, which go by its path."
        raise LabError(what, hint=f"Move those out of it first: nestlab migrate {path}/MACHINE {parent}")
    if spec.born.endswith(OTHER):
        what = f"{path} has the path under which another machine, which was moved, was made."
        raise LabError(what, hint="Call it otherwise in the lab file.")
    _joined(spec, outer)
    for each in (parent, target):
        seen = observed.machines.get(each)
        if seen is None or seen.state != "running":
            state = seen.state if seen else "not there"
            raise LabError(f"{each} is {state}: nothing moves from it or into it.", hint=f"nestlab start {each}")


def _no_hypervisor(blueprint: Blueprint, target: str) -> LabError:
    known = [spec.path for spec in blueprint.specs if spec.machine.nests]
    close = closest(target, tuple(known))
    hint = f"Did you mean {close}?" if close else f"Its hypervisors: {', '.join(known) or 'none'}."
    return LabError(f"Lab {blueprint.lab} has no hypervisor {target}.", hint=hint)


def _joined(spec: Spec, outer: Spec) -> None:
    """LabError unless the hypervisor has a bridge on all segments of the machine, with its VLANs."""
    kind = kinds.kinds().get(outer.machine.hypervisor or "")
    all_are = kind is not None and bool(kind.bridges)
    bridges: Mapping[str, Nic] = {nic.segment: nic for nic in outer.nics if nic.bridge or all_are}
    on = {nic.segment for nic in outer.nics}
    for nic in spec.nics:
        if nic.segment not in bridges:
            hint = f"Put {outer.path} on it in the lab file: `segments: [{nic.segment}]`."
            if nic.segment in on:
                hint = f"It has one once a machine inside is on {nic.segment}."
            raise LabError(f"{outer.path} has no bridge on {nic.segment}, which {spec.path} is on.", hint=hint)
        if nic.port and not bridges[nic.segment].trunk:
            vlans = f"VLAN {nic.vlan}" if nic.vlan else "the VLANs"
            what = f"{outer.path} does not carry {vlans} of {nic.segment}, which {spec.path} is on."
            raise LabError(what, hint=f"Say `trunk: true` of its link to {nic.segment} in the lab file.")


def judge(
    spec: Spec, seen: Seen, source: End, target: End, *, cold: bool = False, inside: Sequence[str] | None = ()
) -> Ruling:
    """How a machine moves between two hypervisors that run, or why it cannot. `cold`: if it runs, it is stopped and
    started; `inside`: what runs in it, that is seen; None: that cannot be told."""
    path, way = spec.path, _way(spec, seen, cold=cold)
    refused = _unable(spec, seen, source, target) or _no_room(spec, seen, target)
    if refused is None and way == "live":
        refused = _not_live(spec, seen, source, target, inside)
    notes: tuple[str, ...] = ()
    if way == "restart" and not cold:
        notes = ("a container: it is stopped, moved and started again",)
    return Ruling(path, target.path, way, refused, notes)


def _way(spec: Spec, seen: Seen, *, cold: bool) -> Way:
    if seen.state not in ("running", "paused"):
        return "off"
    return "restart" if cold or spec.machine.container else "live"


def _unable(spec: Spec, seen: Seen, source: End, target: End) -> LabError | None:
    for end in (source, target):
        if not end.moves:
            what = f"nestlab does not move machines that {end.path} runs."
            return LabError(what, hint=_ABLE)
    if source.kind != target.kind:
        what = f"{source.path} is a {source.kind}, and {target.path} a {target.kind}."
        return LabError(what, hint="Machines move between hypervisors of one kind.")
    if seen.state in ("broken", "unknown"):
        state = "only half made" if seen.state == "broken" else "not to be seen now"
        return LabError(f"{spec.path} is {state}: it cannot be moved.", hint="nestlab up")
    if source.cpu.arch != target.cpu.arch:
        what = f"{source.path} is {source.cpu.arch}, and {target.path} {target.cpu.arch}."
        return LabError(what, hint=f"What is made for one does not run on the other: {spec.path} stays.")
    return None


def _no_room(spec: Spec, seen: Seen, target: End) -> LabError | None:
    """A machine that is off moves all the same: how much there is when it starts is not known now."""
    need = spec.machine.memory + SPARE
    if seen.state not in ("running", "paused") or target.free is None or target.free >= need:
        return None
    what = f"{target.path} has {human(target.free)} of memory left, and {spec.path} takes {human(need)}."
    return LabError(what, hint=f"Stop something in {target.path}, or give it more `memory:`.")


def _not_live(spec: Spec, seen: Seen, source: End, target: End, inside: Sequence[str] | None) -> LabError | None:
    path = spec.path
    cold = f"`nestlab migrate --cold {path} {target.path}` stops it, moves it and starts it again."
    if seen.digest != spec.digest or seen.drift:
        return LabError(
            f"{path} runs with another definition than the lab has.", hint="`nestlab up` first, then move it."
        )
    for end in (source, target):
        if not end.live:
            what = f"What {end.kind} runs in {end.path} does not move while it runs."
            return LabError(what, hint=cold)
    if not seen.ready:
        return LabError(f"{path} is still booting.", hint=f"nestlab wait {path}")
    if spec.machine.hardware.tpm:
        return LabError(f"{path} has a TPM, whose state does not move while it runs.", hint=cold)
    if spec.machine.hypervisor and inside is None:
        what = f"{path} is a hypervisor, and what runs inside it cannot be told."
        return LabError(what, hint=f"The state of a CPU that runs guests of its own is lost. {cold}")
    if inside:
        names = ", ".join(inside[:6])
        what = f"{path} is a hypervisor in which guests run ({names}): the state of a CPU that runs them is lost."
        return LabError(what, hint=f"Stop them first. {cold}")
    return _other_cpu(spec, seen, source, target, cold)


def _other_cpu(spec: Spec, seen: Seen, source: End, target: End, cold: str) -> LabError | None:
    kvm = seen.accel == "kvm"
    if target.kvm is not None and kvm != target.kvm:
        here, there = ("on KVM", "emulated") if kvm else ("emulated", "on KVM")
        return LabError(f"{spec.path} runs {here}, and in {target.path} it would be {there}.", hint=cold)
    one, other = source.cpu, target.cpu
    if kvm and (one.vendor, one.model) != (other.vendor, other.model):
        what = f"{source.path} has a CPU {one.model or 'unknown'}, and {target.path} {other.model or 'unknown'}."
        return LabError(what, hint=cold)
    if kvm and (lacking := sorted(one.flags - other.flags)):
        what = f"The CPU of {target.path} lacks what that of {source.path} has: {', '.join(lacking[:8])}."
        return LabError(what, hint=cold)
    return None
