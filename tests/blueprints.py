"""Blueprints for tests, settled by hand: what a test says of a machine is all there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.lab.blueprint import Blueprint, Nic, Spec, bare, carried_segments, definition, mac_of
from nestlab.lab.model import MIB, Image, Lab, Link, Machine, Segment, digest_of, parent_of
from nestlab.lab.setup_stamps import stamps
from nestlab.plan.steps import Observed, Seen
from nestlab.plan.unseen import complete
from nestlab.testing.fake_engine import FakeWorld

WIRE = (Segment("wire"),)
TINY = Image(base="tiny")


def guest(
    name: str, *, memory: int = 128, cpus: int = 1, on: Sequence[str] = ("wire",), at: str | None = None
) -> Machine:
    """A plain guest on some segments; `memory` in MiB."""
    links = tuple(Link(segment, at) for segment in on)
    return Machine(name, image=TINY, memory=memory * MIB, cpus=cpus, links=links)


def hypervisor(
    name: str, *inside: Machine, memory: int = 1024, on: Sequence[str] = ("wire",), cpus: int = 1
) -> Machine:
    """A kvm hypervisor with machines inside."""
    plain = guest(name, memory=memory, on=on, cpus=cpus)
    return replace(plain, hypervisor="kvm", image=Image(base="kvm"), machines=inside)


def pair(*, memory: int = 128) -> Blueprint:
    """Two hypervisors with a guest in each."""
    return draft("pair", hypervisor("hv1", guest("web", memory=memory)), hypervisor("hv2", guest("web")))


def draft(lab: str, *machines: Machine, segments: Sequence[Segment] = WIRE, hosts: str | None = None) -> Blueprint:
    """The blueprint of machines. Names change with the set of machines, unless `hosts` is given."""
    wanted = Lab(lab, segments=tuple(segments), machines=machines)
    placed = list(wanted.walk())
    text = "\n".join(each.path for each in placed) if hosts is None else hosts
    carried = carried_segments(wanted)
    cargo: dict[str, dict[str, None]] = {}
    images: dict[str, Image] = {}
    for each in placed:
        images[_key(each.machine.image)] = each.machine.image
        outer = each.parent
        while outer:
            cargo.setdefault(outer, {})[_key(each.machine.image)] = None
            outer = parent_of(outer)
    specs = []
    for each in placed:
        machine, key = bare(each.machine), _key(each.machine.image)
        links = {link.segment: link for link in machine.links}
        nics = tuple(_nic(lab, each.path, name, links.get(name), carried) for name in _on(links, carried, each.path))
        digest = definition(machine, nics, "10.0.2.0/24", key)
        inner = tuple(cargo.get(each.path, ()))
        due = stamps(machine.setup, {}) if machine.setup else ()
        specs.append(Spec(each.path, machine, nics, "10.0.2.0/24", key, inner, digest, text, due))
    return Blueprint(lab, tuple(segments), tuple(specs), MappingProxyType(images))


def _key(image: Image) -> str:
    return f"{image.base}-{digest_of(image)[:8]}"


def _on(links: dict[str, Link], carried: dict[str, dict[str, bool]], path: str) -> list[str]:
    return list(dict.fromkeys([*links, *carried.get(path, {})]))


def _nic(lab: str, path: str, segment: str, link: Link | None, carried: dict[str, dict[str, bool]]) -> Nic:
    host = int(digest_of(path, segment)[:4], 16)
    address = (link.address if link else None) or f"10.77.{host >> 8}.{host & 255}"
    addresses = (f"{address}/16",) if link else ()
    inside = carried.get(path, {})
    vlan, trunk = (link.vlan, link.trunk) if link else (None, False)
    mac, trunk = mac_of(lab, path, segment), trunk or inside.get(segment, False)
    return Nic(segment, mac, 1500, addresses, bridge=segment in inside, vlan=vlan, trunk=trunk)


def look(world: FakeWorld, blueprint: Blueprint, previous: Blueprint | None = None) -> Observed:
    """A fake world as a Nest sees it, without a loop to run in."""
    lab = blueprint.lab
    found: dict[str, Seen] = {}
    silent: dict[str, str] = {}
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            inner = world.directly_in(lab, parent)
        except LabError as error:
            silent[parent] = error.what
            continue
        found.update(inner)
        waiting += [path for path, seen in inner.items() if seen.state == "running"]
    before = previous.by_path() if previous else {}
    links = frozenset(segment for of, segment in world.links if of == lab)
    return Observed(
        complete(found, silent, {**before, **blueprint.by_path()}),
        links,
        frozenset(world.images),
        frozenset(world.lacking),
        served={segment: digest for (of, segment), digest in world.served.items() if of == lab},
    )


def machines(depth: int = 3) -> st.SearchStrategy[tuple[Machine, ...]]:
    """Some machines with different names, nested at random."""
    links = st.sampled_from([(), ("wire",), ("back",), ("wire", "back")])
    memory = st.sampled_from([128, 256])
    names = st.sampled_from("abcd")
    plain = st.builds(lambda name, memory, on: guest(name, memory=memory, on=on), names, memory, links)
    if depth > 1:
        nested = st.builds(
            lambda name, memory, on, inside: hypervisor(name, *inside, memory=memory, on=on),
            names,
            memory,
            links,
            machines(depth - 1),
        )
        plain = st.one_of(plain, nested)
    return st.lists(plain, max_size=3, unique_by=lambda machine: machine.name).map(tuple)


def blueprints(lab: str = "lab") -> st.SearchStrategy[Blueprint]:
    """Labs of up to some twenty machines on two segments."""
    segments = (Segment("wire"), Segment("back"))
    hosts = st.sampled_from([None, None, "fixed"])
    return st.builds(lambda inside, text: draft(lab, *inside, segments=segments, hosts=text), machines(), hosts)
