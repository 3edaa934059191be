"""Exact parameters, as golden files; each is valid for the published schemas of PVE 9.1 and 9.2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from golden_files import assert_golden
from nestlab.base.errors import LabError
from nestlab.engines.pve import hardware
from nestlab.engines.pve.cpu_types import Cpu
from nestlab.engines.pve.hardware import Choices, Wire
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB, MIB, Machine, Segment
from nestlab.lab.places import Pve
from nestlab.testing.fake_pve import mistakes
from nestlab.testing.fake_pve.published import schema

PVE = Pve("pve://pve.example.org", bridge="vmbr0")
HOST = Cpu("host", True, "machines run inside it")
WIRES = {"wire": Wire("nlabc234"), "vlan": Wire("vmbr1", 77)}
SEGMENTS = (Segment("wire"), Segment("vlan", bridge="vmbr1", vlan=77))
CARGO = [(f"{number:020x}", f"local:import/cargo{number}.qcow2") for number in range(20)]


def params(lab: Blueprint, path: str = "m", cpu: Cpu = HOST, *, cargo: int = 0) -> dict[str, str | int]:
    """What a machine is set up with."""
    spec = lab[path]
    choices = Choices(105, cpu, "local-lvm", WIRES, hardware.outside_of(spec, PVE))
    disks = hardware.disks("local-lvm", "local:import/identity.qcow2", CARGO[:cargo])
    return {**hardware.machine(spec, lab.lab, choices), **disks}


def assert_published(method: str, path: str, given: Mapping[str, Any]) -> None:
    for version in ("9.1", "9.2"):
        if schema(version):
            assert mistakes(version, method, path, given) == {}


def only(machine: Machine, **rest: Any) -> Blueprint:
    return draft("lab", replace(machine, **rest), segments=SEGMENTS)


CASES: dict[str, dict[str, str | int]] = {
    "hypervisor": params(only(hypervisor("m", guest("web"), memory=4096, cpus=4)), cargo=2),
    "plain": params(only(guest("m")), cpu=Cpu("x86-64-v2-AES", True, "nothing runs inside it")),
    "emulated": params(only(hypervisor("m"), accel="tcg"), cpu=Cpu("max", False, "no KVM")),
    "vlan-and-internet": params(only(guest("m", on=("wire", "vlan")), internet=True)),
    "nested-virt": params(only(hypervisor("m")), cpu=Cpu("EPYC-Rome,flags=+nested-virt", True, "it may move")),
    "much-cargo": params(only(hypervisor("m")), cargo=20),
}


@pytest.mark.parametrize("name", CASES)
def test_a_machine_is_set_up_with_exactly_these_parameters(name: str) -> None:
    found = CASES[name]
    assert_published("POST", "/nodes/pve1/qemu/105/config", found)
    assert_golden(f"pve/{name}.json", json.dumps(found, indent=1))


def test_a_container_is_made_with_exactly_these_parameters() -> None:
    lab = only(guest("m", on=("wire", "vlan")), internet=True, container=True)
    choices = Choices(105, HOST, "local-lvm", WIRES, "vmbr0")
    found = hardware.container(
        lab["m"],
        "lab",
        choices,
        ostemplate="local:vztmpl/nestlab-1.tar.zst",
        disk=5 * GIB + 1,
        authorized="ssh-ed25519 AAAA\n",
    )
    assert_published("POST", "/nodes/pve1/lxc", {**found, "ssh-public-keys": "ssh-ed25519 AAAA"})
    assert_golden("pve/container.json", json.dumps(found, indent=1))


def test_a_card_with_another_mtu_says_so() -> None:
    lab = only(guest("m"))
    spec = replace(lab["m"], nics=(replace(lab["m"].nics[0], mtu=1400),))
    found = hardware.machine(spec, "lab", Choices(105, HOST, "local", WIRES))
    assert str(found["net0"]).endswith("bridge=nlabc234,firewall=0,mtu=1400")
    assert_published("POST", "/nodes/pve1/qemu/105/config", found)


def test_internet_needs_a_bridge() -> None:
    with pytest.raises(LabError, match="names no bridge"):
        hardware.outside_of(only(guest("m"), internet=True)["m"], replace(PVE, bridge=None))
    assert hardware.outside_of(only(guest("m"))["m"], PVE) is None, "no egress unless the lab says so"


def test_what_cannot_be_had_is_refused_all_at_once() -> None:
    odd = (
        replace(guest("a"), cmdline="quiet"),
        replace(hypervisor("b"), container=True),
        replace(guest("c"), internet=True),
    )
    found = hardware.refused(draft("lab", *odd), replace(PVE, bridge=None))
    assert [line.split(" ")[0] for line in found] == ["a", "b", "c"]


def test_names_are_host_names() -> None:
    assert hardware.name_of("pair", "hv1") == "pair-hv1"
    long = hardware.name_of("a" * 40, "b" * 22 + "-" + "c" * 30)
    assert len(long) <= 63
    assert not long.endswith("-")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (
            {"virtio0": "l:vm-1-disk-0,serial=root,size=3G", "virtio1": "l:b,serial=boot", "boot": "order=virtio1"},
            "virtio0",
        ),
        ({"scsi0": "l:vm-1-disk-0,size=3G", "boot": "order=scsi0;net0"}, "scsi0"),
        ({"ide2": "l:iso/x.iso,media=cdrom"}, ""),
        ({"boot": "order=virtio7"}, ""),
    ],
)
def test_its_own_disk_is_found(config: dict[str, str], key: str) -> None:
    assert hardware.root_key(config) == key


@pytest.mark.parametrize(
    ("drive", "size"),
    [("l:x,size=3G", 3 * GIB), ("l:x,size=2560M,ro=1", 2560 * MIB), ("l:x", 0), ("l:x,size=528K", 528 << 10)],
)
def test_the_size_of_a_drive_is_read(drive: str, size: int) -> None:
    assert hardware.size_of(drive) == size
