from __future__ import annotations

from dataclasses import replace

import pytest

from blueprints import guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve.cpu_types import FAMILIES, PLAIN_FLAGS, Cpu, Processor, choose, common_model

HV, WEB = hypervisor("hv1"), guest("web")
MILAN = dict(FAMILIES["AuthenticAMD"])["EPYC-Milan"] | dict(FAMILIES["AuthenticAMD"])["EPYC-Rome"] | {"svm"}
ROME = dict(FAMILIES["AuthenticAMD"])["EPYC-Rome"] | PLAIN_FLAGS | {"svm"}
A = Processor("pve1", "AuthenticAMD", "EPYC 7763", MILAN | PLAIN_FLAGS, kvm=True, nests=True, word=True)
B = replace(A, node="pve2", model="EPYC 7702", flags=ROME)
TWIN = replace(A, node="pve3")
INTEL = Processor(
    "pve4", "GenuineIntel", "Xeon Gold", frozenset({"vmx"}) | PLAIN_FLAGS, kvm=True, nests=True, word=True
)
BARE = Processor("pve5", "AuthenticAMD", "EPYC", PLAIN_FLAGS, kvm=False)


def lines(*args: object, given: str | None = None) -> tuple[str, bool]:
    machine, here, *others = args
    cpu: Cpu = choose(machine, "m", here, others, given)  # type: ignore[arg-type]
    assert cpu.why
    return cpu.line, cpu.kvm


def test_a_hypervisor_has_the_cpu_of_its_node() -> None:
    assert lines(HV, A) == ("host", True)
    assert lines(HV, A, TWIN) == ("host", True)


def test_a_hypervisor_that_may_move_to_another_cpu_has_a_model_of_their_vendor() -> None:
    assert lines(HV, A, B) == ("EPYC-Rome,flags=+nested-virt", True)
    assert lines(HV, B, A) == ("EPYC-Rome,flags=+nested-virt", True)


def test_the_cpu_is_that_of_the_node_where_no_model_would_do() -> None:
    assert lines(HV, A, INTEL) == ("host", True)
    assert lines(HV, A, replace(B, word=False)) == ("host", True), "before qemu-server 9.0.27"
    assert lines(HV, A, replace(B, flags=frozenset())) == ("host", True)


def test_the_lab_file_decides() -> None:
    assert lines(HV, A, B, given="EPYC-Milan,flags=+nested-virt") == ("EPYC-Milan,flags=+nested-virt", True)
    assert lines(WEB, A, given="EPYC-Milan") == ("x86-64-v2-AES", True), "it says that of hypervisors"


def test_a_node_without_kvm_emulates_loudly() -> None:
    assert lines(HV, BARE) == ("max", False)
    assert lines(HV, BARE, given="host") == ("max", False), "host does not start there"
    assert lines(WEB, BARE) == ("max", False)
    assert "20 times slower" in choose(HV, "hv1", BARE, (), None).cost
    assert lines(replace(HV, accel="tcg"), A) == ("max", False)


def test_insisting_on_kvm_where_there_is_none_is_refused() -> None:
    with pytest.raises(LabError, match="accel: kvm is not possible on node pve5"):
        choose(replace(HV, accel="kvm"), "hv1", BARE, (), None)


def test_where_a_node_does_not_tell_kvm_is_tried() -> None:
    assert lines(HV, Processor("pve6")) == ("host", True)


def test_a_node_that_offers_no_nesting_is_told_of() -> None:
    cpu = choose(HV, "hv1", replace(A, nests=False), (), None)
    assert (cpu.line, cpu.kvm) == ("host", True)
    assert "slower" in cpu.cost
    assert "nested" in cpu.why


def test_an_old_cpu_is_given_as_it_is() -> None:
    assert lines(WEB, replace(A, flags=frozenset({"sse2"}))) == ("host", True)


def test_a_common_model_needs_one_vendor() -> None:
    assert common_model((A, TWIN)) == "EPYC-Milan"
    assert common_model((A, INTEL)) is None
