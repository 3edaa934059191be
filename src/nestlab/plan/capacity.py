"""Whether a lab fits: memory, disk and CPUs over the whole nest, before anything is made. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.hosts.facts import Facts
from nestlab.kinds import kinds
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.hardware import CPU_LIMIT
from nestlab.lab.model import MIB, format_size
from nestlab.plan.steps import Observed

EMULATING, ON_KVM = 150 * MIB, 40 * MIB
"""Bytes that a QEMU takes beside its guest's memory. Under TCG its translation buffer is the largest part."""


def check(
    blueprint: Blueprint,
    observed: Observed,
    facts: Facts,
    *,
    wanted: Collection[str] | None = None,
    disk_free: int | None = None,
    to_build: Mapping[str, int] | None = None,
) -> tuple[str, ...]:
    """Notes about what is tight; LabError, with every number, for what does not fit.

    `facts`: of the lab's host. `wanted`: paths that are to run (None: all). `disk_free`: bytes where images and disks
    go. `to_build`: bytes of the images to be built, by key. What machines of the lab take already counts as theirs.
    """
    specs = blueprint.specs if wanted is None else blueprint.only(wanted)
    outer = [spec for spec in specs if not spec.parent]
    problems = [*_cpus(specs), *_memory(outer, observed, facts), *_inner_memory(blueprint, specs)]
    problems += _images(disk_free, to_build or {})
    if problems:
        raise LabError("\n".join(problems), hint=_HINT)
    return (*_shared_cpus(blueprint, outer, specs, facts), *_disks(outer, disk_free, to_build or {}))


def check_images(disk_free: int | None, to_build: Mapping[str, int]) -> None:
    """Only whether there is room to build images. LabError if not."""
    for problem in _images(disk_free, to_build):
        raise LabError(problem, hint="Make room.")


_HINT = "Lower `memory:`, `cpus:` or the number of machines, or make room."


def _cpus(specs: Sequence[Spec]) -> Iterator[str]:
    for spec in specs:
        if spec.machine.cpus > CPU_LIMIT:
            yield f"{spec.path} has {spec.machine.cpus} CPUs, and a machine can have {CPU_LIMIT}."


def _memory(outer: Sequence[Spec], observed: Observed, facts: Facts) -> Iterator[str]:
    if not facts.memory_available:
        return
    needed = sum(spec.machine.memory + overhead(spec, facts) for spec in outer)
    free = facts.memory_available + _taken(outer, observed, facts)
    if needed > free:
        sizes = " + ".join(f"{spec.path} {format_size(spec.machine.memory)}" for spec in outer[:8])
        more = f" + {len(outer) - 8} more" if len(outer) > 8 else ""
        each = " or ".join(_mib(size) for size in sorted({overhead(spec, facts) for spec in outer}))
        yield (
            f"The machines on this host need {_gib(needed)} of memory ({sizes}{more}, and {each} for each "
            f"QEMU), and {_gib(free)} of its {_gib(facts.memory)} is free for them."
        )


def overhead(spec: Spec, facts: Facts) -> int:
    """Bytes that a machine's QEMU takes beside its memory on the host with these facts. A hypervisor counts as emulated
    where the host cannot nest."""
    kvm = facts.can_nest if spec.machine.hypervisor else facts.hardware
    return ON_KVM if kvm and spec.machine.accel != "tcg" else EMULATING


def _taken(outer: Sequence[Spec], observed: Observed, facts: Facts) -> int:
    """Bytes of memory that this lab's machines on the host take now: theirs already, or free once they end."""
    whole = {spec.path: spec.machine.memory + overhead(spec, facts) for spec in outer}
    running = [seen for seen in observed.machines.values() if "/" not in seen.path]
    running = [seen for seen in running if seen.state in ("running", "paused")]
    return sum(whole.get(seen.path, 0) if seen.memory is None else seen.memory for seen in running)


def _inner_memory(blueprint: Blueprint, specs: Sequence[Spec]) -> Iterator[str]:
    inside: dict[str, list[Spec]] = {}
    for spec in specs:
        inside.setdefault(spec.parent, []).append(spec)
    for spec in blueprint.specs:
        inner = inside.get(spec.path)
        kind = kinds().get(spec.machine.hypervisor or "")
        if not inner or kind is None:
            continue
        needed = sum(each.machine.memory for each in inner)
        if needed + kind.overhead > spec.machine.memory:
            yield (
                f"The machines in {spec.path} need {_mib(needed)} of memory and it needs {_mib(kind.overhead)} itself: "
                f"{_mib(needed + kind.overhead)}, and it has {_mib(spec.machine.memory)}."
            )


def _images(disk_free: int | None, to_build: Mapping[str, int]) -> Iterator[str]:
    needed = sum(to_build.values())
    if disk_free is not None and needed > disk_free:
        count = f"{len(to_build)} image{'s' * (len(to_build) > 1)}"
        yield f"Building {count} needs {_gib(needed)} of disk, and {_gib(disk_free)} is free."


def _shared_cpus(blueprint: Blueprint, outer: Sequence[Spec], specs: Sequence[Spec], facts: Facts) -> Iterator[str]:
    asked = sum(spec.machine.cpus for spec in outer)
    if facts.cpus and asked > facts.cpus:
        yield f"The machines on this host have {asked} CPUs, and it has {facts.cpus}: they share them."
    inner: dict[str, int] = {}
    for spec in specs:
        if spec.parent and not spec.machine.container:  # it has none of its own
            inner[spec.parent] = inner.get(spec.parent, 0) + spec.machine.cpus
    cpus = {spec.path: spec.machine.cpus for spec in blueprint.specs}
    tight = [path for path, count in inner.items() if count > cpus[path]]
    if tight:
        named = ", ".join(f"{path} ({inner[path]} on {cpus[path]})" for path in tight[:5])
        yield f"Machines share the CPUs of {named}{' and others' if len(tight) > 5 else ''}."


def _disks(outer: Sequence[Spec], disk_free: int | None, to_build: Mapping[str, int]) -> Iterator[str]:
    sizes = (each for spec in outer for each in (spec.machine.disk or 0, *(disk.size for disk in spec.machine.disks)))
    worst = sum(sizes) + sum(to_build.values())
    if disk_free is not None and worst > disk_free:
        yield f"If all disks fill up they take {_gib(worst)}, and {_gib(disk_free)} is free."


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f}G"


def _mib(size: int) -> str:
    return f"{-(-size // MIB)}M"
