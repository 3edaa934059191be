"""Acceleration is chosen by what a host proved, not by what it has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu.accel import choose, presume, surely_emulated, why_not
from nestlab.hosts.facts import Facts, Kvm
from nestlab.lab.hardware import Hardware
from nestlab.lab.model import Image, Machine

INTEL = Facts(
    provider="kvm_intel",
    flags=frozenset({"vmx", "ept"}),
    parameters={"kvm_intel.nested": "Y"},
    kvm=Kvm(opened=True, api=12, nested_cpuid="vmx", ran=True),
)
AMD = Facts(
    provider="kvm_amd",
    flags=frozenset({"svm", "npt"}),
    parameters={"kvm_amd.nested": "1"},
    kvm=Kvm(opened=True, api=12, nested_cpuid="svm", ran=True),
)
HYPERVISOR = Machine("hv", hypervisor="kvm")
GUEST = Machine("web")


def test_what_several_emulated_cpus_mean_for_a_hypervisor_is_part_of_what_emulation_costs() -> None:
    nothing = Facts()
    one, two = (choose(nothing, replace(HYPERVISOR, cpus=cpus), "hv", "this machine").cost for cpus in (1, 2))
    assert two.startswith(one)
    assert "`cpus: 1` is safe" in two
    assert "panic" not in one
    assert "panic" not in choose(nothing, replace(GUEST, cpus=2), "web", "this machine").cost
    assert not choose(INTEL, replace(HYPERVISOR, cpus=2), "hv", "this machine").cost


@pytest.mark.parametrize("facts", [INTEL, AMD])
def test_a_host_that_ran_a_guest_gives_kvm(facts: Facts) -> None:
    assert choose(facts, HYPERVISOR, "hv", "this machine").accel == "kvm"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(INTEL, kvm=Kvm(error="Permission denied")), "may not open it"),
        (replace(INTEL, kvm=Kvm(error="No such device")), "cannot be opened (No such device)"),
        (replace(INTEL, provider="kvm_pvm"), "it is kvm_pvm, not kvm_intel or kvm_amd"),
        (replace(INTEL, provider=""), "it is no vendor module"),
        (replace(AMD, flags=frozenset()), "the CPU shows no svm"),
        (replace(AMD, kvm=replace(AMD.kvm, api=11)), "API version 11, not 12"),
        (replace(AMD, kvm=replace(AMD.kvm, ran=False, ran_error="it hung")), "cannot run 64-bit code (it hung)"),
        (replace(AMD, kvm=replace(AMD.kvm, ran=None)), "cannot run 64-bit code (not tried)"),
        (replace(AMD, kvm=replace(AMD.kvm, nested_cpuid=None)), "does not offer svm to guests"),
    ],
)
def test_whatever_is_missing_is_named_and_the_machine_is_emulated(facts: Facts, reason: str) -> None:
    choice = choose(facts, HYPERVISOR, "hv", "this machine")
    assert choice.accel == "tcg"
    assert reason in choice.why
    assert "emulated" in choice.cost


def test_a_plain_guest_gets_kvm_where_nesting_is_off() -> None:
    facts = replace(AMD, kvm=replace(AMD.kvm, nested_cpuid=None))
    assert why_not(facts, hypervisor=False) == ""
    assert choose(facts, GUEST, "web", "hv1").accel == "kvm"


def test_insisting_on_kvm_where_there_is_none_is_an_error_with_the_reason() -> None:
    with pytest.raises(LabError, match=r"hv: accel: kvm is not possible on this machine: .*kvm_pvm"):
        choose(replace(INTEL, provider="kvm_pvm"), replace(HYPERVISOR, accel="kvm"), "hv", "this machine")


def test_a_user_outside_the_group_kvm_is_told_of_the_group_and_the_doctor() -> None:
    facts = replace(AMD, user="kai", kvm=Kvm(error="/dev/kvm: Permission denied"))
    choice = choose(facts, HYPERVISOR, "hv", "this machine")
    assert "the user kai may not open it" in choice.why
    assert "group kvm" in choice.why
    assert "`nestlab doctor`" in choice.why
    with pytest.raises(LabError) as caught:
        choose(facts, replace(HYPERVISOR, accel="kvm"), "hv", "this machine")
    assert caught.value.hint is not None
    assert "usermod -aG kvm kai" in caught.value.hint


def test_the_lab_file_may_ask_for_emulation() -> None:
    assert choose(INTEL, replace(HYPERVISOR, accel="tcg"), "hv", "this machine").accel == "tcg"


def test_emulation_inside_a_guest_is_said_to_cost_more() -> None:
    off = replace(AMD, kvm=replace(AMD.kvm, ran=False))
    assert "inside a guest" in choose(off, GUEST, "hv/web", "hv").cost
    assert "inside a guest" not in choose(off, GUEST, "web", "this machine").cost


GLANCE = Facts(provider="kvm_amd", flags=frozenset({"svm"}), kvm=Kvm(opened=True))


def test_a_plain_guest_may_try_kvm_where_everything_that_shows_is_there() -> None:
    choice = presume(GLANCE, GUEST, "hv1")
    assert choice is not None
    assert (choice.accel, choice.presumed) == ("kvm", True)
    assert not choose(AMD, GUEST, "hv1/web", "hv1").presumed


@pytest.mark.parametrize(
    ("glance", "machine"),
    [
        (GLANCE, HYPERVISOR),
        (GLANCE, replace(GUEST, accel="tcg")),
        (replace(GLANCE, provider="kvm_pvm"), GUEST),
        (replace(GLANCE, provider=""), GUEST),
        (replace(GLANCE, flags=frozenset()), GUEST),
        (replace(GLANCE, kvm=Kvm(error="/dev/kvm: Permission denied")), GUEST),
    ],
)
def test_nothing_is_presumed_for_hypervisors_nor_where_anything_is_missing(glance: Facts, machine: Machine) -> None:
    assert presume(glance, machine, "hv1") is None


def test_with_uefi_a_guest_of_an_emulated_hypervisor_is_emulated_and_of_others_it_is_not() -> None:
    sealed = replace(GUEST, hardware=Hardware(firmware="uefi"))
    emulated = replace(AMD, virtualization="qemu")
    assert choose(emulated, sealed, "hv/web", "hv").accel == "tcg"
    assert "that hypervisor is emulated" in choose(emulated, sealed, "hv/web", "hv").why
    assert choose(replace(AMD, virtualization="kvm"), sealed, "hv/web", "hv").accel == "kvm"
    assert choose(emulated, GUEST, "hv/web", "hv").accel == "kvm"
    assert choose(emulated, sealed, "web", "this machine").accel == "kvm"  # whoever runs nestlab in one knows
    with pytest.raises(LabError, match="accel: kvm is not possible on hv: that hypervisor is emulated"):
        choose(emulated, replace(sealed, accel="kvm"), "hv/web", "hv")


def test_a_bios_that_finds_no_tpm_under_kvm_in_an_emulated_hypervisor_is_emulated_there() -> None:
    disk = replace(GUEST, image=Image(file="/disk.qcow2"), hardware=Hardware(tpm=True))
    emulated = replace(AMD, virtualization="qemu")
    assert choose(emulated, disk, "hv/win", "hv").accel == "tcg"
    assert "finds its TPM by BIOS" in choose(emulated, disk, "hv/win", "hv").why
    assert choose(replace(AMD, virtualization="kvm"), disk, "hv/win", "hv").accel == "kvm"
    own = replace(disk, image=Image(base="tiny"))  # its kernel is told where the TPM is
    assert choose(emulated, own, "hv/web", "hv").accel == "kvm"
    assert choose(emulated, disk, "win", "this machine").accel == "kvm"


def test_what_kvm_in_an_emulated_hypervisor_never_runs_is_known_before_that_runs() -> None:
    uefi = replace(GUEST, hardware=Hardware(firmware="uefi"))
    found = surely_emulated(uefi, "hv/web")
    assert found is not None
    assert "UEFI" in found.why
    assert "inside a guest" in found.cost
    for machine in (GUEST, replace(GUEST, hypervisor="kvm"), replace(GUEST, hardware=Hardware(firmware="bios"))):
        assert surely_emulated(machine, "hv/web") is None
    with pytest.raises(LabError, match="accel: kvm is not possible on hv"):
        surely_emulated(replace(uefi, accel="kvm"), "hv/web")
