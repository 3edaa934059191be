"""`migrate` of a machine from one node of a cluster of Proxmox VE to another, as a verb: its path is another from then
on, and an interruption is ended by the next command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.hosts.host import Host
from nestlab.verbs import migrations, moving, node_migration
from nestlab.verbs import session as verbs
from pve_node_bench import Engine, NodeBench, NodeHost, bench, mark_of
from test_pve_inside_session import Labs

LAB = """
lab: nest
segments: {wire: {cidr: 10.88.0.0/24}}
machines:
  pve1:
    hypervisor: pve
    segments: {wire: 10.88.0.11}
    machines: {web: {image: tiny, segments: [wire]}}
  pve2:
    hypervisor: pve
    memory: 2G
    segments: {wire: 10.88.0.12}
"""


class Pair(Labs):
    """Two nodes, which count as members of one cluster."""

    def __init__(self, node: NodeBench, folder: Path) -> None:
        super().__init__(node, folder)
        self.other = NodeHost(node.fake, node.node.port, path="pve2")

    def inside(self, lab: str, parent: Host) -> Engine:
        return self.node.engine(lab, at=self.other if parent.path == "pve2" else None)


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(node_migration, "together", lambda *_: True)
    async with bench(tmp_path, nodes=("pve1", "pve2")) as node:
        yield Pair(node, tmp_path)


async def test_a_machine_is_in_the_other_node_then_up_leaves_it_there_and_it_comes_home(made: Pair) -> None:
    await made.up(LAB)
    async with verbs.changing(made.site, "migrate", name="nest") as session:
        ruling = await moving.look(session, "pve1/web", "pve2")
        assert (ruling.way, ruling.arrival) == ("live", "pve2/web")
        arrived = await moving.go(session, ruling, lambda _: None)
        assert (arrived.path, arrived.downtime) == ("pve2/web", 0.057)
        assert session.moves.passages == ()
    assert (await made.states())["pve2/web"] == "running"
    assert not await made.up(LAB)
    async with verbs.changing(made.site, "migrate", name="nest") as session:
        await moving.go(session, await moving.look(session, "pve2/web", "pve1"), lambda _: None)
        assert session.moves.aways == ()
    assert mark_of(made.node, "pve1/web")[0].node == "pve1"


async def test_one_that_was_interrupted_is_ended_by_the_next_command(
    made: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.up(LAB)
    arrived = node_migration._arrived

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(node_migration, "_arrived", killed)
    with pytest.raises(KeyboardInterrupt):
        async with verbs.changing(made.site, "migrate", name="nest") as session:
            await moving.go(session, await moving.look(session, "pve1/web", "pve2"), lambda _: None)
    monkeypatch.setattr(node_migration, "_arrived", arrived)
    async with verbs.changing(made.site, "up", name="nest") as session:
        await migrations.resolve(session, lambda _: None)
        assert session.moves.passages == ()
    assert (await made.states())["pve2/web"] == "running"


async def test_a_node_without_the_memory_for_it_refuses_it_with_the_numbers(made: Pair) -> None:
    await made.up(LAB.replace("memory: 2G", "memory: 1536M"))
    async with verbs.changing(made.site, "migrate", name="nest") as session:
        ruling = await moving.look(session, "pve1/web", "pve2")
    assert ruling.refused is not None
    assert "pve2 has 1536M of memory, and with pve1/web it needs 1664M" in ruling.refused.what


async def test_nodes_of_no_cluster_together_are_told(made: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    await made.up(LAB)
    monkeypatch.setattr(node_migration, "together", lambda *_: False)
    async with verbs.changing(made.site, "migrate", name="nest") as session:
        with pytest.raises(LabError, match="in no cluster together"):
            await moving.look(session, "pve1/web", "pve2")
