"""Many machines on a Proxmox VE cost no more each than few, and one question suffices to see them all."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from blueprints import draft, guest
from nestlab.engines.pve.create import CLONES
from nestlab.lab.model import GIB
from nestlab.lab.places import Pve
from nestlab.plan.steps import Connect, Create
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.tasks import Task
from pve_lab import Bench, assert_valid, bench, cluster, up, vmid


async def test_status_of_a_lab_is_one_request(made: Bench) -> None:
    memory = made.place / "pve.json"
    lab = draft("lab", *(guest(f"m{number}") for number in range(5)))
    engine = made.engine(memory=memory)
    for spec in lab.specs:
        await up(made, lab, spec.path, engine)
    before = len(made.fake.requests)
    found = await made.engine(memory=memory).glance()
    assert {each.state for each in found.values()} == {"running"}
    assert {each.digest for each in found.values()} == {spec.digest for spec in lab.specs}
    assert len(made.fake.requests) - before == 1
    made.fake.vms[vmid(made, "m0")].running = False
    before = len(made.fake.requests)
    assert (await made.engine(memory=memory).glance())["m0"].state == "died"
    assert len(made.fake.requests) - before == 2, "the node is asked where something is not as it was left"


async def test_many_machines_at_once_have_numbers_of_their_own(made: Bench) -> None:
    made.fake.slow("qmclone", 0.05)
    lab = draft("lab", *(guest(f"m{number}") for number in range(8)))
    engine = made.engine()
    await asyncio.gather(*(engine.perform(Create("", spec.path), lab, made.say) for spec in lab.specs))
    assert len((await engine.observe()).machines) == 8


class Crowd:
    """How many tasks of a kind run at one time, at most."""

    def __init__(self, fake: FakePve, kinds: tuple[str, ...]) -> None:
        self.most = 0
        real, now, lock = Task.work, [0], threading.Lock()

        def work(task: Task) -> None:
            if task.kind in kinds:
                with lock:
                    now[0] += 1
                    self.most = max(self.most, now[0])
            try:
                real(task)
            finally:
                if task.kind in kinds:
                    with lock:
                        now[0] -= 1

        self.restore = real
        Task.work = work  # type: ignore[method-assign, assignment]
        for kind in kinds:
            fake.slow(kind, 0.05)


class Cost(NamedTuple):
    """Requests of making and booting machines, of observing them and of a glance; most copies at one time."""

    making: int
    observing: int
    glancing: int
    copies: int


async def cost_of(count: int, place: Path, storage: str) -> Cost:
    with cluster("pve1", "pve2") as fake:
        for node in fake.nodes.values():
            node.memory = 256 * GIB
        for stage in (fake.world.sdn.config, fake.world.sdn.applied):
            stage["zones"]["nestlab"] = {"zone": "nestlab", "type": "vxlan", "peers": "10.99.0.1"}
        fake.add_storage("shared", type="nfs", shared=True, content="images")
        async with bench(fake, place, Pve("pve://127.0.0.1", storage=storage)) as made:
            specs = (replace(guest(f"m{number}"), node=f"pve{number % 2 + 1}") for number in range(count))
            lab = draft("lab", *specs)
            memory = place / f"{count}.json"
            engine = made.engine(memory=memory)
            crowd = Crowd(fake, ("qmclone", "qmconfig"))
            try:
                await engine.perform(Connect("", "wire"), lab, made.say)
                await asyncio.gather(*(up(made, lab, spec.path, engine) for spec in lab.specs))
            finally:
                Task.work = crowd.restore  # type: ignore[method-assign]
            making = len(fake.requests)
            states = (await made.engine(memory=memory).observe()).machines
            assert [each.state for each in states.values()] == ["running"] * count
            observing = len(fake.requests)
            glance = await made.engine(memory=memory).glance()
            assert [each.state for each in glance.values()] == ["running"] * count
            assert_valid(fake)
            return Cost(making, observing - making, len(fake.requests) - observing, crowd.most)


async def test_fifty_machines_take_the_same_requests_each_and_do_not_storm_a_node(tmp_path: Path) -> None:
    few, many = await cost_of(6, tmp_path, "local"), await cost_of(50, tmp_path, "local")
    assert many.making / 50 < few.making / 6
    assert many.observing - 50 == few.observing - 6, "one for each, to see whether somebody changed it"
    assert many.glancing == few.glancing <= 3
    assert max(few.copies, many.copies) <= 2 * CLONES, "on the storages of two nodes at one time"


async def test_a_storage_that_nodes_share_makes_no_more_at_one_time_than_any_other(tmp_path: Path) -> None:
    assert (await cost_of(12, tmp_path, "shared")).copies <= CLONES
