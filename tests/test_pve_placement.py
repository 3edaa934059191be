from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints import WIRE, draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve import placement
from nestlab.engines.pve.cpu_types import Processor
from nestlab.engines.pve.placement import IMAGE, At, Room, Spot, Store, overhead, place
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB, Segment
from nestlab.lab.places import Pve

PVE = Pve("pve://pve.example.org")


def room(node: str, free: int = 16, *, cpus: int = 8, stores: Sequence[Store] = (), kvm: bool | None = True) -> Room:
    """`free` in GiB."""
    found = tuple(stores) or (Store("local", 500 * GIB),)
    return Room(node, 32 * GIB, free * GIB, cpus, found, processor=Processor(node, kvm=kvm, nests=kvm))


def apart(*machines: object) -> Blueprint:
    """A lab of machines that share no segment."""
    return draft("lab", *machines)  # type: ignore[arg-type]


def nodes(spots: dict[str, Spot]) -> dict[str, str]:
    return {path: spot.node for path, spot in spots.items()}


def test_machines_are_spread_by_free_memory() -> None:
    lab = apart(*(guest(name, memory=1024, on=()) for name in "abcd"))
    spots = place(lab, PVE, [room("pve1", 8), room("pve2", 8)], {})
    assert sorted(nodes(spots).values()) == ["pve1", "pve1", "pve2", "pve2"]


def test_machines_are_packed_where_the_lab_file_says_so() -> None:
    lab = apart(*(guest(name, memory=1024, on=()) for name in "abcd"))
    packed = replace(PVE, placement="pack")
    spots = place(lab, packed, [room("pve1", 16), room("pve2", 8)], {})
    assert set(nodes(spots).values()) == {"pve2"}


def test_machines_on_a_segment_that_ends_at_the_node_stay_together() -> None:
    lab = draft("lab", *(guest(name, memory=1024) for name in "abc"), guest("z", on=()))
    spots = place(lab, PVE, [room("pve1", 8), room("pve2", 9)], {})
    assert nodes(spots) == {"a": "pve2", "b": "pve2", "c": "pve2", "z": "pve1"}
    assert "with the others on its segments" in spots["a"].why
    reaching = place(lab, PVE, [room("pve1", 8), room("pve2", 9)], {}, reaching={"wire"})
    assert set(nodes(reaching).values()) == {"pve1", "pve2"}


def test_a_qemu_counts_for_less_under_kvm_and_a_container_has_none() -> None:
    lab = apart(guest("a", on=(), memory=1024), guest("b", on=(), memory=1024))
    free = replace(room("pve1"), free=2 * (1024 + 40) * MIB)
    assert nodes(place(lab, PVE, [free], {})) == {"a": "pve1", "b": "pve1"}
    emulated = replace(free, processor=Processor("pve1", kvm=False))
    with pytest.raises(LabError, match=r"with 40M for each QEMU, 150M without KVM.*\n.*1\.1G needed, 954M of"):
        place(lab, PVE, [emulated], {})
    asked = apart(replace(guest("a", on=(), memory=1024), accel="tcg"))
    with pytest.raises(LabError, match="cannot run on"):
        place(asked, PVE, [replace(free, free=(1024 + 149) * MIB)], {})
    ct = apart(replace(guest("a", on=(), memory=1024), container=True))
    whole = (Store("local", 500 * GIB, content=frozenset({"rootdir"})),)
    assert place(ct, PVE, [replace(free, free=GIB, stores=whole)], {})["a"].node == "pve1"


def test_the_lab_file_may_name_the_node() -> None:
    lab = apart(replace(guest("a", on=()), node="pve1"), guest("b", on=()))
    spots = place(lab, PVE, [room("pve1", 2), room("pve2", 20)], {})
    assert nodes(spots) == {"a": "pve1", "b": "pve2"}
    assert spots["a"].why == "the lab file says so"


def test_two_named_nodes_for_one_segment_are_refused() -> None:
    lab = draft("lab", replace(guest("a"), node="pve1"), replace(guest("b"), node="pve2"))
    with pytest.raises(LabError, match="a, b are on segments that end at a node"):
        place(lab, PVE, [room("pve1"), room("pve2")], {})
    place(lab, PVE, [room("pve1"), room("pve2")], {}, reaching={"wire"})


