"""Proofs: what is claimed, who asks whom, and that nothing is concluded from what was not tried. (Pure parts.)"""

from __future__ import annotations

from collections import Counter

import pytest

from nestlab.blueprint import Blueprint, Nic, Spec
from nestlab.model import Machine
from nestlab.verify import ALL_PAIRS, _Machine, _of_machine, _pairs


def spec(number: int) -> Spec:
    nic = Nic("wire", f"52:54:00:00:00:{number:02x}", 1500, (f"10.0.0.{number}/24", f"fd00::{number:x}/64"))
    return Spec(f"m{number}", Machine(f"m{number}"), (nic,), "10.1.0.0/24", "key", (), "digest")


def blueprint(count: int) -> Blueprint:
    return Blueprint("lab", (), tuple(spec(number) for number in range(1, count + 1)))


@pytest.mark.parametrize("count", [2, 3, 4, ALL_PAIRS])
def test_all_machines_of_a_small_segment_meet_and_each_pair_asks_once(count: int) -> None:
    pairs = _pairs(blueprint(count))
    met = {(path, pair.other) for path, each in pairs.items() for pair in each["wire"]}
    assert len(met) == count * (count - 1)
    asked = Counter(
        tuple(sorted((path, pair.other)))
        for path, each in pairs.items()
        for pair in each["wire"]
        if pair.pinger == path
    )
    assert set(asked.values()) == {1}
    assert len(asked) == count * (count - 1) // 2


def test_a_large_segment_is_proven_in_a_ring() -> None:
    pairs = _pairs(blueprint(50))
    assert all(len(each["wire"]) == 2 for each in pairs.values())


def test_a_machine_alone_on_its_segment_claims_nothing_of_it() -> None:
    assert _pairs(blueprint(1)) == {"m1": {}}


def test_who_reaches_and_who_is_reached_both_show_it() -> None:
    both = blueprint(2)
    pairs = _pairs(both)
    asking = pairs["m1"]["wire"][0].pinger
    asked = "m2" if asking == "m1" else "m1"
    number = asked[1:]
    lost = {asking: {f"10.0.0.{number}": True, f"fd00::{number}": False}, asked: {}}
    for path in ("m1", "m2"):
        machine = _Machine(both[path], "kvm", "x86_64", dict(lost[path]))
        proof = _of_machine(machine, pairs[path], lost)[-1]
        assert (proof.claim, proof.ok) == ("segment wire", False)
        assert "(IPv6)" in proof.seen
        assert "(IPv4)" not in proof.seen


def test_a_machine_that_does_not_answer_fails_one_claim() -> None:
    machine = _Machine(spec(1), "", "", {}, "it is died")
    assert [proof.ok for proof in _of_machine(machine, {}, {})] == [False]


def test_emulation_decides_nothing_and_is_said() -> None:
    machine = _Machine(spec(1), "tcg", "x86_64", {})
    proof = next(each for each in _of_machine(machine, {}, {}) if each.claim == "accelerated")
    assert (proof.ok, proof.seen) == (None, "QEMU: KVM off, emulated")
