"""Two nestlabs at once: on one lab they take turns, whoever only looks is not kept, and one doctor changes a host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import test_migration_killed
from fake_root import FakeRoot, fix, undo
from nestlab.base.errors import Busy, LabError
from nestlab.home import lock, moved_machines
from nestlab.home.targets import expand
from nestlab.lab.moved_machines import Passage
from nestlab.plan.migration import arrival, check_places
from nestlab.verbs import leftovers, migrations, session
from nestlab.verbs.session import Session
from test_session import ALL, Bench, quiet, until


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def change(bench: Bench, verb: str, said: list[str], wait: float | None = None) -> int:
    """`up` or `down` as another process does it; how many steps it had to do."""
    lab, source = session.read(bench.file, {})
    opening = session.changing(bench.site, verb, lab=lab, source=source, wait=wait, say=said.append)
    if verb == "down":
        opening = session.changing(bench.site, verb, name="pair", wait=wait, say=said.append)
    async with opening as opened:
        todo = opened.plan("running" if verb == "up" else "gone")
        await opened.apply(todo, quiet, verb=verb)
        if verb == "down":
            session.forget(opened.place)
    return len(todo.steps)


async def held(bench: Bench) -> tuple[asyncio.Event, asyncio.Future[int]]:
    """An `up` that is in the middle of its work, until the event is set."""
    gate = bench.world.hold("boot:hv1")
    first = asyncio.ensure_future(change(bench, "up", []))
    await until(lambda: ("pair", "hv2") in bench.world.machines)
    return gate, first


async def test_a_second_up_waits_says_for_whom_and_has_nothing_left_to_do(bench: Bench) -> None:
    gate, first = await held(bench)
    said: list[str] = []
    second = asyncio.ensure_future(change(bench, "up", said))
    await until(lambda: bool(said))
    assert said[0].startswith("waiting for `nestlab up` (process ")
    gate.set()
    assert await first
    assert await second == 0
    assert bench.running() == ALL


async def test_down_during_up_waits_and_takes_all_of_it_down(bench: Bench) -> None:
    gate, first = await held(bench)
    said: list[str] = []
    second = asyncio.ensure_future(change(bench, "down", said))
    await until(lambda: bool(said))
    gate.set()
    await first
    assert await second
    assert bench.world.machines == {}
    assert bench.home.labs() == []


async def test_up_during_down_waits_and_makes_the_lab_anew(bench: Bench) -> None:
    await change(bench, "up", [])
    gate = bench.world.hold("remove:hv1")
    first = asyncio.ensure_future(change(bench, "down", []))
    await until(lambda: lock.holder(bench.home.lab("pair").lock) is not None)
    said: list[str] = []
    second = asyncio.ensure_future(change(bench, "up", said))
    await until(lambda: bool(said))
    gate.set()
    await first
    assert await second
    assert bench.running() == ALL


async def test_a_migration_during_up_waits_for_it_and_up_during_a_migration_leaves_the_machine_where_it_went(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.file.write_text(test_migration_killed.LAB)
    gate, first = await held(bench)
    test_migration_killed._use(monkeypatch, test_migration_killed.Moves(bench))
    second = asyncio.ensure_future(test_migration_killed._migrate(bench, "hv1/web", "hv2/web"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not second.done()
    third = asyncio.ensure_future(change(bench, "up", []))
    gate.set()
    await asyncio.gather(first, second, third)
    assert bench.running() == {*test_migration_killed.ALL, "hv2/web"}
    assert await change(bench, "up", []) == 0


class _MovesOfEach(test_migration_killed.Moves):
    """What moves several machines of a pretended world; `gate`: the first of them waits for it before it is moved."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.gate, self.order = asyncio.Event(), list[str]()

    async def mover(self, opened: Session, passage: Passage, say: Any) -> test_migration_killed.Performer:
        self.order.append(passage.source)
        if len(self.order) == 1:
            await self.gate.wait()
        return await test_migration_killed.Moves(self.bench).mover(opened, passage, say)


async def _migrate(bench: Bench, machine: str, target: str, said: list[str], wait: float | None = None) -> None:
    """As `nestlab migrate` does it: what may be moved is looked at once nobody else is at work."""
    async with session.changing(bench.site, "migrate", name="pair", wait=wait, say=said.append) as opened:
        [machine] = expand([machine], [spec.path for spec in opened.blueprint.specs], "pair")
        check_places(opened.blueprint, opened.observed, machine, target)
        passage = Passage(machine, arrival(machine, target), live=True, ran=True)
        await migrations.go(opened, passage, lambda _: None)
        await opened.look()