def test_what_is_there_stays_there_and_draws_others_to_it() -> None:
    lab = draft("lab", guest("a"), guest("b"), guest("c", on=()))
    spots = place(lab, PVE, [room("pve1", 2), room("pve2", 20)], {"a": At("pve1", "fast", 128 * MIB)})
    assert nodes(spots) == {"a": "pve1", "b": "pve1", "c": "pve2"}
    assert spots["a"].storage == "fast"


def test_only_the_nodes_that_may_be_used_are_used() -> None:
    lab = apart(guest("a", on=()))
    spots = place(lab, replace(PVE, nodes=("pve1",)), [room("pve1", 2), room("pve2", 20)], {})
    assert nodes(spots) == {"a": "pve1"}
    with pytest.raises(LabError, match="There is no node pve9, which the lab names; the cluster has: pve1"):
        place(lab, replace(PVE, nodes=("pve1", "pve9")), [room("pve1", 2)], {})
    with pytest.raises(LabError, match=r"No node of pve2 can be used; there are: pve1 \(online\), pve2 \(offline\)"):
        place(lab, replace(PVE, nodes=("pve2",)), [room("pve1"), replace(room("pve2"), online=False)], {})


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (replace(guest("a", on=()), node="pve9"), "a is to run on node pve9, which the cluster does not have"),
        (replace(guest("a", on=()), node="pve2"), "a is to run on node pve2, which is offline"),
        (replace(guest("a", on=()), node="pve3"), "a is to run on node pve3, and `nodes` allows pve1, pve2"),
        (guest("a", on=(), memory=40 << 10), "memory: 40.0G needed, 16.0G of 32.0G free"),
        (guest("a", on=(), cpus=9), "a machine has 9 CPUs, and the node 8: PVE starts none with more"),
        (replace(guest("a", on=()), disk=600 * GIB), "disk: 600.0G needed, 500.0G free on local"),
        (replace(guest("a", on=()), container=True), "it has no storage that takes content rootdir; it has: local"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(machine: object, said: str) -> None:
    rooms = [room("pve1"), replace(room("pve2"), online=False), room("pve3")]
    with pytest.raises(LabError) as caught:
        place(apart(machine), replace(PVE, nodes=("pve1", "pve2")), rooms, {})
    assert said in caught.value.what


def test_every_node_that_does_not_fit_says_why() -> None:
    with pytest.raises(LabError) as caught:
        place(apart(guest("a", on=(), memory=20 << 10, cpus=4)), PVE, [room("pve1", 4), room("pve2", cpus=2)], {})
    assert "pve1: memory: 20.0G needed, 4.0G of 32.0G free" in caught.value.what
    assert "pve2: a machine has 4 CPUs, and the node 2" in caught.value.what


def test_machines_inside_that_do_not_fit_are_refused_at_every_level() -> None:
    deep = hypervisor("hv2", guest("web", memory=900), memory=1024)
    lab = draft("lab", hypervisor("hv1", deep, memory=1200))
    with pytest.raises(LabError) as caught:
        place(lab, PVE, [room("pve1")], {})
    assert "The machines in hv1 need 1.4G of memory (hv1/hv2 1.0G, and 384M for itself)" in caught.value.what
    assert "The machines in hv1/hv2 need 1.3G of memory" in caught.value.what


def test_what_a_machine_has_already_is_not_counted_again() -> None:
    lab = apart(guest("a", on=(), memory=8 << 10))
    place(lab, PVE, [room("pve1", 1)], {"a": At("pve1", "local", 8 * GIB)})
    with pytest.raises(LabError, match=r"8\.0G needed, 1\.0G"):
        place(lab, PVE, [room("pve1", 1)], {"a": At("pve1", "local", 0)})


def test_what_is_not_to_run_takes_no_memory() -> None:
    lab = apart(guest("a", on=(), memory=8 << 10), guest("b", on=()))
    spots = place(lab, PVE, [room("pve1", 1)], {"a": At("pve1", "local", 0)}, wanted={"b"})
    assert nodes(spots) == {"a": "pve1", "b": "pve1"}


def test_a_machine_that_is_not_to_run_may_be_on_a_node_that_is_away() -> None:
    lab = apart(guest("a", on=()), guest("b", on=()))
    rooms = [room("pve1"), replace(room("pve2"), online=False)]
    assert nodes(place(lab, PVE, rooms, {"a": At("pve2")}, wanted={"b"})) == {"a": "pve2", "b": "pve1"}
    with pytest.raises(LabError, match="cannot run on node pve2"):
        place(lab, PVE, rooms, {"a": At("pve2")})


def test_hypervisors_go_where_kvm_is() -> None:
    rooms = [room("pve1", 20, kvm=False), room("pve2", 10)]
    lab = apart(hypervisor("hv1", on=()), guest("a", on=()))
    assert nodes(place(lab, PVE, rooms, {})) == {"hv1": "pve2", "a": "pve1"}
    kvm = apart(replace(guest("a", on=()), accel="kvm"))
    assert nodes(place(kvm, PVE, rooms, {})) == {"a": "pve2"}
    with pytest.raises(LabError, match="it has no KVM, and the lab file says accel: kvm"):
        place(kvm, PVE, rooms[:1], {})


def test_disks_go_where_clones_are_links_and_most_is_free() -> None:
    stores = (Store("big", 900 * GIB, kind="lvm"), Store("local", 100 * GIB), Store("thin", 200 * GIB, kind="lvmthin"))
    lab = apart(guest("a", on=()))
    assert place(lab, PVE, [room("pve1", stores=stores)], {})["a"].storage == "thin"
    assert place(lab, replace(PVE, storage="big"), [room("pve1", stores=stores)], {})["a"].storage == "big"
    with pytest.raises(LabError, match="it has no storage nowhere; it has: big, local, thin"):
        place(lab, replace(PVE, storage="nowhere"), [room("pve1", stores=stores)], {})


def test_disks_on_a_shared_storage_count_for_every_node() -> None:
    shared = (Store("ceph", 25 * GIB, shared=True, kind="rbd"),)
    machines = [replace(guest(name, on=()), disk=10 * GIB) for name in "abc"]
    rooms = [room("pve1", stores=shared), room("pve2", stores=shared)]
    place(apart(*machines[:2]), PVE, rooms, {})
    with pytest.raises(LabError, match=r"disk: 10\.0G needed, 5\.0G free on ceph"):
        place(apart(*machines), PVE, rooms, {})


def test_shared_cpus_are_told() -> None:
    lab = apart(guest("a", on=(), cpus=6), guest("b", on=(), cpus=6))
    rooms = [room("pve1")]
    [note] = placement.notes(lab.specs, place(lab, PVE, rooms, {}), rooms)
    assert note == "The lab's machines on pve1 have 12 CPUs, and it has 8: they share them."


machines = st.builds(
    lambda name, memory, cpus, on, disk: replace(guest(name, memory=memory, cpus=cpus, on=on), disk=disk),
    st.sampled_from([f"m{number}" for number in range(12)]),
    st.integers(64, 6000),
    st.integers(1, 6),
    st.sampled_from([(), (), ("wire",), ("back",)]),
    st.sampled_from([None, 3 * GIB, 40 * GIB]),
)
clusters = st.lists(st.tuples(st.integers(1, 24), st.integers(2, 8), st.integers(10, 300)), min_size=1, max_size=4)
policies = st.sampled_from(["spread", "pack"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(machines, min_size=1, max_size=8, unique_by=lambda machine: machine.name), clusters, policies)
def test_what_is_placed_fits_and_stays_together(
    wanted: list[object], sizes: list[tuple[int, int, int]], policy: str
) -> None:
    lab = draft("lab", *wanted, segments=(*WIRE, Segment("back")))  # type: ignore[arg-type]
    rooms = [
        room(f"pve{number}", free, cpus=cpus, stores=(Store("local", disk * GIB),))
        for number, (free, cpus, disk) in enumerate(sizes)
    ]
    on = replace(PVE, placement=policy)  # type: ignore[arg-type]
    try:
        spots = place(lab, on, rooms, {})
    except LabError:
        return
    assert spots == place(lab, on, rooms[::-1], {}), "the order of nodes does not matter"
    for each in rooms:
        here = [spec for spec in lab.specs if spots[spec.path].node == each.node]
        assert sum(spec.machine.memory + overhead(spec, kvm=True) for spec in here) <= each.free
        assert sum(spec.machine.disk or IMAGE for spec in here) <= each.stores[0].free
        assert all(spec.machine.cpus <= each.cpus for spec in here)
    for segment in ("wire", "back"):
        on_it = {spots[spec.path].node for spec in lab.specs if any(nic.segment == segment for nic in spec.nics)}
        assert len(on_it) <= 1
