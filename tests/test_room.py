"""What a machine can become while it runs: decided at its start, seen, and what the plan makes of it."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import draft, guest
from nestlab.engines.qemu import records, room
from nestlab.engines.qemu.argv import Kernel, Launch, argv
from nestlab.home.paths import Place
from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.disks import Disk
from nestlab.lab.hardware import Card, Topology
from nestlab.lab.model import GIB, MIB, Image, Machine
from nestlab.lab.readiness import Ready
from nestlab.plan.planner import plan
from nestlab.plan.room import NO_ROOM, ROOM_STEP, Room
from nestlab.plan.steps import Boot, Observed, Plan, Seen, State, Stop, Update

DEBIAN = Machine("m", image=Image(base="debian"), memory=512 * MIB)
ROOM = Room(512 * MIB, 4 * GIB, 1, 8)


def spec(machine: Machine, *cards: Card) -> Spec:
    nics = tuple(Nic(f"s{number}", "52:54:00:00:00:01", card=card) for number, card in enumerate(cards))
    return Spec("m", machine, nics, "10.100.1.0/24", "k", (), "digest")


def launched(machine: Machine, there: Room, path: str = "m") -> list[str]:
    started = replace(spec(machine), path=path)
    kernel = Kernel("/k", "/i")
    return argv(Launch("x", started, Place("/x").of(path), "kvm", 1, "52:54:00:00:00:02", kernel=kernel, room=there))


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


# -- at its start -----------------------------------------------------------------------------------------------------


def test_under_kvm_it_takes_memory_and_cpus() -> None:
    assert room.of(spec(DEBIAN), "kvm", by_kernel=True) == ROOM
    assert room.of(spec(replace(DEBIAN, cpus=3)), "kvm", by_kernel=True) == Room(512 * MIB, 4 * GIB, 3, 6)
    assert room.of(spec(replace(DEBIAN, cpus=12)), "kvm", by_kernel=True) == Room(512 * MIB, 4 * GIB, 12, 12)
    assert room.of(spec(replace(DEBIAN, memory=6 * GIB)), "kvm", by_kernel=True).more == 12 * GIB


def test_emulated_it_takes_memory_alone_and_tiny_cpus_alone() -> None:
    assert room.of(spec(DEBIAN), "tcg", by_kernel=True) == Room(512 * MIB, 4 * GIB)
    tiny = replace(DEBIAN, image=Image(base="tiny"), memory=128 * MIB)
    assert room.of(spec(tiny), "kvm", by_kernel=True) == Room(128 * MIB, 0, 1, 8)


@pytest.mark.parametrize(
    "machine",
    [
        replace(DEBIAN, image=Image(file="/own.qcow2", format="qcow2")),
        replace(DEBIAN, ready=Ready("none")),
    ],
)
def test_a_machine_that_nestlab_does_not_work_in_takes_nothing(machine: Machine) -> None:
    assert room.of(spec(machine), "kvm", by_kernel=True) == NO_ROOM
    assert room.of(spec(DEBIAN), "kvm", by_kernel=False) == NO_ROOM


def test_what_reaches_no_memory_above_4_gib_keeps_it_away() -> None:
    old = replace(DEBIAN, card="rtl8139")
    for one in (spec(old), spec(DEBIAN, "virtio", "rtl8139"), spec(replace(DEBIAN, cdroms=("/x.iso",)))):
        assert room.of(one, "kvm", by_kernel=True).more == 0
    ide = replace(DEBIAN, disks=(Disk("old", GIB, bus="ide", serial="old"),))
    assert room.of(spec(ide), "kvm", by_kernel=True).more == 0


def test_a_topology_of_the_users_own_stays() -> None:
    hardware = replace(DEBIAN.hardware, topology=Topology(1, 1, 1))
    assert room.of(spec(replace(DEBIAN, hardware=hardware)), "kvm", by_kernel=True).cpus == 0


def test_the_command_line_leaves_addresses_and_sockets_free() -> None:
    words = launched(DEBIAN, ROOM)
    assert after(words, "-smp") == "1,sockets=8,cores=1,threads=1,maxcpus=8"
    assert after(words, "-m") == "512M,maxmem=4608M"
    assert "pcie-root-port,id=memory-port,chassis=200,slot=200" in words
    assert after(words, "-append").endswith("swiotlb=512")
    inner = launched(DEBIAN, ROOM, "hv/m")
    assert not [word for word in inner if "memory-port" in word]
    assert "swiotlb" not in " ".join(launched(DEBIAN, replace(ROOM, memory=3 * GIB)))


def test_without_room_the_command_line_is_as_it_was() -> None:
    words = launched(DEBIAN, NO_ROOM)
    assert (after(words, "-smp"), after(words, "-m")) == ("1", "512M")
    assert not [word for word in words if "swiotlb" in word or "memory-port" in word]


def test_one_that_moves_starts_at_the_target_as_it_was_started_and_with_what_came_since() -> None:
    moved = launched(replace(DEBIAN, memory=768 * MIB, cpus=2), replace(ROOM, plugged=True))
    assert after(moved, "-smp") == "1,sockets=8,cores=1,threads=1,maxcpus=8"
    assert "host-x86_64-cpu,id=cpu-1-0-0,socket-id=1,core-id=0,thread-id=0" in moved
    assert after(moved, "-m") == "512M,maxmem=4608M"
    assert after(moved, "-object") == f"memory-backend-ram,id=more,size={4 * GIB},reserve=off"
    device = f"virtio-mem-pci,id=more-memory,memdev=more,bus=memory-port,requested-size={256 * MIB}"
    assert device in moved


NUMBERS = st.integers(0, 1 << 50)

# -- as it is seen ----------------------------------------------------------------------------------------------------


@given(st.builds(Room, *[NUMBERS] * 4, st.booleans(), st.tuples(NUMBERS, NUMBERS)))
def test_a_record_of_a_start_tells_the_room_that_was_written(there: Room) -> None:
    line = records.with_room('{"port":20022}', there).decode()
    assert (records.started(line).room, records.started(line).port) == (there, 20022)


@pytest.mark.parametrize("odd", ['["1",2,3,4,1,0,0]', "[-1,2,3,4,0,0,0]", "{}", "null", "[1,2,3,4,1e99,0,0]"])
def test_what_is_no_room_is_none(odd: str) -> None:
    assert records.started(f'{{"room":{odd}}}').room == NO_ROOM


@given(st.integers(0, 8 * GIB), st.integers(0, 12))
def test_it_takes_what_lies_between_its_start_and_its_end(memory: int, cpus: int) -> None:
    fits = 512 * MIB <= memory <= 4 * GIB + 512 * MIB and memory % ROOM_STEP == 0
    assert ROOM.takes(memory, None) == fits
    assert ROOM.takes(None, cpus) == (1 <= cpus <= 8)
    assert ROOM.takes(memory, cpus) == (fits and 1 <= cpus <= 8)


# -- the plan ---------------------------------------------------------------------------------------------------------


def lab(memory: int = 512 * MIB, cpus: int = 1, cmdline: str = "") -> Blueprint:
    return draft("lab", replace(guest("web"), memory=memory, cpus=cpus, cmdline=cmdline))


def planned(wanted: Blueprint, there: Room = ROOM, state: State = "running", *, ready: bool = True) -> Plan:
    made = lab()
    one = made["web"]
    seen = Seen("web", state, one.digest, one.names, "kvm", root=one.root, disk=0, room=there, ready=ready)
    observed = Observed(MappingProxyType({"web": seen}), frozenset({"wire"}), frozenset(wanted["web"].images))
    return plan(wanted, observed, previous=made)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (lab(640 * MIB), "live: memory 512M -> 640M"),
        (lab(cpus=2), "live: cpus 1 -> 2"),
        (lab(GIB, 8), "live: cpus 1 -> 8, memory 512M -> 1G"),
    ],
)
def test_memory_and_cpus_change_live_where_there_is_room(wanted: Blueprint, why: str) -> None:
    todo = planned(wanted)
    assert [type(step) for step in todo.steps] == [Update]
    assert (todo.changes[0].way, todo.changes[0].why, todo.losses) == ("live", why, ())


@pytest.mark.parametrize(
    "wanted", [lab(256 * MIB), lab(8 * GIB), lab(513 * MIB), lab(cpus=9), lab(640 * MIB, cmdline="quiet")]
)
def test_what_does_not_fit_or_changes_more_is_a_restart_that_keeps_the_disk(wanted: Blueprint) -> None:
    todo = planned(wanted)
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert (todo.changes[0].way, todo.losses) == ("restart", ())


def test_what_was_given_up_half_way_is_settled_by_the_next_up_even_where_the_lab_file_is_as_it_was() -> None:
    todo = planned(lab(), replace(ROOM, asked=(640 * MIB, 2)))
    assert [(type(step), step.why) for step in todo.steps] == [(Update, "live: cpus 2 -> 1, memory 640M -> 512M")]
    assert planned(lab(), replace(ROOM, asked=(512 * MIB, 1))).steps == ()
    assert planned(lab(640 * MIB, 2), replace(ROOM, asked=(640 * MIB, 2))).changes[0].way == "live"


def test_a_machine_without_room_or_that_still_boots_is_restarted_and_one_that_is_off_starts_with_it() -> None:
    assert planned(lab(640 * MIB), NO_ROOM).changes[0].way == "restart"
    assert planned(lab(640 * MIB), ready=False).changes[0].way == "restart"
    assert [type(step) for step in planned(lab(640 * MIB), state="stopped").steps] == [Update, Boot]
