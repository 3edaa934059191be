from __future__ import annotations

from dataclasses import replace

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.hosts.facts import Facts, Kvm
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB
from nestlab.plan.capacity import EMULATING, ON_KVM, check, overhead
from nestlab.plan.steps import Observed, Seen

NOTHING = Observed()


def host(memory: int, cpus: int = 8) -> Facts:
    return Facts(cpus=cpus, memory=64 * GIB, memory_available=memory)


def two(memory: int = 1024) -> Blueprint:
    return draft("lab", guest("a", memory=memory), guest("b", memory=memory))


def test_a_lab_that_fits_has_no_notes() -> None:
    assert check(two(), NOTHING, host(2 * (GIB + EMULATING))) == ()


def test_a_qemu_under_kvm_is_counted_with_what_it_takes_there() -> None:
    ran = Kvm(opened=True, api=12, ran=True)
    off = replace(host(GIB), provider="kvm_amd", flags=frozenset({"svm"}), kvm=ran)
    nests = replace(off, kvm=replace(ran, nested_cpuid="svm"))
    plain, hv = draft("lab", guest("a"), hypervisor("hv")).specs
    assert (overhead(plain, off), overhead(hv, off)) == (ON_KVM, EMULATING)
    assert (overhead(plain, nests), overhead(hv, nests)) == (ON_KVM, ON_KVM)
    assert overhead(replace(plain, machine=replace(plain.machine, accel="tcg")), nests) == EMULATING


def test_too_little_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(LabError) as caught:
        check(two(), NOTHING, host(2 * GIB))
    assert caught.value.what == (
        "The machines on this host need 2.3G of memory (a 1G + b 1G, and 150M for each QEMU), "
        "and 2.0G of its 64.0G is free for them."
    )
    assert "Lower `memory:`" in caught.value.hint


def test_what_running_machines_of_the_lab_take_is_theirs() -> None:
    running = {path: Seen(path, "running", memory=GIB) for path in ("a", "b")}
    assert check(two(), Observed(running), host(2 * EMULATING)) == ()
    with pytest.raises(LabError):
        check(two(), Observed(running), host(2 * EMULATING - 1))


def test_what_a_machine_that_ends_takes_becomes_free() -> None:
    running = {"old": Seen("old", "running", memory=2 * (GIB + EMULATING))}
    assert check(two(), Observed(running), host(1)) == ()


def test_a_running_machine_of_unknown_size_counts_as_whole() -> None:
    running = {path: Seen(path, "running") for path in ("a", "b")}
    assert check(two(), Observed(running), host(1)) == ()


def test_only_machines_that_are_to_run_count() -> None:
    assert check(two(), NOTHING, host(GIB + EMULATING), wanted={"a"}) == ()


def test_machines_inside_must_fit_beside_their_hypervisor() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web", memory=700), memory=1024))
    with pytest.raises(LabError) as caught:
        check(lab, NOTHING, host(64 * GIB))
    assert caught.value.what == (
        "The machines in hv1 need 700M of memory and it needs 384M itself: 1084M, and it has 1024M."
    )
    assert check(lab, NOTHING, host(64 * GIB), wanted={"hv1"}) == ()


def test_all_that_does_not_fit_is_said_at_once() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web", memory=700), memory=1024), guest("big", cpus=256))
    with pytest.raises(LabError) as caught:
        check(lab, NOTHING, host(MIB), disk_free=GIB, to_build={"kvm": 2 * GIB})
    lines = caught.value.what.splitlines()
    assert [line.split()[0] for line in lines] == ["big", "The", "The", "Building"]
    assert lines[0] == "big has 256 CPUs, and a machine can have 255."
    assert lines[3] == "Building 1 image needs 2.0G of disk, and 1.0G is free."


def test_shared_cpus_are_a_note() -> None:
    lab = draft("lab", hypervisor("hv1", guest("a"), guest("b")), guest("c", cpus=8))
    assert check(lab, NOTHING, host(64 * GIB, cpus=8)) == (
        "The machines on this host have 9 CPUs, and it has 8: they share them.",
        "Machines share the CPUs of hv1 (2 on 1).",
    )


def test_disks_that_could_fill_up_are_a_note() -> None:
    from dataclasses import replace

    lab = draft("lab", replace(guest("a"), disk=20 * GIB))
    assert check(lab, NOTHING, host(64 * GIB), disk_free=10 * GIB) == (
        "If all disks fill up they take 20.0G, and 10.0G is free.",
    )


def test_a_host_that_does_not_say_its_memory_is_believed() -> None:
    assert check(two(), NOTHING, Facts()) == ()
