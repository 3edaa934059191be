"""Proofs: what is claimed, who asks whom, and that nothing is concluded from what was not tried. (Pure parts.)"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from nestlab.lab.blueprint import Blueprint, Nic, Spec
from nestlab.lab.model import Machine
from nestlab.verbs.reachability import ALL_PAIRS, pairs_of
from nestlab.verbs.verify import ASK, _Machine, _of_machine, _told, _words
from waiting import LONG

MODULES = ("kvm_intel", "kvm_amd", "kvm_pvm")


def spec(number: int) -> Spec:
    nic = Nic("wire", f"52:54:00:00:00:{number:02x}", 1500, (f"10.0.0.{number}/24", f"fd00::{number:x}/64"))
    return Spec(f"m{number}", Machine(f"m{number}"), (nic,), "10.1.0.0/24", "key", (), "digest")


def blueprint(count: int) -> Blueprint:
    return Blueprint("lab", (), tuple(spec(number) for number in range(1, count + 1)))


@pytest.mark.parametrize("count", [2, 3, 4, ALL_PAIRS])
def test_all_machines_of_a_small_segment_meet_and_each_pair_asks_once(count: int) -> None:
    pairs = pairs_of(blueprint(count))
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
    pairs = pairs_of(blueprint(50))
    assert all(len(each["wire"]) == 2 for each in pairs.values())


def test_a_machine_alone_on_its_segment_claims_nothing_of_it() -> None:
    assert pairs_of(blueprint(1)) == {"m1": {}}


def test_who_reaches_and_who_is_reached_both_show_it() -> None:
    both = blueprint(2)
    pairs = pairs_of(both)
    asking = pairs["m1"]["wire"][0].pinger
    asked = "m2" if asking == "m1" else "m1"
    number = asked[1:]
    lost = {asking: {f"10.0.0.{number}": True, f"fd00::{number}": False}, asked: {}}
    for path in ("m1", "m2"):
        machine = _Machine(both[path], "kvm", "x86_64", reached=lost[path])
        proof = _of_machine(machine, pairs[path], lost)[-1]
        assert (proof.claim, proof.ok) == ("segment wire", False)
        assert "(IPv6)" in proof.seen
        assert "(IPv4)" not in proof.seen


def test_a_machine_that_does_not_answer_fails_one_claim() -> None:
    machine = _Machine(spec(1), error="it died")
    assert [proof.ok for proof in _of_machine(machine, {}, {})] == [False]


def test_a_machine_that_does_not_run_is_neither_asked_for_nor_waited_for() -> None:
    both = blueprint(2)
    pairs = pairs_of(both)
    asking = pairs["m1"]["wire"][0].pinger
    other = "m2" if asking == "m1" else "m1"
    assert len(_words(both[asking], pairs[asking], frozenset())) == 3
    down = frozenset({other})
    assert _words(both[asking], pairs[asking], down) == ["no"]
    machine = _Machine(both[asking], "kvm", "x86_64")
    proof = _of_machine(machine, pairs[asking], {asking: {}}, down)[-1]
    assert (proof.ok, proof.seen) == (False, f"{other} does not run")


def test_emulation_decides_nothing_and_is_said() -> None:
    machine = _Machine(spec(1), "tcg", "x86_64")
    proof = next(each for each in _of_machine(machine, {}, {}) if each.claim == "accelerated")
    assert (proof.ok, proof.seen) == (None, "QEMU: KVM off, emulated")


def test_what_a_machine_says_of_itself_is_read() -> None:
    text = "y 10.0.0.2\nn fd00::2\narch x86_64\nflag svm\nmodule kvm_amd 1\nkvm\n"
    machine = _told(spec(1), text)
    assert (machine.arch, machine.flag, machine.module, machine.nested) == ("x86_64", "svm", "kvm_amd", "1")
    assert machine.kvm == ""
    assert machine.reached == {"10.0.0.2": True, "fd00::2": False}
    silent = _told(spec(1), "")
    assert not silent.userland
    assert silent.kvm == "it did not say"


@pytest.mark.parametrize("shell", ["sh", "busybox sh"])
@pytest.mark.parametrize("busybox", [True, False])
def test_every_shell_says_what_the_machine_is_and_whom_it_reaches(shell: str, busybox: bool, tmp_path: Path) -> None:
    """With a ping of its own, and without a busybox that the script would prefer."""
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"no {shell}")
    for name in ("sh", "grep", "uname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    (tmp_path / "ping").write_text('#!/bin/sh\nfor a; do :; done\n[ "$a" != nowhere.invalid ]\n')
    (tmp_path / "ping").chmod(0o755)
    if busybox:
        (tmp_path / "busybox").write_text('#!/bin/sh\nexec "$@"\n')
        (tmp_path / "busybox").chmod(0o755)
    argv = [
        shutil.which(shell.split()[0]) or "",
        *shell.split()[1:],
        "-c",
        ASK,
        "ask",
        "yes",
        "127.0.0.1",
        "nowhere.invalid",
    ]
    text = subprocess.run(argv, capture_output=True, text=True, env={"PATH": str(tmp_path)}, timeout=LONG).stdout
    machine = _told(spec(1), text)
    assert machine.reached == {"127.0.0.1": True, "nowhere.invalid": False}
    assert machine.arch == os.uname().machine
    assert (machine.kvm == "it is not there") is not Path("/dev/kvm").exists()
    assert machine.module == next((m for m in MODULES if Path(f"/sys/module/{m}").is_dir()), "")


def boxed() -> Blueprint:
    """A hypervisor with two containers, and a container on the lab's own level."""
    nics = [spec(number).nics for number in range(1, 5)]
    specs = [
        Spec("hv", Machine("hv", hypervisor="kvm"), nics[0], "10.1.0.0/24", "key", (), "digest"),
        *(
            Spec(f"hv/c{n}", Machine(f"c{n}", container=True), nics[n], "10.1.0.0/24", "key", (), "digest")
            for n in (1, 2)
        ),
        Spec("ct", Machine("ct", container=True), nics[3], "10.1.0.0/24", "key", (), "digest"),
    ]
    return Blueprint("lab", (), tuple(specs))


def test_a_container_in_a_hypervisor_asks_its_peers_and_one_on_a_proxmox_ve_is_only_asked_for() -> None:
    blueprint = boxed()
    pairs = pairs_of(blueprint)
    assert {pair.pinger for each in pairs.values() for pair in each["wire"]} <= {"hv", "hv/c1", "hv/c2"}
    assert {pair.pinger for pair in pairs["hv/c1"]["wire"] if pair.other == "hv/c2"} & {"hv/c1", "hv/c2"}
    assert [each.sealed for each in blueprint.specs] == [False, False, False, True]


def test_a_container_is_proven_by_who_its_root_is_to_its_kernel() -> None:
    container = boxed()["hv/c1"]
    for root, ok in (("100000", True), ("0", False), ("", None), ("no", None)):
        first, second = _of_machine(_told(container, f"arch x86_64\nroot {root}\n"), {}, {})
        assert (first.claim, first.ok) == ("reachable", True)
        assert (second.claim, second.ok) == ("container", ok)
        assert ok is not True or root in second.seen
    assert [each.claim for each in _of_machine(_Machine(boxed()["ct"]), {}, {})] == ["container"]
