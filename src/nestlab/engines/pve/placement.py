"""Chooses node and storage for each machine of a lab. Pure.

What is nested in a machine runs in its memory and on its disk, so a machine on the lab's own level stands for its whole
nest. Machines on one segment that does not reach from node to node stay together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.pve.cpu_types import Processor
from nestlab.kinds import kinds
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import GIB, MIB
from nestlab.lab.places import Pve
from nestlab.plan.capacity import EMULATING, ON_KVM

IMAGE = GIB
"""Bytes of disk counted for a machine that the lab file gives none: what its image may grow to."""

LINKS = frozenset({"lvmthin", "zfspool", "rbd", "dir", "nfs", "cifs", "btrfs", "cephfs"})
"""Types of storages that can make linked clones of templates (pve-storage, volume_has_feature `clone`)."""


@frozen
class Store:
    """A storage as one node sees it; `free` in bytes."""

    name: str
    free: int
    shared: bool = False
    kind: str = "dir"
    content: frozenset[str] = frozenset({"images"})


@frozen
class Room:
    """A node, and what is free on it. Bytes; `online`: it answers."""

    node: str
    memory: int = 0
    free: int = 0
    cpus: int = 0
    stores: tuple[Store, ...] = ()
    online: bool = True
    processor: Processor = field(default_factory=lambda: Processor(""))

    def store(self, name: str) -> Store | None:
        return next((store for store in self.stores if store.name == name), None)


@frozen
class At:
    """Where a machine is now. `taken`: bytes of memory that it has there already."""

    node: str
    storage: str = ""
    taken: int = 0


@frozen
class Spot:
    """Where a machine is to be, and why. `shared`: its storage is the same on other nodes."""

    node: str
    storage: str
    why: str
    shared: bool = False


@frozen
class _Need:
    """Machines that stay together: one, or all on segments that end at the node."""

    paths: tuple[str, ...]
    memory: int
    """Bytes on a node with KVM, and `emulated` on one without."""
    emulated: int
    cpus: int
    disk: int
    stated: frozenset[str]
    now: frozenset[str]
    hypervisor: bool
    kvm: bool
    content: frozenset[str]

    def memory_on(self, room: Room) -> int:
        return self.emulated if room.processor.kvm is False else self.memory


def place(
    blueprint: Blueprint,
    pve: Pve,
    rooms: Sequence[Room],
    there: Mapping[str, At],
    *,
    wanted: Collection[str] | None = None,
    reaching: Collection[str] = (),
    parent: str = "",
) -> dict[str, Spot]:
    """A spot for every machine right inside `parent` ("": on the lab's own level). LabError with all the numbers when
    what is `wanted` to run (None: all) does not fit.

    `there`: where machines of the lab are: they stay. `reaching`: segments that reach from node to node.
    """
    specs = blueprint.children(parent)
    asked = {spec.path for spec in specs} if wanted is None else {spec.path for spec in specs if spec.path in wanted}
    problems = [*_inner(blueprint, wanted), *_stated(specs, pve, rooms)]
    if problems:
        raise LabError("\n".join(problems), hint="Correct the lab file or the address in it, or make room.")
    usable = _usable(pve, rooms)
    left = {room.node: room for room in usable}
    spots: dict[str, Spot] = {}
    needs = [_need(group, there, asked) for group in _groups(specs, reaching, there)]
    for need in sorted(needs, key=lambda need: (not need.now, not need.stated, -need.memory, need.paths)):
        if not need.memory and not need.content:  # nothing is to be made or to run: it may be where it cannot be seen
            spots |= {path: Spot(there[path].node, there[path].storage, "it is there") for path in need.paths}
            continue
        room, store, why = _choose(need, pve, list(left.values()), specs)
        left[room.node] = _taken(room, store, need)
        if store.shared:
            left = {node: _written(each, store.name, need.disk, room.node) for node, each in left.items()}
        for path in need.paths:
            at = there.get(path)
            storage = (at.storage if at else "") or store.name
            spots[path] = Spot(at.node if at else room.node, storage, why, store.shared)
    return {spec.path: spots[spec.path] for spec in specs}


def _usable(pve: Pve, rooms: Sequence[Room]) -> list[Room]:
    found = [room for room in rooms if room.online and (not pve.nodes or room.node in pve.nodes)]
    if not found:
        seen = ", ".join(f"{room.node} ({'online' if room.online else 'offline'})" for room in rooms) or "none"
        allowed = f" of {', '.join(pve.nodes)}" if pve.nodes else ""
        raise LabError(f"No node{allowed} can be used; there are: {seen}.", hint="Start one, or correct `nodes`.")
    return found


def _stated(specs: Sequence[Spec], pve: Pve, rooms: Sequence[Room]) -> Iterable[str]:
    known = {room.node: room for room in rooms}
    for node in pve.nodes:
        if node not in known:
            yield f"There is no node {node}, which the lab names; the cluster has: {', '.join(known) or 'none'}."
    for spec in specs:
        if (stated := spec.machine.node) is None:
            continue
        if stated not in known:
            there = ", ".join(known) or "none"
            yield f"{spec.path} is to run on node {stated}, which the cluster does not have; it has: {there}."
        elif not known[stated].online:
            yield f"{spec.path} is to run on node {stated}, which is offline."
        elif pve.nodes and stated not in pve.nodes:
            yield f"{spec.path} is to run on node {stated}, and `nodes` allows {', '.join(pve.nodes)}."


def _inner(blueprint: Blueprint, wanted: Collection[str] | None) -> Iterable[str]:
    """Machines whose guests do not fit into them, at every level."""
    inside: dict[str, list[Spec]] = {}
    for spec in blueprint.specs:
        if wanted is None or spec.path in wanted:
            inside.setdefault(spec.parent, []).append(spec)
    for spec in blueprint.specs:
        inner, kind = inside.get(spec.path), kinds().get(spec.machine.hypervisor or "")
        if not inner or kind is None:
            continue
        needed = sum(each.machine.memory for each in inner) + kind.overhead
        if needed > spec.machine.memory:
            sizes = " + ".join(f"{each.path} {gib(each.machine.memory)}" for each in inner[:8])
            more = f" + {len(inner) - 8} more" if len(inner) > 8 else ""
            yield (
                f"The machines in {spec.path} need {gib(needed)} of memory ({sizes}{more}, and {gib(kind.overhead)} "
                f"for itself), and it has {gib(spec.machine.memory)}."
            )


def _groups(specs: Sequence[Spec], reaching: Collection[str], there: Mapping[str, At]) -> list[list[Spec]]:
    """Machines that must be on one node, because a segment that they share ends there."""
    leader: dict[str, str] = {spec.path: spec.path for spec in specs}

    def find(path: str) -> str:
        while leader[path] != path:
            path = leader[path]
        return path

    first: dict[str, str] = {}
    for spec in specs:
        for nic in spec.nics:
            if nic.segment not in reaching:
                leader[find(spec.path)] = find(first.setdefault(nic.segment, spec.path))
    groups: dict[str, list[Spec]] = {}
    for spec in specs:
        groups.setdefault(find(spec.path), []).append(spec)
    return list(groups.values())


def _need(group: Sequence[Spec], there: Mapping[str, At], asked: Collection[str]) -> _Need:
    new = [spec for spec in group if spec.path not in there]
    runs = [spec for spec in group if spec.path in asked]
    contents = {"rootdir" if spec.machine.container else "images" for spec in new}
    return _Need(
        paths=tuple(spec.path for spec in group),
        memory=sum(_lacking(spec, there, kvm=True) for spec in runs),
        emulated=sum(_lacking(spec, there, kvm=False) for spec in runs),
        cpus=max(spec.machine.cpus for spec in group),
        disk=sum(spec.machine.disk or IMAGE for spec in new),
        stated=frozenset(spec.machine.node for spec in group if spec.machine.node),
        now=frozenset(there[spec.path].node for spec in group if spec.path in there),
        hypervisor=any(spec.machine.hypervisor and spec.machine.accel != "tcg" for spec in group),
        kvm=any(spec.machine.accel == "kvm" for spec in group),
        content=frozenset(contents),
    )


def _lacking(spec: Spec, there: Mapping[str, At], *, kvm: bool) -> int:
    """Bytes of memory that a machine takes on a node, with KVM there or without, beyond what it has there already."""
    taken = there[spec.path].taken if spec.path in there else 0
    return max(0, spec.machine.memory + overhead(spec, kvm=kvm) - taken)


def overhead(spec: Spec, *, kvm: bool) -> int:
    """Bytes that the process of a machine takes beside its memory. A container has none."""
    if spec.machine.container:
        return 0
    return ON_KVM if kvm and spec.machine.accel != "tcg" else EMULATING


def _choose(need: _Need, pve: Pve, rooms: Sequence[Room], specs: Sequence[Spec]) -> tuple[Room, Store, str]:
    """The node and storage for machines that stay together."""
    if len(need.stated) > 1:
        names = ", ".join(need.paths)
        what = f"{names} are on segments that end at a node, and `node:` puts them on {', '.join(sorted(need.stated))}."
        hint = "Put them on one node, or use a zone that reaches from node to node (vxlan), or a `bridge` with `vlan`."
        raise LabError(what, hint=hint)
    fixed, why = _fixed(need)
    fitting: list[tuple[Room, Store]] = []
    refusals: list[str] = []
    for room in rooms:
        if fixed is not None and room.node != fixed:
            continue
        store = _store(room, pve, need)
        refusal = _refusal(need, room, store, pve)
        if refusal:
            refusals.append(f"  {room.node}: {refusal}")
        elif store is not None:
            fitting.append((room, store))
    if not fitting:
        raise _does_not_fit(need, fixed, refusals, specs)
    best = max(fitting, key=lambda pair: _rank(need, pve, pair[0]))
    return (*best, why or _reason(pve, best[0], len(rooms), need))


def _fixed(need: _Need) -> tuple[str | None, str]:
    if need.now:
        return sorted(need.now)[0], "it is there" if len(need.paths) == 1 else "others on its segments are there"
    if need.stated:
        stated = next(iter(need.stated))
        return stated, "the lab file says so" if len(need.paths) == 1 else "the lab file puts its segments there"
    return None, ""


def _rank(need: _Need, pve: Pve, room: Room) -> tuple[bool, int, bool, str]:
    """More is better: KVM for hypervisors, then memory; among equals the first by name."""
    able = not need.hypervisor or (room.processor.kvm is not False and room.processor.nests is not False)
    free = room.free - need.memory_on(room)
    order = "".join(chr(0x10FFFF - ord(each)) for each in room.node)
    return able, free if pve.placement == "spread" else -free, room.processor.kvm is not False, order


def _reason(pve: Pve, room: Room, count: int, need: _Need) -> str:
    if count == 1:
        return "the only node"
    most = "most" if pve.placement == "spread" else "least"
    together = ", with the others on its segments" if len(need.paths) > 1 else ""
    return f"{most} memory free ({gib(room.free)}){together}"


def _store(room: Room, pve: Pve, need: _Need) -> Store | None:
    """Where disks go on a node: what the lab file names, else where clones are links, and then where most is free."""
    if not need.content:
        return Store(pve.storage or "", 1 << 62)
    if pve.storage is not None:
        return room.store(pve.storage)
    able = [store for store in room.stores if need.content <= store.content]
    return max(able, key=lambda store: (store.kind in LINKS, store.free, store.name), default=None)


def _refusal(need: _Need, room: Room, store: Store | None, pve: Pve) -> str:
    """Why machines cannot be on a node; "" if they can."""
    content = " and ".join(sorted(need.content))
    if store is None:
        named = f"storage {pve.storage}" if pve.storage else f"storage that takes content {content}"
        return f"it has no {named}; it has: {', '.join(each.name for each in room.stores) or 'none'}"
    if need.content and not need.content <= store.content:
        takes = ",".join(sorted({*store.content, *need.content} - {""}))
        return f"storage {store.name} takes no content {content} (pvesm set {store.name} --content {takes})"
    if need.kvm and room.processor.kvm is False:
        return "it has no KVM, and the lab file says accel: kvm"
    if room.cpus and need.cpus > room.cpus:
        return f"a machine has {need.cpus} CPUs, and the node {room.cpus}: PVE starts none with more"
    memory = need.memory_on(room)
    if memory and room.memory and memory > room.free:
        return f"memory: {gib(memory)} needed, {gib(room.free)} of {gib(room.memory)} free"
    if need.content and need.disk > store.free:
        return f"disk: {gib(need.disk)} needed, {gib(store.free)} free on {store.name}"
    return ""


def _does_not_fit(need: _Need, fixed: str | None, refusals: Sequence[str], specs: Sequence[Spec]) -> LabError:
    sizes = {spec.path: spec.machine.memory for spec in specs}
    named = " + ".join(f"{path} {gib(sizes[path])}" for path in need.paths[:8])
    more = f" + {len(need.paths) - 8} more" if len(need.paths) > 8 else ""
    together = ", which share segments and stay together," if len(need.paths) > 1 else ""
    where = f"on node {fixed}" if fixed else "on any node"
    lines = refusals or [f"  {fixed}: it is not among the nodes that may be used, or it does not answer"]
    qemu = f"with {gib(ON_KVM)} for each QEMU, {gib(EMULATING)} without KVM"
    what = f"{named}{more}{together} ({qemu}) cannot run {where}:\n" + "\n".join(lines)
    return LabError(what, hint="Lower `memory:`, `disk:` or the number of machines, or make room.")


def _taken(room: Room, store: Store, need: _Need) -> Room:
    return _written(replace(room, free=room.free - need.memory_on(room)), store.name, need.disk, "")


def _written(room: Room, storage: str, size: int, but: str) -> Room:
    """A node after so many bytes more on a storage; nothing changes on the node `but`."""
    if room.node == but:
        return room
    stores = tuple(replace(each, free=each.free - size) if each.name == storage else each for each in room.stores)
    return replace(room, stores=stores)


def notes(specs: Sequence[Spec], spots: Mapping[str, Spot], rooms: Sequence[Room]) -> list[str]:
    """Notes about what is tight though it fits: CPUs that are shared."""
    asked: dict[str, int] = {}
    for spec in specs:
        node = spots[spec.path].node
        asked[node] = asked.get(node, 0) + spec.machine.cpus
    have = {room.node: room.cpus for room in rooms}
    return [
        f"The lab's machines on {node} have {count} CPUs, and it has {have[node]}: they share them."
        for node, count in sorted(asked.items())
        if have.get(node) and count > have[node]
    ]


def gib(size: int) -> str:
    """For people: `1.5G`, or MiB below a gibibyte."""
    return f"{size / GIB:.1f}G" if size >= GIB else f"{-(-size // MIB)}M"
