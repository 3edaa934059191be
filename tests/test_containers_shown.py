"""Containers inside hypervisors in plans, drawings and inventories, and where one would serve better than a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.engines.qemu.accel import choose
from nestlab.home import step_times
from nestlab.hosts.facts import Facts
from nestlab.kinds import could_be_container
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.disks import Disk
from nestlab.lab.hardware import Hardware
from nestlab.lab.model import GIB, Image, Machine
from nestlab.plan import capacity
from nestlab.plan.live_restart_anew import decide
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Observed, Plan, Seen
from nestlab.show import graph, inventory, render
from nestlab.show.ssh_config import SshEntry
from nestlab.verbs.platform import accelerated


def box(name: str, memory: int = 64) -> Machine:
    return replace(guest(name, memory=memory), container=True)


def boxes(*inside: Machine) -> Blueprint:
    return draft("lab", hypervisor("hv", *(inside or (box("web"), guest("vm")))))


def test_a_container_is_started_and_a_machine_boots() -> None:
    blueprint = boxes()
    steps = tuple(Boot("not there yet", path) for path in ("hv", "hv/web", "hv/vm"))
    _, *lines = render.plan(Plan("lab", steps), blueprint).splitlines()
    assert [line.split()[1] for line in lines] == ["boot", "start", "boot"]


def test_a_container_is_drawn_and_listed_as_one() -> None:
    blueprint = boxes()
    text = graph.mermaid(graph.of_blueprint(blueprint))
    assert text.count("container of tiny, 64M") == 1
    entries = [SshEntry("lab", each.path, "127.0.0.1", 22, "root", "", "") for each in blueprint.specs]
    groups = inventory.inventory(blueprint, entries, "/config")
    assert groups["containers"]["hosts"] == ["lab.hv.web"]
    assert groups["guests"]["hosts"] == ["lab.hv.web", "lab.hv.vm"]


def test_containers_share_the_cpus_of_their_hypervisor_and_nobody_is_warned() -> None:
    facts = Facts(cpus=8, memory=64 * GIB, memory_available=32 * GIB)
    many = [box(f"c{number}") for number in range(4)]
    assert capacity.check(boxes(*many), Observed(), facts) == ()
    assert capacity.check(boxes(*(guest(f"c{number}") for number in range(4))), Observed(), facts) != ()


def test_how_long_a_container_takes_is_no_measure_for_a_machine() -> None:
    blueprint = boxes(box("web"), replace(box("vm"), container=False))
    first, second = (step_times.key_of(Boot("", path), blueprint) for path in ("hv/web", "hv/vm"))
    assert first != second
    assert "container" in first


def test_what_is_a_container_and_then_a_machine_is_made_anew_and_with_more_memory_it_restarts() -> None:
    before, machine, more = (
        boxes(each)["hv/web"] for each in (box("web"), replace(box("web"), container=False), box("web", 128))
    )
    seen = Seen(before.path, "running", digest=before.digest, root=before.root, disk=0)
    assert decide(before, seen, before) is None
    anew, restart = decide(machine, seen, before), decide(more, seen, before)
    assert anew is not None
    assert (anew.way, anew.what) == ("anew", "container yes -> no")
    assert restart is not None
    assert (restart.way, restart.what) == ("restart", "memory 64M -> 128M")


def test_a_lab_with_containers_plans_to_make_and_start_each() -> None:
    steps = plan(boxes(), Observed()).steps
    assert [step.id for step in steps if step.path == "hv/web"] == ["create:hv/web", "boot:hv/web"]


EMULATED = Facts()
"""Of a hypervisor without KVM."""


def test_where_a_linux_of_nestlabs_would_be_emulated_inside_a_guest_a_container_is_proposed() -> None:
    for machine in (guest("web"), Machine("web")):
        cost = choose(EMULATED, machine, "hv/web", "hv").cost
        assert "25 to 60 times slower" in cost
        assert cost.endswith("with `container: true` it would run as fast as hv does")


@pytest.mark.parametrize(
    "machine",
    [
        Machine("web", image=Image(file="/disk.qcow2")),
        Machine("web", hypervisor="kvm", image=Image(base="kvm")),
        Machine("web", hardware=Hardware(firmware="uefi")),
        Machine("web", disks=(Disk("data", GIB),)),
        Machine("web", cmdline="quiet"),
        Machine("web", internet=True),
    ],
    ids=["a disk of the user's", "a hypervisor", "UEFI", "disks", "kernel parameters", "the internet"],
)
def test_what_no_container_can_be_is_not_proposed_as_one(machine: Machine) -> None:
    assert not could_be_container(machine)
    assert "container" not in choose(EMULATED, machine, "hv/web", "hv").cost


def test_outermost_machines_are_not_proposed_as_containers() -> None:
    assert "container" not in choose(EMULATED, guest("web"), "web", "this machine").cost


def test_where_nestlab_makes_no_containers_none_is_proposed() -> None:
    assert "container" not in choose(EMULATED, guest("web"), "hv/web", "hv", containers=False).cost
    spec = boxes(guest("vm"))["hv/vm"]
    for containers in (True, False):
        told = accelerated(spec, EMULATED, "hv", containers=containers)
        assert (told.accel, "container: true" in told.cost) == ("tcg", containers)
