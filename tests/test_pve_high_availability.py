"""`ha: true` of machines inside a node of a cluster of Proxmox VE: what the lab file takes, what is planned, and what
is asked of high availability, which stands in as pve-ha-manager does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest

import blueprints
from nestlab.base.errors import LabError, Mistakes
from nestlab.engines.pve.high_availability import own_disks
from nestlab.lab.blueprint import Blueprint
from nestlab.labfile import parse_text, render
from nestlab.plan.live_restart_anew import decide
from nestlab.plan.steps import Boot, Create, Observed, Remove, Seen, Stop, Update
from nestlab.show import machine_table
from nestlab.testing.fake_pve import mistakes
from nestlab.verbs import verify_high_availability
from pve_node_bench import NodeBench, bench, container, draft, mark_of

LAB = """
lab: watched
segments: {lan: {cidr: 10.88.0.0/24}}
machines:
  pve1: &node
    hypervisor: pve
    segments: [lan]
    machines:
      web: {image: tiny, segments: [lan], ha: true}
  pve2: {hypervisor: pve, segments: [lan]}
  pve3: {hypervisor: pve, segments: [lan]}
clusters: {demo: [pve1, pve2, pve3]}
"""

WATCHED = draft(replace(blueprints.guest("web"), ha=True))
PLAIN = draft(blueprints.guest("web"))


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[NodeBench]:
    async with bench(tmp_path) as found:
        yield found


def wrong(text: str) -> str:
    with pytest.raises(Mistakes) as caught:
        parse_text(text, environ={})
    return str(caught.value)


def test_a_lab_file_says_it_of_machines_in_members_and_is_written_with_it() -> None:
    lab = parse_text(LAB, environ={})
    assert lab.machines[0].machines[0].ha
    assert parse_text(render(lab), environ={}) == lab


def test_outside_of_a_cluster_of_proxmox_ve_it_is_a_mistake_with_its_place() -> None:
    alone = wrong(LAB.replace("[pve1, pve2, pve3]", "[pve2, pve3]"))
    assert "machines.pve1.machines.web.ha" in alone
    assert "pve1 is in no cluster" in alone
    assert "that of a cluster of Proxmox VE" in wrong(LAB.replace("pve2: {", "pve2: {ha: true, "))
    assert "that of a cluster of Proxmox VE" in wrong(LAB.replace("hypervisor: pve", "hypervisor: kvm"))


def test_it_starts_nothing_anew_and_a_machine_that_lacks_it_gets_it_while_it_runs() -> None:
    spec, plain = WATCHED["pve1/web"], PLAIN["pve1/web"]
    assert spec.digest == plain.digest
    seen = Seen("pve1/web", "running", spec.digest, root=spec.root, disk=0)
    assert decide(spec, seen, None) is None  # where it is there is none
    change = decide(spec, replace(seen, ha=False), None)
    assert change is not None
    assert (change.way, change.what) == ("live", "high availability off -> on")
    change = decide(plain, replace(seen, ha=True), None)
    assert change is not None
    assert change.what == "high availability on -> off"
    assert decide(spec, replace(seen, ha=True), None) is None


def test_a_disk_that_one_node_has_is_known_by_its_storage() -> None:
    assert own_disks({"scsi0": "local:101/vm-101-disk-0.qcow2,size=1G"}, {"nfs"})
    assert not own_disks({"scsi0": "nfs:101/vm-101-disk-0.qcow2", "ide2": "none,media=cdrom"}, {"nfs"})
    assert own_disks({"rootfs": "local:200/x.raw", "net0": "virtio=52:54:00:00:00:01"}, ())


async def test_a_machine_is_watched_over_on_the_node_that_has_its_disk_and_the_daemons_start(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    guest, mark = mark_of(made, "pve1/web")
    assert guest.ha == {"state": "started"}
    (rule,) = made.fake.world.ha_rules.values()
    assert rule == {"type": "node-affinity", "resources": f"vm:{guest.vmid}", "nodes": "pve1", "strict": "1"}
    assert "pve-ha-lrm" in made.fake.world.nodes["pve1"].services
    assert mark.ha
    assert (await engine.observe()).machines["pve1/web"].ha
    assert (await made.engine().glance())["pve1/web"].ha


async def test_proxmox_ve_8_binds_it_by_a_group_which_goes_with_the_last(tmp_path: Path) -> None:
    async with bench(tmp_path, version="8.4") as made:
        lab = draft(replace(blueprints.guest("web"), ha=True), replace(container("box"), ha=True))
        for path in ("pve1/web", "pve1/box"):
            await made.up(lab, path)
        guest, _ = mark_of(made, "pve1/web")
        assert guest.ha == {"state": "started", "group": "nestlab-pve1"}
        assert made.fake.world.ha_groups == {"nestlab-pve1": {"nodes": "pve1", "restricted": "1"}}
        engine = made.engine()
        await engine.perform(Remove("", "pve1/web"), lab, made.say)
        assert made.fake.world.ha_groups
        await engine.perform(Remove("", "pve1/box"), lab, made.say)
        assert not made.fake.world.ha_groups


async def test_what_ends_behind_its_back_is_started_again_and_a_stop_goes_through_it(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    with made.fake.world.lock:
        guest.running = False
    await made.engine().availability._state((await engine.guests.one("pve1/web")).guest)
    assert guest.running
    await engine.perform(Stop("", "pve1/web"), WATCHED, made.say)
    assert not guest.running
    assert guest.ha == {"state": "stopped"}
    assert not made.fake.calls("POST", "/status/shutdown")
    assert (await engine.observe()).machines["pve1/web"].state == "stopped"
    await engine.perform(Boot("", "pve1/web"), WATCHED, made.say)
    assert guest.running
    assert guest.ha == {"state": "started"}
    assert len(made.fake.world.ha_rules) == 1


async def test_where_its_manager_does_not_work_a_machine_is_taken_out_of_it_and_stopped(
    made: NodeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    with made.fake.world.lock:
        made.fake.world.nodes["pve1"].services.clear()
    monkeypatch.setattr("nestlab.engines.pve.high_availability.ENDS", 0.01)
    await engine.perform(Stop("", "pve1/web"), WATCHED, made.say)
    assert not guest.running
    assert guest.ha is None
    assert any("taking it out first" in said for said in made.said)
    seen = (await engine.observe()).machines["pve1/web"]
    assert (seen.state, seen.ha) == ("stopped", False)


async def test_a_machine_whose_power_is_cut_stays_off_until_it_boots_again(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    assert await engine.kill("pve1/web")
    assert (await engine.observe()).machines["pve1/web"].state == "died"
    assert guest.ha is None
    await engine.perform(Boot("", "pve1/web"), WATCHED, made.say)
    assert guest.running
    assert guest.ha == {"state": "started"}


async def test_a_lab_file_without_it_takes_it_away_while_the_machine_runs_and_the_rule_with_it(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    await engine.perform(Update("", "pve1/web"), PLAIN, made.say)
    guest, mark = mark_of(made, "pve1/web")
    assert guest.running
    assert guest.ha is None
    assert not mark.ha
    assert not made.fake.world.ha_rules


async def test_what_somebody_put_under_it_by_hand_stays_there_and_is_no_change(made: NodeBench) -> None:
    engine = await made.up(PLAIN, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    with made.fake.world.lock:
        guest.ha = {"state": "started"}
        made.fake.world.nodes["pve1"].services.add("pve-ha-lrm")
    seen = (await engine.observe()).machines["pve1/web"]
    assert decide(PLAIN["pve1/web"], seen, None) is None
    await engine.perform(Update("", "pve1/web"), PLAIN, made.say)
    assert guest.ha == {"state": "started"}
    await engine.perform(Stop("", "pve1/web"), PLAIN, made.say)
    assert not guest.running


async def test_what_somebody_took_out_by_hand_is_planned_and_put_back(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    guest, _ = mark_of(made, "pve1/web")
    with made.fake.world.lock:
        guest.ha = None
    seen = (await engine.observe()).machines["pve1/web"]
    assert decide(WATCHED["pve1/web"], seen, None) is not None
    await engine.perform(Update("", "pve1/web"), WATCHED, made.say)
    assert guest.ha == {"state": "started"}
    assert len(made.fake.world.ha_rules) == 1


async def test_interrupted_between_two_requests_it_is_not_watched_over_and_the_next_one_goes_on(
    made: NodeBench,
) -> None:
    engine = made.engine()
    await engine.perform(Create("", "pve1/web"), WATCHED, made.say)
    made.fake.fail_next("/cluster/ha/rules", method="POST", message="got timeout")
    with pytest.raises(LabError, match="got timeout"):
        await engine.perform(Boot("", "pve1/web"), WATCHED, made.say)
    guest, _ = mark_of(made, "pve1/web")
    assert guest.ha == {"state": "ignored"}
    assert not (await made.engine().observe()).machines["pve1/web"].ha
    await made.engine().perform(Update("", "pve1/web"), WATCHED, made.say)
    assert guest.ha == {"state": "started"}


async def test_daemons_that_do_not_start_are_an_error_that_says_where(made: NodeBench) -> None:
    made.fake.fail_next("/services/pve-ha-lrm/start", message="command 'systemctl start pve-ha-lrm' failed")
    with pytest.raises(LabError, match="High availability does not start on pve1") as caught:
        await made.up(WATCHED, "pve1/web")
    assert "watchdog-mux" in caught.value.hint


async def test_a_machine_that_goes_is_ended_by_it_and_leaves_nothing_in_it(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    await engine.perform(Remove("", "pve1/web"), WATCHED, made.say)
    assert not made.fake.vms or all(guest.template for guest in made.fake.vms.values())
    assert not made.fake.world.ha_rules


def test_it_is_proven_by_what_its_manager_says() -> None:
    spec = WATCHED["pve1/web"]
    assert verify_high_availability.proof(spec, "vm:101", "started").ok
    failed = verify_high_availability.proof(spec, "vm:101", "error")
    assert (failed.ok, failed.seen) == (False, "vm:101 is error")
    assert "ha-manager status" in failed.why
    assert verify_high_availability.proof(spec, "", "").ok is False


async def test_what_watches_over_machines_is_asked_in_the_node_that_they_are_in(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")

    class Nest:
        async def engine(self, parent: str) -> object:
            assert parent == "pve1"
            return engine

    nest = cast(Any, Nest())
    (proof,) = await verify_high_availability.prove(nest, WATCHED.specs, frozenset())
    assert proof.ok
    assert await verify_high_availability.prove(nest, WATCHED.specs, frozenset({"pve1"})) == []


def test_status_tells_of_it_where_the_lab_file_wants_it() -> None:
    def shown(blueprint: Blueprint, ha: bool) -> str:
        seen = Seen("pve1/web", "running", ha=ha)
        found = machine_table.rows(blueprint, Observed(MappingProxyType({seen.path: seen})), 0.0)
        return machine_table.table(found)

    assert "under high availability" in shown(WATCHED, True)
    assert "not under high availability" in shown(WATCHED, False)
    assert "high availability" not in shown(PLAIN, False)


async def test_every_request_is_one_that_proxmox_publishes(made: NodeBench) -> None:
    engine = await made.up(WATCHED, "pve1/web")
    await engine.perform(Stop("", "pve1/web"), WATCHED, made.say)
    await engine.perform(Boot("", "pve1/web"), WATCHED, made.say)
    await engine.perform(Update("", "pve1/web"), PLAIN, made.say)
    asked = [call for call in made.fake.requests if "/ha/" in call.path or "/services/" in call.path]
    assert len(asked) > 10
    for version in ("9.1", "9.2"):
        found = {(each.method, each.path): mistakes(version, each.method, each.path, each.params) for each in asked}
        assert MappingProxyType({key: said for key, said in found.items() if said}) == {}
