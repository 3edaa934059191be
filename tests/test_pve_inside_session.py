"""The verbs on a lab with a node of Proxmox VE and machines inside: the node is pretended, and its Proxmox VE stands
in. Everything else is real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nestlab.base.events import Event
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.hosts.host import Host
from nestlab.lab.model import GIB
from nestlab.plan.steps import Other, Plan, Want
from nestlab.testing.fake_engine import FakeWorld
from nestlab.testing.fake_pve.world import Guest
from nestlab.verbs import session as verbs
from nestlab.verbs.site import Site
from pve_node_bench import Engine, NodeBench, bench, mark_of

LAB = """
lab: nest
segments: {wire: {cidr: 10.88.0.0/24}}
machines:
  pve1:
    hypervisor: pve
    segments: {wire: 10.88.0.11}
    machines:
      web: {image: tiny, segments: [wire]}
      box: {container: true, segments: [wire]}
"""

ALL = {"pve1": "running", "pve1/web": "running", "pve1/box": "running"}


def quiet(event: Event) -> None:
    """Nobody listens."""


class Labs:
    def __init__(self, node: NodeBench, folder: Path) -> None:
        self.node, self.folder = node, folder
        self.world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))
        self.home = Home(folder / "state", folder / "cache")
        inside = {"kvm": self.world.engine, "pve": self.inside}
        self.site = Site(self.home, self.world.host, self.world.engine, inside, needs=lambda: ())

    def inside(self, lab: str, parent: Host) -> Engine:
        assert parent.path == "pve1"
        return self.node.engine(lab)

    async def up(self, text: str = LAB) -> Plan:
        file = self.folder / "lab.yaml"
        file.write_text(text)
        lab, source = verbs.read(file, {})
        async with verbs.changing(self.site, "up", lab=lab, source=source) as session:
            todo = session.plan()
            await session.check(todo)
            await session.apply(todo, quiet)
            await session.look()
            assert not session.plan()
            return todo

    async def change(self, want: Want, *machines: str) -> Plan:
        async with verbs.changing(self.site, "change", name="nest") as session:
            todo = session.plan(want, machines)
            await session.apply(todo, quiet, verb="change")
            return todo

    async def states(self) -> dict[str, str]:
        async with verbs.looking(self.site, name="nest") as session:
            return {path: seen.state for path, seen in (await session.look()).machines.items()}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Labs]:
    async with bench(tmp_path) as node:
        yield Labs(node, tmp_path)


async def test_up_makes_the_node_and_what_is_in_it_and_again_does_nothing(made: Labs) -> None:
    await made.up()
    assert await made.states() == ALL
    assert not await made.up()


async def test_what_changes_by_hand_in_a_node_is_planned_with_its_reason_and_set_back(made: Labs) -> None:
    await made.up()
    guest, _ = mark_of(made.node, "pve1/web")
    made.node.fake.set_config(guest.vmid, memory=999)
    todo = await made.up()
    assert "changed by hand" in " ".join(change.why for change in todo.changes)
    assert str(mark_of(made.node, "pve1/web")[0].config["memory"]) == "128"


async def test_a_machine_that_the_lab_file_mentions_no_more_goes_and_one_made_by_hand_stays(made: Labs) -> None:
    await made.up()
    with made.node.fake.world.lock:
        made.node.fake.world.guests[700] = Guest(700, "pve1", "lxc", config={"hostname": "mine"}, running=True)
    await made.up(LAB.replace("      box: {container: true, segments: [wire]}\n", ""))
    assert set(await made.states()) == {"pve1", "pve1/web"}
    assert 700 in made.node.fake.vms
    async with verbs.looking(made.site, name="nest") as session:
        assert (await session.look()).others == (Other("pve1", "CT 700 (mine), running"),)


async def test_stop_and_start_of_the_node_reach_what_is_in_it_first_and_last(made: Labs) -> None:
    await made.up()
    stopped = await made.change("stopped", "pve1")
    assert stopped.steps[-1].id == "stop:pve1"
    assert not any(guest.running for guest in made.node.fake.vms.values())
    started = await made.change("running")
    assert started.steps[0].id == "boot:pve1"
    assert await made.states() == ALL


async def test_a_node_that_goes_takes_what_is_in_it_along(made: Labs) -> None:
    await made.up()
    await made.change("gone")
    assert await made.states() == {}
