"""What becomes of disks of machines that are there: live, by a restart, or lost with a question; never anew."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.hosts.facts import Facts
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.disks import Bus, Disk
from nestlab.lab.model import GIB, Machine
from nestlab.plan.capacity import check
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Discard, Observed, Plan, Plugs, Seen, State, Stop, Update, Written

DATA = Disk("data", GIB, serial="data")
PLUGS = Plugs(4, scsi=True, out=True)


def lab(*disks: Disk) -> Blueprint:
    return draft("lab", replace(guest("web"), disks=disks))


def seen(made: Blueprint, path: str = "web", state: State = "running", plugs: Plugs = PLUGS) -> Seen:
    spec = made[path]
    disks = spec.disks
    return Seen(path, state, spec.digest, spec.names, "kvm", root=spec.root, disk=0, disks=disks, plugs=plugs)


def planned(made: Blueprint, wanted: Blueprint, there: Seen) -> Plan:
    keys = frozenset(key for spec in wanted.specs for key in spec.images)
    links = frozenset({"wire"})
    return plan(wanted, Observed(MappingProxyType({there.path: there}), links, keys), previous=made)


def test_disks_leave_the_digest_as_it_is() -> None:
    assert lab()["web"].digest == lab(DATA)["web"].digest == lab(replace(DATA, bus="scsi"))["web"].digest


@pytest.mark.parametrize("bus", ["virtio", "nvme", "scsi"])
def test_a_new_disk_comes_live_where_its_bus_takes_one(bus: Bus) -> None:
    wanted = lab(replace(DATA, bus=bus))
    todo = planned(lab(), wanted, seen(lab()))
    assert [type(step) for step in todo.steps] == [Update]
    assert todo.changes[0].why == "live: disk data of 1G is new"
    assert not todo.losses


@pytest.mark.parametrize("bus", ["sata", "ide"])
def test_a_new_disk_on_another_bus_is_there_from_a_restart_on(bus: Bus) -> None:
    todo = planned(lab(), lab(replace(DATA, bus=bus)), seen(lab()))
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert todo.changes[0].way == "restart"
    assert not todo.losses


@pytest.mark.parametrize(("bus", "plugs"), [("virtio", Plugs(0, True, True)), ("scsi", Plugs(4, False, True))])
def test_a_machine_without_room_for_it_is_restarted(bus: Bus, plugs: Plugs) -> None:
    todo = planned(lab(), lab(replace(DATA, bus=bus)), seen(lab(), plugs=plugs))
    assert todo.changes[0].way == "restart"


def test_a_disk_that_is_there_already_is_no_change() -> None:
    assert not planned(lab(DATA), lab(DATA), seen(lab(DATA)))


@pytest.mark.parametrize(
    ("bus", "way"), [("virtio", "live"), ("scsi", "live"), ("nvme", "restart"), ("ide", "restart")]
)
def test_a_disk_grows_live_where_the_guest_is_told(bus: Bus, way: str) -> None:
    before = lab(replace(DATA, bus=bus))
    todo = planned(before, lab(replace(DATA, bus=bus, size=2 * GIB)), seen(before))
    assert todo.changes[0].way == way
    assert "disk data 1G -> 2G" in todo.changes[0].why
    assert not todo.losses


@pytest.mark.parametrize("now", [replace(DATA, serial="S1"), replace(DATA, bus="scsi")])
def test_another_serial_or_bus_takes_a_restart_and_no_disk(now: Disk) -> None:
    todo = planned(lab(DATA), lab(now), seen(lab(DATA)))
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert not todo.losses


def test_a_disk_that_goes_is_a_loss_with_what_is_written_on_it() -> None:
    there = replace(seen(lab(DATA)), written=Written(9 << 20, disks=((DATA.made().id, 3 << 20),)))
    todo = planned(lab(DATA), lab(), there)
    discard, update = todo.steps
    assert isinstance(discard, Discard)
    assert discard.disks == ("data",)
    assert update.needs == (discard.id,)
    (loss,) = todo.losses
    assert loss.way == "live"
    assert loss.written == Written(3 << 20)
    assert loss.why == "live: disk data is no longer wanted: it is deleted with 3M written"


def test_a_smaller_disk_is_a_loss_and_never_the_machine() -> None:
    todo = planned(lab(replace(DATA, size=2 * GIB)), lab(DATA), seen(lab(replace(DATA, size=2 * GIB))))
    assert [type(step) for step in todo.steps] == [Discard, Update]
    assert "2G -> 1G, and no disk gets smaller: it is deleted" in todo.losses[0].why


def test_a_size_that_is_left_out_is_no_wish_for_a_smaller_one() -> None:
    before = lab(replace(DATA, size=2 * GIB))
    assert not planned(before, lab(replace(DATA, size=0)), seen(before))


def test_another_file_is_a_loss() -> None:
    made = replace(seen(lab(DATA)), disks=(replace(DATA.made(), source="file-" + "0" * 40),))
    todo = planned(lab(DATA), lab(DATA), made)
    assert todo.losses
    assert "is to be empty" in todo.losses[0].why


def test_a_disk_on_a_bus_that_lets_none_go_is_deleted_between_stop_and_start() -> None:
    before = lab(replace(DATA, bus="sata"))
    todo = planned(before, lab(), seen(before))
    assert [type(step) for step in todo.steps] == [Stop, Discard, Update, Boot]
    for earlier, later in zip(todo.steps, todo.steps[1:], strict=False):
        assert earlier.id in later.needs
    assert todo.losses


def test_of_a_machine_that_is_stopped_all_is_done_before_it_boots() -> None:
    todo = planned(lab(DATA), lab(Disk("more", GIB, bus="ide", serial="more")), seen(lab(DATA), state="stopped"))
    assert [type(step) for step in todo.steps] == [Discard, Update, Boot]


def test_a_machine_inside_a_hypervisor_that_is_restarted_only_for_it_keeps_its_disks() -> None:
    def nest(memory: int, *disks: Disk) -> Blueprint:
        inner: Machine = replace(guest("web"), disks=disks)
        return draft("lab", hypervisor("hv", inner, memory=memory))

    before, wanted = nest(1024, DATA), nest(2048)
    outer, inner = seen(before, "hv"), seen(before, "hv/web")
    keys = frozenset(key for spec in wanted.specs for key in spec.images)
    observed = Observed(MappingProxyType({"hv": outer, "hv/web": inner}), frozenset({"wire"}), keys)
    todo = plan(wanted, observed, {"hv": "running"}, previous=before)
    assert not [step for step in todo.steps if isinstance(step, Discard)]
    assert not todo.losses


def test_disks_count_for_the_room_that_a_lab_may_take() -> None:
    facts = Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB)
    notes = check(lab(replace(DATA, size=100 * GIB)), Observed(), facts, disk_free=50 * GIB)
    assert [note for note in notes if "If all disks fill up they take 100.0G, and 50.0G is free" in note]
