"""Looks whether a machine may move from one hypervisor of its lab to another, and moves it there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines import Engine
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import parent_of
from nestlab.lab.moved_machines import Passage, moved, placed
from nestlab.plan.migration import Cpu, End, Ruling, check_places, judge
from nestlab.verbs import migrations, node_migration
from nestlab.verbs.migration_downtime import Echoes, listening
from nestlab.verbs.session import Session

ASKED = r"""
uname -m
while read -r key rest; do
  case $key in
    vendor_id | flags | Features) echo "$key $rest" ;;
    model) case $rest in name*) echo "$key $rest" ;; esac ;;
    '') break ;;
  esac
done </proc/cpuinfo
while read -r key rest; do
  [ "$key" != MemAvailable: ] || echo "$key $rest"
done </proc/meminfo
"""
"""Prints the architecture, the lines about the first CPU that decide what runs on it, and the memory that is left."""

INSIDE = r"""
for fd in /proc/[0-9]*/fd/*; do
  case $(readlink "$fd" 2>/dev/null) in anon_inode:kvm-vm) d=${fd%/fd/*}; read -r n <"$d/comm" && echo "$n" ;; esac
done
"""
"""Prints the names of the processes that have a virtual machine open."""

LONGEST = 1 << 16
"""Letters of an answer."""

_LINE = re.compile(r"(vendor_id|model|flags|Features|MemAvailable:)\s*(.{0,8000})")


@frozen
class Arrived:
    """`downtime`: seconds for which it stood still, as QEMU measured it; `silent`: for which it answered no echo, None
    where nobody could ask it; `total`: seconds that its memory took; `sent`: bytes of it."""

    path: str
    downtime: float = 0.0
    silent: float | None = None
    total: float = 0.0
    sent: int = 0


async def look(session: Session, path: str, target: str, *, cold: bool = False) -> Ruling:
    """Looks at a migration before it is made; the session has observed. LabError where it makes no sense."""
    check_places(session.blueprint, session.observed, path, target)
    spec, seen = session.blueprint[path], session.observed.machines.get(path)
    if seen is None:
        raise LabError(f"{path} is not there.", hint="`nestlab up` makes it.")
    running = spec.machine.hypervisor is not None and seen.state == "running"
    nodes = await _nodes(session, path, target)
    if nodes is not None:
        inside = await _inside(session, spec) if running else ()
        return await node_migration.look(session.blueprint, seen, *nodes, cold=cold, inside=inside)
    there = replace(spec, path=f"{target}/{spec.machine.name}")
    source = await _end(session, parent_of(path), spec)
    end = await _end(session, target, there)
    inside = await _inside(session, spec) if running else ()
    return judge(spec, seen, source, end, cold=cold, inside=inside)


async def go(session: Session, ruling: Ruling, say: Callable[[str], None], *, keep: bool = False) -> Arrived:
    """Move it. LabError where it may not, or that fails: then it is where it was."""
    if ruling.refused is not None:
        raise ruling.refused
    path, arrival = ruling.path, ruling.arrival
    live = ruling.way == "live"
    ran = ruling.way == "restart" or (live and session.observed.machines[path].state == "running")
    passage = Passage(path, arrival, live=live, ran=ran, keep=keep)
    placed(session.blueprint, moved(session.moves.aways, path, arrival, 0.0))
    try:
        await session.nest.drop(path)
        async with listening(session, path, arrival, wanted=live and ran) as echoes:
            done = await migrations.go(session, passage, say)
            silent = await _silent(echoes)
    finally:
        await session.nest.drop(path)
        await session.nest.drop(arrival)
        await session.look()
    return Arrived(arrival, done.downtime, silent, done.total, done.sent)


async def _nodes(session: Session, path: str, target: str) -> tuple[NodeEngine, NodeEngine] | None:
    """The engines at both ends, where these are members of one cluster of Proxmox VE. LabError where they are nodes
    that are not."""
    source = parent_of(path)
    ends = [await session.nest.engine(source), await session.nest.engine(target)]
    one, other = ends
    if not isinstance(one, NodeEngine) or not isinstance(other, NodeEngine):
        return None
    if not node_migration.together(session.blueprint, source, target):
        what = f"{source} and {target} are in no cluster together, and Proxmox VE moves machines between its members."
        raise LabError(what, hint="Make both members of one: `clusters:` in the lab file.")
    return one, other


async def _silent(echoes: Echoes | None) -> float | None:
    return await echoes.longest() if echoes is not None else None


async def _end(session: Session, path: str, spec: Spec) -> End:
    """A hypervisor as an end, for a machine that it runs or is to run."""
    engine: Engine = await session.nest.engine(path)
    kind = session.blueprint[path].machine.hypervisor or ""
    if not isinstance(engine, QemuEngine):
        return End(path, moves=False, kind=kind)
    cpu, free = asked((await (await session.nest.host(path)).run(("sh", "-c", ASKED), timeout=20)).text)
    kvm = None if spec.machine.container else (await engine.choice(spec)).accel == "kvm"
    return End(path, True, engine.live, kind, cpu, kvm, free)


def asked(text: str) -> tuple[Cpu, int | None]:
    """What ASKED printed: whatever a hypervisor says, nothing but words and a number are taken from it."""
    arch, _, rest = text[:LONGEST].partition("\n")
    found: dict[str, str] = {}
    for line in rest.splitlines():
        if match := _LINE.fullmatch(line):
            found.setdefault(match[1], match[2].rpartition(":")[2].strip())
    free = re.fullmatch(r"([0-9]{1,15}) kB", found.get("MemAvailable:", ""))
    flags = frozenset((found.get("flags") or found.get("Features") or "").split())
    vendor, model = (_word(found.get(each, "")) for each in ("vendor_id", "model"))
    return Cpu(_word(arch), vendor, model, flags), int(free[1]) << 10 if free else None


def _word(text: str) -> str:
    return text.strip()[:80] if text.isprintable() else ""


async def _inside(session: Session, spec: Spec) -> tuple[str, ...] | None:
    """What runs virtual machines in a machine that is a hypervisor; None: it cannot be asked."""
    if not spec.machine.by_ssh:
        return None
    try:
        host: Host = await session.nest.host(spec.path)
        said = (await host.run(("sh", "-c", INSIDE), timeout=20)).text[:LONGEST]
    except LabError:
        return None
    return tuple(dict.fromkeys(line[:40] for line in said.splitlines() if line.isprintable()))
