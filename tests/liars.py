"""Hypervisors whose root lies: a pretended world in which what they say of their machines is a test's to choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nestlab.engines import Engine
from nestlab.engines.qemu.engine import Environment, QemuEngine
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place, short_id
from nestlab.hosts.host import Host, Result
from nestlab.images.image_files import Cache
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.planner import plan
from nestlab.plan.steps import Observed
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs.local import guest_programs
from nestlab.verbs.nest import Nest

STAT = "4711 (qemu-system-x86) S 1 " + " ".join(["7"] * 48)
"""/proc/PID/stat of a QEMU that runs."""


def told(folder: str, **files: object) -> str:
    """The lines of `observed.SCRIPT` about one directory. `files`: the content of `making`, `made` and `boot`, as it is
    or as JSON; `runs`: its QEMU lives."""
    marks = {"making": "W", "made": "S", "boot": "B"}
    lines = [f"M {folder}"]
    for name, mark in marks.items():
        if name in files:
            content = files[name]
            lines.append(f"{mark} {content if isinstance(content, str) else json.dumps(content)}")
    if files.get("runs"):
        lines += [f"P {STAT}", "R 100 20 1", "O"]
    return "\n".join(lines)


def honest(path: str, blueprint: Blueprint) -> str:
    """What a hypervisor says of a machine that runs in it."""
    spec = blueprint[path]
    made = {"path": path, "digest": spec.digest, "names": spec.names, "root": spec.root, "disk": 0}
    boot = {"port": 20022, "accel": "kvm", "user": "root", "tells": True}
    return told(short_id(path), making={"path": path}, made=made, boot=boot, runs=True)


def report(*folders: str, uptime: str = "500.0") -> str:
    return "\n".join([f"U {uptime}", *folders, ""])


def engine_on(host: Host, lab: str, directory: Path, place: Place | None = None) -> QemuEngine:
    """The embedded engine on a host, with its files in `directory` on this machine."""
    place = place or Place("/var/lib/nestlab/labs/pair")
    programs = guest_programs(directory / "cache")
    return QemuEngine(host, Environment(lab, place, LabKeys(directory), Cache(directory / "cache"), programs))


def up(blueprint: Blueprint) -> FakeWorld:
    """A world in which all of a lab runs."""
    world = FakeWorld()
    for step in plan(blueprint, Observed()).steps:
        world.do(blueprint.lab, step, blueprint)
    return world


def nest_with(
    world: FakeWorld, blueprint: Blueprint, says: Mapping[str, str | Callable[[Sequence[str]], Result]], directory: Path
) -> Nest:
    """A nest in which some hypervisors (by path) answer every command with what they say; the embedded engine asks
    them. The others are honest."""

    def answer(path: str, argv: Sequence[str]) -> Result | None:
        said = says.get(path)
        if said is None:
            return None
        return Result(tuple(argv), 0, said.encode(), b"") if isinstance(said, str) else said(argv)

    def inside(lab: str, parent: Host) -> Engine:
        return engine_on(parent, lab, directory) if parent.path in says else world.engine(lab, parent)

    world.answer = answer
    return Nest(blueprint, world.host(), world.engine, {"kvm": inside}, previous=blueprint)