@pytest.fixture
async def moves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> _MovesOfEach:
    bench.file.write_text(test_migration_killed.LAB)
    await change(bench, "up", [])
    found = _MovesOfEach(bench)
    test_migration_killed._use(monkeypatch, found)
    return found


async def test_of_two_migrations_of_one_machine_one_is_done_and_the_other_is_told_where_it_is(
    bench: Bench, moves: _MovesOfEach
) -> None:
    said: list[str] = []
    first = asyncio.ensure_future(_migrate(bench, "hv1/web", "hv2", []))
    await until(lambda: moves.order == ["hv1/web"])
    second = asyncio.ensure_future(_migrate(bench, "hv1/web", "hv2", said))
    await until(lambda: bool(said))
    assert said[0].startswith("waiting for `nestlab migrate` (process ")
    with pytest.raises(Busy):
        await _migrate(bench, "hv1/web", "hv2", [], wait=0)
    moves.gate.set()
    await first
    with pytest.raises(LabError, match="Lab pair has no machine hv1/web") as told:
        await second
    assert told.value.hint == "Did you mean hv2/web?"
    assert moves.order == ["hv1/web"]
    assert bench.running() == {*test_migration_killed.ALL, "hv2/web"}
    assert await change(bench, "up", []) == 0


async def test_two_machines_that_change_places_at_once_are_moved_one_after_the_other(
    bench: Bench, moves: _MovesOfEach
) -> None:
    first = asyncio.ensure_future(_migrate(bench, "hv1/web", "hv2", []))
    await until(lambda: moves.order == ["hv1/web"])
    said: list[str] = []
    second = asyncio.ensure_future(_migrate(bench, "hv2/other", "hv1", said))
    await until(lambda: bool(said))
    assert moves.order == ["hv1/web"]
    moves.gate.set()
    await asyncio.gather(first, second)
    assert moves.order == ["hv1/web", "hv2/other"]
    assert bench.running() == {"hv1", "hv2", "hv2/web", "hv1/other"}
    kept = moved_machines.load(bench.home.existing("pair"))
    assert {(each.home, each.path) for each in kept.aways} == {("hv1/web", "hv2/web"), ("hv2/other", "hv1/other")}
    assert kept.passages == ()
    assert await change(bench, "up", []) == 0


async def test_who_does_not_wait_is_told_who_is_at_work_and_changes_nothing(bench: Bench) -> None:
    gate, first = await held(bench)
    before = dict(bench.world.machines)
    for verb in ("up", "down"):
        with pytest.raises(Busy, match=r"`nestlab up` \(process .*\) is at work on lab pair") as busy:
            await change(bench, verb, [], wait=0)
        assert busy.value.hint
    assert bench.world.machines == before
    gate.set()
    await first


async def test_status_during_up_waits_for_nobody_and_sees_what_is_there(bench: Bench) -> None:
    gate, first = await held(bench)
    async with session.looking(bench.site, name="pair") as opened:
        seen = (await opened.look()).machines
    assert "hv2" in seen
    assert not first.done()
    gate.set()
    await first


async def test_gc_during_up_leaves_the_lab_and_what_it_writes_alone(bench: Bench) -> None:
    gate, first = await held(bench)
    assert [each.what for each in leftovers.find(bench.home) if each.path is not None] == []
    gate.set()
    assert await first
    assert bench.running() == ALL


async def test_a_second_doctor_is_told_that_one_is_at_work_and_changes_nothing(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host")
    (root.root / "etc").mkdir()
    root.load("nested=0")
    before = root.tree()
    async with root.surgeon().hands.alone():
        for attempt in (fix, undo):
            with pytest.raises(Busy, match="Another `nestlab doctor` is changing this host") as busy:
                await attempt(root)
            assert "run the same command again" in busy.value.hint
        assert root.tree() == before
    await fix(root)
    assert root.parameter("kvm_amd.nested") == "1"
    await undo(root)
    assert root.parameter("kvm_amd.nested") == "0"


async def test_of_two_doctors_at_once_each_is_done_or_told(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host")
    (root.root / "etc").mkdir()
    root.load("nested=0")
    done = await asyncio.gather(*(fix(root) for _ in range(4)), return_exceptions=True)
    assert any(not isinstance(each, BaseException) for each in done)
    assert all(isinstance(each, Busy) for each in done if isinstance(each, BaseException))
    assert root.parameter("kvm_amd.nested") == "1"
    await undo(root)
    assert root.parameter("kvm_amd.nested") == "0"
