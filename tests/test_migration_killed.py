"""A migration in a whole lab, on a pretended world: nestlab is killed at every request of it, and the next `up`,
`migrate` or `down` gets there."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu.migration_requests import Journey, Keep, Request, Sockets
from nestlab.home import faults as kept_faults
from nestlab.home import moved_machines as kept
from nestlab.lab import blueprint_file
from nestlab.lab.faults import Fault
from nestlab.lab.moved_machines import Away, Passage
from nestlab.testing.fake_machine import FakeMachine
from nestlab.verbs import migrations, moving, place_kept, session
from nestlab.verbs.session import Session
from test_session import Bench
from two_qemus import Killed, Pair

LAB = """
lab: pair
segments: {wire: }
machines:
  hv1:
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      web: {image: tiny, memory: 128M, segments: [wire]}
  hv2:
    hypervisor: kvm
    memory: 1G
    segments: [wire]
    machines:
      other: {image: tiny, memory: 128M, segments: [wire]}
"""

ALL = {"hv1", "hv2", "hv2/other"}
STATES = {"running": "running", None: "died"}


class Moves:
    """What moves machines of a pretended world. `kill_at`: the request at which nestlab is killed, once."""

    def __init__(self, bench: Bench, kill_at: int = -1) -> None:
        self.bench, self.kill_at, self.count = bench, kill_at, 0
        self.pair = Pair(0)
        self.made: FakeMachine | None = None

    async def mover(self, opened: Session, passage: Passage, say: Any) -> Performer:
        machines = self.bench.world.machines
        self.made = self.made or machines["pair", passage.source]
        self.pair.joined &= bool(self.pair.phase)
        _, after = migrations._blueprints(opened, passage)
        return Performer(self, opened, passage, after)


class Performer:
    def __init__(self, moves: Moves, opened: Session, passage: Passage, after: Any) -> None:
        self.moves, self.opened, self.passage, self.after = moves, opened, passage, after

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def perform(self, dialogue: Generator[Request, Any, Any]) -> Any:
        answer: Any = None
        failed: Exception | None = None
        while True:
            try:
                request = dialogue.throw(failed) if failed else dialogue.send(answer)
            except StopIteration as end:
                return end.value
            answer, failed = None, None
            try:
                answer = self.moves.pair.answer(request)
                if isinstance(request, Keep):
                    migrations._keep(self.opened, self.passage, request, self.after)
            except LabError as error:
                failed = error
            self._show()
            self.moves.count += 1
            if self.moves.count == self.moves.kill_at:
                self.moves.pair.lose()
                self._show()
                raise Killed

    def _show(self) -> None:
        """The world as the two QEMUs are."""
        machines, made = self.moves.bench.world.machines, self.moves.made
        assert made is not None
        sides = ((self.passage.source, self.moves.pair.source), (self.passage.target, self.moves.pair.target))
        for path, qemu in sides:
            machines.pop(("pair", path), None)
            if qemu.there:
                state: Any = STATES.get(qemu.state, "paused")
                machines["pair", path] = FakeMachine(
                    made.digest, made.names, root=made.root, disk=made.disk, state=state
                )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.file.write_text(LAB)
    return bench


def _use(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> Moves:
    async def mover(opened: Session, passage: Passage, say: Any) -> Performer:
        return await moves.mover(opened, passage, say)

    def journey(opened: Session, performer: Performer, passage: Passage) -> Journey:
        return Journey(passage.source, Sockets("a", "b"), Sockets("c", "d"), (), passage.ran)

    monkeypatch.setattr(migrations, "_mover", mover)
    monkeypatch.setattr(migrations, "_journey", journey)
    return moves


async def _migrate(bench: Bench, source: str, target: str) -> None:
    async with session.changing(bench.site, "migrate", name="pair") as opened:
        await migrations.go(opened, Passage(source, target, live=True, ran=True), lambda _: None)
        await opened.look()


def _moves(bench: Bench) -> kept.Moves:
    return kept.load(bench.home.existing("pair"))


async def test_a_machine_that_was_moved_is_left_there_by_up_and_removed_there_by_down(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.up()
    place = bench.home.lab("pair")
    kept_faults.save(place, (Fault("cut", "hv1/web", "wire", 1.0),))
    before = blueprint_file.load(place.blueprint, "pair")
    _use(monkeypatch, Moves(bench))
    await _migrate(bench, "hv1/web", "hv2/web")
    [away] = _moves(bench).aways
    assert (away.born, away.home, away.path) == ("hv1/web", "hv1/web", "hv2/web")
    assert _moves(bench).passages == ()
    assert bench.running() == {*ALL, "hv2/web"}
    after = blueprint_file.load(place.blueprint, "pair")
    assert before is not None
    assert after is not None
    assert after["hv2/web"].nics == before["hv1/web"].nics
    assert [each.path for each in kept_faults.load(place)] == ["hv2/web"]
    assert not await bench.up()
    assert bench.running() == {*ALL, "hv2/web"}
    await bench.change("gone")
    assert not bench.world.machines


async def test_a_machine_that_is_taken_back_is_at_home(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.up()
    first = blueprint_file.load(bench.home.lab("pair").blueprint, "pair")
    _use(monkeypatch, Moves(bench))
    await _migrate(bench, "hv1/web", "hv2/web")
    _use(monkeypatch, Moves(bench))
    await _migrate(bench, "hv2/web", "hv1/web")
    assert _moves(bench) == kept.NONE
    assert not await bench.up()
    last = blueprint_file.load(bench.home.lab("pair").blueprint, "pair")
    assert first is not None
    assert last is not None
    assert last.by_path() == first.by_path()


@pytest.mark.parametrize("then", ["up", "down", "migrate"])
async def test_nestlab_killed_at_every_request_the_next_command_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    for at in range(1, 100):
        (tmp_path / str(at)).mkdir()
        bench = Bench(tmp_path / str(at))
        bench.file.write_text(LAB)
        await bench.up()
        moves = _use(monkeypatch, Moves(bench, at))
        try:
            await _migrate(bench, "hv1/web", "hv2/web")
        except Killed:
            pass
        else:
            assert at > 10
            return
        if then == "down":
            await bench.change("gone")
            assert not bench.world.machines
            continue
        await bench.up()
        assert _moves(bench).passages == ()
        [web] = [path for path in bench.running() if path.endswith("/web")]
        assert bench.running() == {*ALL, web}
        assert {path for _, path in bench.world.machines} == {*ALL, web}
        assert [each.path for each in _moves(bench).aways] == (["hv2/web"] if web == "hv2/web" else [])
        assert not moves.pair.both
        if then == "migrate" and web == "hv1/web":
            _use(monkeypatch, Moves(bench))
            await _migrate(bench, "hv1/web", "hv2/web")
            assert bench.running() == {*ALL, "hv2/web"}


async def test_a_lab_file_that_has_it_in_its_new_place_is_its_home(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.up()
    before = blueprint_file.load(bench.home.lab("pair").blueprint, "pair")
    _use(monkeypatch, Moves(bench))
    await _migrate(bench, "hv1/web", "hv2/web")
    line = "      web: {image: tiny, memory: 128M, segments: [wire]}\n"
    bench.file.write_text(LAB.replace(f"    machines:\n{line}", "") + line)
    async with session.changing(bench.site, "up", **_read(bench)) as opened:
        assert [(each.path, each.at_home) for each in opened.moves.aways] == [("hv2/web", True)]
        assert before is not None
        assert opened.blueprint["hv2/web"].nics == before["hv1/web"].nics
        assert "hv2/web" not in {step.path for step in opened.plan().steps if step.verb in ("remove", "create")}


def _read(bench: Bench) -> dict[str, Any]:
    lab, source = session.read(bench.file, {}, ())
    return {"lab": lab, "source": source}


def test_what_is_kept_of_moves_is_read_as_what_it_is(bench: Bench) -> None:
    place = bench.home.lab("pair")
    place.root.mkdir(parents=True, exist_ok=True)
    moves = kept.Moves((Away("hv1/web", "hv1/web", "hv2/web", 5.0),), (Passage("hv1/db", "hv2/db", "failed", True),))
    kept.save(place, moves)
    assert kept.load(place) == moves
    for text in ("[]", '{"away": [1]}', '{"away": [{"born": "../x", "home": "a", "path": "b"}]}', "{"):
        (place.root / kept.FILE).write_text(text)
        with pytest.raises(LabError, match="cannot be read"):
            kept.load(place)


async def test_an_engine_that_moves_nothing_is_told(bench: Bench) -> None:
    await bench.up()
    async with session.changing(bench.site, "migrate", name="pair") as opened:
        ruling = await moving.look(opened, "hv1/web", "hv2")
        assert ruling.refused is not None
        assert "nestlab does not move machines that hv1 runs" in ruling.refused.what
        with pytest.raises(LabError, match="does not move machines"):
            await moving.go(opened, ruling, lambda _: None)
    assert bench.running() == {*ALL, "hv1/web"}
    assert _moves(bench) == kept.NONE


async def test_its_new_place_is_written_into_the_lab_file_and_up_has_nothing_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.up()
    _use(monkeypatch, Moves(bench))
    async with session.changing(bench.site, "migrate", name="pair") as opened:
        change = place_kept.change_of(opened, "hv1/web", "hv2", {})
        assert change is not None
        await migrations.go(opened, Passage("hv1/web", "hv2/web", live=True, ran=True, keep=True), lambda _: None)
        assert change.perform() == ""
        await opened.look()
        assert place_kept.change_of(opened, "hv2/web", "hv2", {}) is None
    assert [(each.home, each.born) for each in _moves(bench).aways] == [("hv2/web", "hv1/web")]
    todo = await bench.up()
    assert not {step.path for step in todo.steps} & {"hv2/web", "hv1/web"} or all(
        step.verb == "introduce" for step in todo.steps if step.path == "hv2/web"
    )
    assert bench.running() == {*ALL, "hv2/web"}


async def test_lines_that_others_share_are_not_moved(bench: Bench) -> None:
    bench.file.write_text(LAB.replace("hv1:\n", "hv1: &node\n") + "  hv3: *node\n")
    await bench.up()
    async with session.changing(bench.site, "migrate", name="pair") as opened:
        with pytest.raises(LabError, match="cannot simply be moved"):
            place_kept.change_of(opened, "hv1/web", "hv2", {})
