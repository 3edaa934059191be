"""Machines move between nodes of one cluster that nestlab made: PVE moves them, nestlab says when, and an interruption
anywhere leaves one machine that the next command finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import blueprints
from nestlab.base.errors import LabError
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.qemu.migration_requests import Keep, Moved
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.clusters import Cluster
from nestlab.lab.model import Machine
from nestlab.lab.moved_machines import Away, Passage, placed
from nestlab.plan.steps import Stop
from nestlab.testing.fake_pve import mistakes
from nestlab.verbs import node_migration
from pve_node_bench import NodeBench, NodeHost, bench, container, mark_of, node


def lab(*inside: Machine) -> Blueprint:
    made = blueprints.draft("lab", node(*inside), replace(node(), name="pve2", memory=4 << 30), hosts="before")
    return replace(made, clusters=(Cluster("demo", ("pve1", "pve2"), ("wire",), "wire"),))


@dataclass
class Pair:
    """Two nodes of one cluster, and what is written down of a migration."""

    made: NodeBench
    kept: list[str | None] = field(default_factory=list)
    dies_at: int = 0

    def __post_init__(self) -> None:
        self.there = NodeHost(self.made.fake, self.made.node.port, path="pve2")

    def ends(self) -> tuple[NodeEngine, NodeEngine]:
        return self.made.engine(), self.made.engine(at=self.there)

    async def keep(self, request: Keep) -> None:
        self.kept.append(request.phase)
        if len(self.kept) == self.dies_at:
            raise KeyboardInterrupt

    async def look(self, text: Blueprint, path: str = "pve1/web", *, cold: bool = False) -> Any:
        source, target = self.ends()
        seen = (await source.observe()).machines[path]
        return await node_migration.look(text, seen, source, target, cold=cold, inside=())

    async def go(self, text: Blueprint, *, live: bool = True, ran: bool = True, path: str = "pve1/web") -> Moved:
        passage, blueprint = passing(text, path, live=live, ran=ran)
        return await node_migration.go((text, blueprint), passage, self.ends(), self.keep, self.made.say)


def passing(text: Blueprint, path: str, *, live: bool, ran: bool) -> tuple[Passage, Blueprint]:
    target = f"pve2/{path.rpartition('/')[2]}"
    return Passage(path, target, live=live, ran=ran), placed(text, (Away(path, path, target),))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with bench(tmp_path, nodes=("pve1", "pve2")) as made:
        yield Pair(made)


WEB = lab(blueprints.guest("web"))


async def test_a_machine_moves_while_it_runs_with_its_disks_and_tells_for_how_long_it_stood_still(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    ruling = await pair.look(WEB)
    assert (ruling.way, ruling.refused) == ("live", None)
    assert "copied whole" in ruling.notes[0]
    done = await pair.go(WEB)
    guest, mark = mark_of(pair.made, "pve2/web")
    assert (guest.node, guest.running, mark.path) == ("pve2", True, "pve2/web")
    assert done.downtime == 0.057
    assert pair.kept == ["begun", "moved", None]
    (moved,) = pair.made.fake.calls("POST", "/migrate")
    assert {key: str(value) for key, value in moved.params.items()} == {
        "target": "pve2",
        "online": "1",
        "with-local-disks": "1",
    }
    here, there = pair.ends()
    assert (await here.observe()).machines == {}
    assert (await there.observe()).machines["pve2/web"].state == "running"


async def test_off_and_cold_it_moves_as_a_whole_copy_and_is_started_only_if_it_ran(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    assert (await pair.look(WEB, cold=True)).way == "restart"
    await pair.go(WEB, live=False)
    guest, mark = mark_of(pair.made, "pve2/web")
    assert (guest.node, guest.running, mark.wanted) == ("pve2", True, "running")
    assert [each.node for each in pair.made.fake.vms.values() if not each.template] == ["pve2"]


async def test_what_does_not_run_is_not_started(pair: Pair) -> None:
    engine = await pair.made.up(WEB, "pve1/web")
    await engine.perform(Stop("", "pve1/web"), WEB, pair.made.say)
    assert (await pair.look(WEB)).way == "off"
    await pair.go(WEB, live=False, ran=False)
    assert not mark_of(pair.made, "pve2/web")[0].running


async def test_a_container_is_stopped_moved_and_started(pair: Pair) -> None:
    text = lab(container("box"))
    await pair.made.up(text, "pve1/box")
    ruling = await pair.look(text, "pve1/box")
    assert ruling.way == "restart"
    assert ruling.notes == ("a container: it is stopped, moved and started again",)
    await pair.go(text, live=False, path="pve1/box")
    guest, _ = mark_of(pair.made, "pve2/box")
    assert (guest.kind, guest.node, guest.running) == ("lxc", "pve2", True)


async def test_one_under_high_availability_is_taken_out_for_it_and_bound_to_its_new_node(pair: Pair) -> None:
    text = lab(replace(blueprints.guest("web"), ha=True))
    await pair.made.up(text, "pve1/web")
    await pair.go(text)
    guest, _ = mark_of(pair.made, "pve2/web")
    assert guest.ha == {"state": "started"}
    (rule,) = pair.made.fake.world.ha_rules.values()
    assert rule["nodes"] == "pve2"


async def test_what_somebody_else_put_under_it_does_not_move(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    with pair.made.fake.world.lock:
        mark_of(pair.made, "pve1/web")[0].ha = {"state": "started"}
    with pytest.raises(LabError, match="managed by high availability"):
        await pair.look(WEB)


async def test_where_its_bridge_has_another_name_it_moves_only_when_it_is_off(pair: Pair) -> None:
    other = blueprints.draft(
        "lab", node(blueprints.guest("web")), replace(node(on=("ring", "wire")), name="pve2", memory=4 << 30)
    )
    text = replace(other, clusters=WEB.clusters)
    await pair.made.up(text, "pve1/web")
    ruling = await pair.look(text)
    assert "wire is vmbr0 in pve1 and vmbr1 in pve2" in ruling.refused.what
    assert (await pair.look(text, cold=True)).refused is None


async def test_one_that_pve_does_not_move_goes_on_where_it_was(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    pair.made.fake.fail_task("qmigrate", "migration aborted", log="ERROR: online migrate failure - unable to connect")
    with pytest.raises(LabError, match=r"pve1/web is on pve1 as VM"):
        await pair.go(WEB)
    guest, _ = mark_of(pair.made, "pve1/web")
    assert (guest.node, guest.running) == ("pve1", True)
    assert pair.kept == ["begun", "failed", None]


@pytest.mark.parametrize("lost", ["pve1", "pve2"])
async def test_a_node_that_is_lost_meanwhile_takes_nothing_with_it(pair: Pair, lost: str) -> None:
    """The one that it comes from, once Proxmox VE has moved it; the one that it goes to, before."""
    await pair.made.up(WEB, "pve1/web")
    passage, _ = passing(WEB, "pve1/web", live=True, ran=True)
    if lost == "pve2":
        pair.made.fake.fail_task("qmigrate", "migration aborted", log="ERROR: got timeout: no route to host")
        with pytest.raises(LabError):
            await pair.go(WEB)
        pair.made.fake.node_down("pve2")
        guest, _ = mark_of(pair.made, "pve1/web")
        assert (guest.node, guest.running, pair.kept) == ("pve1", True, ["begun", "failed", None])
        return
    pair.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        await pair.go(WEB)
    pair.kept, pair.dies_at = [], 0
    _, target = pair.ends()
    await node_migration.resume(passage, (None, target), pair.keep, pair.made.say)
    guest, mark = mark_of(pair.made, "pve2/web")
    assert (guest.node, guest.running, mark.path) == ("pve2", True, "pve2/web")
    assert pair.kept == ["moved", None]


@pytest.mark.parametrize("phase", ["begun", "moved"])
async def test_one_that_was_interrupted_after_pve_had_moved_it_is_the_other_node_s(pair: Pair, phase: str) -> None:
    await pair.made.up(WEB, "pve1/web")
    pair.dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        await pair.go(WEB)
    with pair.made.fake.world.lock:
        guest = next(each for each in pair.made.fake.vms.values() if not each.template)
        assert guest.node == "pve2"
    passage = replace(passing(WEB, "pve1/web", live=True, ran=True)[0], phase=phase)  # type: ignore[arg-type]
    pair.kept, pair.dies_at = [], 0
    await node_migration.resume(passage, pair.ends(), pair.keep, pair.made.say)
    assert mark_of(pair.made, "pve2/web")[0].running
    assert pair.kept == ["moved", None]


async def test_one_that_was_interrupted_before_stays_and_one_that_nobody_can_ask_stays_written_down(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    passage, _ = passing(WEB, "pve1/web", live=True, ran=True)
    source, target = pair.ends()
    for ends in ((None, target), (None, None)):
        await node_migration.resume(passage, ends, pair.keep, pair.made.say)
        assert pair.kept == []
    await node_migration.resume(passage, (source, target), pair.keep, pair.made.say)
    assert pair.kept == ["failed", None]


@pytest.mark.parametrize("at", range(1, 16))
async def test_killed_at_any_request_exactly_one_is_left_and_the_next_command_finds_it(pair: Pair, at: int) -> None:
    await pair.made.up(WEB, "pve1/web")
    count, fake = 0, pair.made.fake

    def killed(engine: NodeEngine) -> NodeEngine:
        ask = engine.environment.api._ask  # type: ignore[attr-defined]

        async def counting(method: str, path: str, params: Any) -> Any:
            nonlocal count
            count += method != "GET"
            if count == at:
                raise KeyboardInterrupt
            return await ask(method, path, params)

        engine.environment.api._ask = counting  # type: ignore[attr-defined]
        return engine

    passage, after = passing(WEB, "pve1/web", live=True, ran=True)
    source, target = map(killed, pair.ends())
    try:
        await node_migration.go((WEB, after), passage, (source, target), pair.keep, pair.made.say)
    except KeyboardInterrupt:
        phase = next((each for each in reversed(pair.kept) if each), "begun")
        if pair.kept[-1] is not None:
            again = replace(passage, phase=phase)  # type: ignore[arg-type]
            await node_migration.resume(again, pair.ends(), pair.keep, pair.made.say)
    here, there = [set((await engine.observe()).machines) for engine in pair.ends()]
    assert len(here | there) == 1
    assert pair.kept[-1] is None
    (guest,) = (each for each in fake.vms.values() if not each.template)
    assert guest.running
    assert there == ({"pve2/web"} if guest.node == "pve2" else set())


async def test_every_request_is_one_that_proxmox_publishes(pair: Pair) -> None:
    await pair.made.up(WEB, "pve1/web")
    await pair.go(WEB)
    for version in ("9.1", "9.2"):
        calls = [call for call in pair.made.fake.requests if not call.path.endswith("/upload")]
        wrong = [found for call in calls if (found := mistakes(version, call.method, call.path, call.params))]
        assert wrong == []
