"""The verbs as functions, on a pretended world: everything but the engines is real."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from nestlab.base.errors import Busy, LabError
from nestlab.base.events import Began, Ended, Event
from nestlab.home import journal, labs, lock
from nestlab.home.directories import Home
from nestlab.hosts.facts import Facts
from nestlab.images.system_packages import MMDEBSTRAP
from nestlab.lab import blueprint_file
from nestlab.lab.model import GIB
from nestlab.plan.steps import Plan, Want
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import session
from nestlab.verbs.apply import Interrupted, Unfinished
from nestlab.verbs.site import Site

PAIR = """
lab: pair
segments: {wire: }
machines:
  hv1: &hv
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      web: {image: tiny, memory: 128M, segments: [wire]}
  hv2: *hv
"""

ALL = {"hv1", "hv1/web", "hv2", "hv2/web"}


def quiet(event: Event) -> None:
    """Nobody listens."""


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks run until it holds."""
    for _ in itertools.count():
        if holds():
            return
        await asyncio.sleep(0)


class Bench:
    """A home in a scratch directory, a pretended world, and a lab file."""

    def __init__(self, folder: Path) -> None:
        self.world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB, routes=("192.168.0.0/16",)))
        self.home = Home(folder / "state", folder / "cache")
        self.site = Site(self.home, self.world.host, self.world.engine, {"kvm": self.world.engine}, needs=lambda: ())
        self.file = folder / "pair.yaml"
        self.file.write_text(PAIR)

    async def up(self, *machines: str, sets: tuple[str, ...] = ()) -> Plan:
        lab, source = session.read(self.file, {}, sets)
        async with session.changing(self.site, "up", lab=lab, source=source) as opened:
            todo = opened.plan("running", machines)
            await opened.check(todo)
            await opened.apply(todo, quiet)
        return todo

    async def change(self, want: Want, *machines: str) -> Plan:
        async with session.changing(self.site, "change", name="pair") as opened:
            todo = opened.plan(want, machines)
            await opened.apply(todo, quiet, verb="change")
            if want == "gone" and not machines:
                session.forget(opened.place)
        return todo

    def running(self) -> set[str]:
        return {path for (_, path), machine in self.world.machines.items() if machine.state == "running"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_up_makes_what_the_lab_file_says_and_again_does_nothing(bench: Bench) -> None:
    assert await bench.up()
    assert bench.running() == ALL
    assert not await bench.up()


async def test_a_lab_keeps_its_addresses_when_machines_are_added(bench: Bench) -> None:
    await bench.up()
    before = blueprint_file.load(bench.home.lab("pair").blueprint, "pair")
    bench.file.write_text(PAIR + "  extra: {image: tiny, segments: [wire]}\n")
    await bench.up()
    after = blueprint_file.load(bench.home.lab("pair").blueprint, "pair")
    assert before is not None
    assert after is not None
    assert {spec.path: spec.nics for spec in before.specs}.items() <= {s.path: s.nics for s in after.specs}.items()


async def test_a_lab_is_found_again_by_its_name_with_what_set_had_changed(bench: Bench) -> None:
    await bench.up(sets=("machines.hv1.memory=2G",))
    lab, source = session.read_again(bench.home, "pair", {})
    assert lab.machines[0].memory == 2 * GIB
    assert source.sets == ("machines.hv1.memory=2G",)
    assert labs.lab_of(bench.home, bench.file) == "pair"


async def test_a_lab_whose_file_is_gone_says_how_to_go_on(bench: Bench) -> None:
    await bench.up()
    bench.file.unlink()
    with pytest.raises(LabError, match="is gone") as caught:
        session.read_again(bench.home, "pair", {})
    assert "nestlab start pair" in caught.value.hint


async def test_up_of_one_machine_brings_up_what_it_is_in_and_nothing_else(bench: Bench) -> None:
    await bench.up("hv1/web")
    assert bench.running() == {"hv1", "hv1/web"}


async def test_stop_start_and_down_need_no_lab_file(bench: Bench) -> None:
    await bench.up()
    bench.file.unlink()
    await bench.change("stopped", "hv1")
    assert bench.running() == {"hv2", "hv2/web"}
    await bench.change("running")
    assert bench.running() == ALL
    await bench.change("gone")
    assert bench.world.machines == {}
    assert bench.home.labs() == []


async def test_nothing_stays_open(bench: Bench) -> None:
    await bench.up()
    assert bench.world.open == 0


async def test_what_failed_is_tried_again_and_the_rest_stays(bench: Bench) -> None:
    bench.world.refuse("boot:hv2")
    with pytest.raises(Unfinished, match="hv2"):
        await bench.up()
    assert bench.running() == {"hv1", "hv1/web"}
    assert {step.path for step in (await bench.up()).steps} == {"hv2", "hv2/web"}


async def test_every_run_is_journaled(bench: Bench) -> None:
    await bench.up()
    run = journal.runs(bench.home.lab("pair").journal)[-1]
    events = list(journal.read(run.path))
    assert run.verb == "up"
    assert isinstance(events[0], Began)
    assert isinstance(events[-1], Ended)
    assert events[-1].ok


async def test_a_cancelled_run_says_what_is_done_and_left(bench: Bench) -> None:
    held = bench.world.hold("boot:hv2")
    work = asyncio.ensure_future(bench.up())
    await until(lambda: "hv1/web" in bench.running())
    work.cancel()
    with pytest.raises(Interrupted, match=r"Left: .*boot hv2"):
        await work
    held.set()
    await bench.up()
    assert bench.running() == ALL


async def test_the_second_of_two_waits_or_says_who_holds_the_lab(bench: Bench) -> None:
    await bench.up()
    lab, source = session.read(bench.file, {})
    async with session.changing(bench.site, "up", lab=lab, source=source):
        with pytest.raises(Busy, match="nestlab up"):
            async with session.changing(bench.site, "stop", name="pair", wait=0):
                pass


async def test_a_lab_that_was_removed_while_another_waited_is_made_anew(bench: Bench) -> None:
    await bench.up()
    place = bench.home.lab("pair")
    told: list[str] = []
    async with lock.held(place.lock, "pair", "down"):
        lab, source = session.read(bench.file, {})

        async def up() -> None:
            async with session.changing(bench.site, "up", lab=lab, source=source, say=told.append) as opened:
                await opened.apply(opened.plan(), quiet)

        waiting = asyncio.ensure_future(up())
        await until(lambda: bool(told))
        session.forget(place)
    await waiting
    assert "nestlab down" in told[0]
    assert place.blueprint.exists()


async def test_a_plan_that_does_not_fit_leaves_no_trace(bench: Bench) -> None:
    with pytest.raises(LabError, match="memory"):
        await bench.up(sets=("machines.hv1.memory=900G",))
    assert bench.home.labs() == []


async def test_images_that_cannot_be_built_here_are_an_error_before_anything_is_made(bench: Bench) -> None:
    bench.site = Site(bench.home, bench.world.host, bench.world.engine, bench.site.inside, lambda: (MMDEBSTRAP,))
    with pytest.raises(LabError, match="mmdebstrap is not installed here"):
        await bench.up()
    assert bench.world.machines == {}


async def test_looking_at_a_lab_that_is_not_there_makes_nothing(bench: Bench) -> None:
    lab, _ = session.read(bench.file, {})
    async with session.looking(bench.site, lab=lab) as opened:
        await opened.look()
        assert opened.plan()
    assert bench.home.labs() == []
    with pytest.raises(LabError, match="There is no lab pair"):
        async with session.looking(bench.site, name="pair"):
            pass


async def test_how_machines_run_is_known_as_far_as_their_hypervisors_run(bench: Bench) -> None:
    lab, _ = session.read(bench.file, {})
    async with session.looking(bench.site, lab=lab) as opened:
        await opened.look()
        before = {each.path: each.accel for each in await opened.accelerations()}
        assert [each.path for each in await opened.outer_accelerations(opened.plan())] == ["hv1", "hv2"]
    await bench.up()
    async with session.looking(bench.site, name="pair") as opened:
        await opened.look()
        after = {each.path: each.accel for each in await opened.accelerations()}
    assert before == {"hv1": "tcg", "hv1/web": "", "hv2": "tcg", "hv2/web": ""}
    assert after["hv1/web"] == "tcg"


async def test_a_file_that_describes_another_lab_now_is_not_taken_for_the_old_one(bench: Bench) -> None:
    await bench.up()
    bench.file.write_text(PAIR.replace("lab: pair", "lab: other"))
    with pytest.raises(LabError, match="describes lab other now"):
        session.read_again(bench.home, "pair", {})
