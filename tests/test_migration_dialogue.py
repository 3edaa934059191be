"""The live migration of a machine as a dialogue, on two pretended QEMUs: whatever is lost at whichever request, one of
them runs, it has the whole disk, and nothing is left of the other."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator
from typing import Any

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu.live_migration import cold, live
from nestlab.engines.qemu.migration_ends import resume
from nestlab.engines.qemu.migration_requests import Act, Ask, Await, Disk, Journey, Look, Sockets
from two_qemus import Killed, Pair, perform

MOST = 200
"""Requests of the longest dialogue."""


def _journey(disks: int = 1) -> Journey:
    sockets = Sockets("/here/moves", "/here/moves-nbd"), Sockets("/there/moves", "/there/moves-nbd")
    return Journey("hv1/web", *sockets, tuple(Disk(f"d{number}") for number in range(disks)))


def _job(device: str = "moves-d0") -> dict[str, Any]:
    return {"device": device, "len": 10, "offset": 10, "ready": True}


def _resume(pair: Pair, disks: int = 1, *, live: bool = True) -> None:
    """As the next nestlab does."""
    if pair.phase is not None:
        perform(pair, resume(_journey(disks), pair.phase, live=live))


def _settled(pair: Pair) -> None:
    """Exactly one runs, with all that it wrote, and nothing is left of the other."""
    assert not pair.both
    assert pair.phase is None
    [there] = [each for each in (pair.source, pair.target) if each.there]
    assert there.state == "running"
    assert there.disk >= 7
    other = pair.target if there is pair.source else pair.source
    assert (other.state, other.disk) == (None, 0)
    assert not pair.jobs


@pytest.mark.parametrize("disks", [0, 1, 3])
@pytest.mark.parametrize("events", [True, False])
def test_a_machine_moves_and_its_original_goes_last(disks: int, events: bool) -> None:
    pair = Pair(disks, events=events)
    perform(pair, live(_journey(disks)))
    _settled(pair)
    assert pair.target.there
    assert pair.kept == ["begun", "moved", "moved", None]
    assert pair.asked.index("cont") < pair.asked.index("end source")
    assert "announce-self" in pair.asked


@pytest.mark.parametrize("disks", [0, 1])
@pytest.mark.parametrize("completes", [False, True])
@pytest.mark.parametrize("done", [False, True])
def test_nestlab_killed_at_any_request_one_machine_runs_and_no_disk_is_lost(
    disks: int, completes: bool, done: bool
) -> None:
    for at in itertools.count():
        pair = Pair(disks, completes=completes)
        try:
            perform(pair, live(_journey(disks)), killed_at=at, done=done)
        except Killed:
            pair.lose()
            _resume(pair, disks)
            if at or done:
                _settled(pair)
            continue
        assert 10 < at < MOST
        return


@pytest.mark.parametrize("done", [False, True])
def test_killed_again_while_it_ends_what_was_killed_it_gets_there(done: bool) -> None:
    for at, then in itertools.product(range(40), range(30)):
        pair = Pair()
        with pytest.raises(Killed):
            perform(pair, live(_journey()), killed_at=min(at, 24), done=True)
        pair.lose()
        if pair.phase is None:
            continue
        try:
            perform(pair, resume(_journey(), pair.phase, live=True), killed_at=then, done=done)
        except Killed:
            pair.lose()
            _resume(pair)
        _settled(pair)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_hypervisor_that_goes_down_at_any_request_takes_no_disk_with_it(side: str) -> None:
    for at in range(MOST):
        pair = Pair()
        length = [0]

        def down(count: int, pair: Pair = pair, at: int = at, length: list[int] = length) -> None:
            length[0] = count
            if count == at:
                pair.fail(side)  # type: ignore[arg-type]

        with contextlib.suppress(LabError):
            perform(pair, live(_journey()), before=down)
        _resume(pair)
        assert not pair.both
        whole = [each for each in (pair.source, pair.target) if each.there and each.disk >= 7]
        assert whole, f"at request {at} the disk is lost"
        assert [each for each in (pair.source, pair.target) if each.there] == whole[:1] or pair.phase is not None
        if at > length[0]:
            return


@pytest.mark.parametrize(
    "refuses",
    ["receive", "join", "migrate", "migrate-incoming", "blockdev-mirror", "nbd-server-start", "block-export-add"],
)
def test_what_a_qemu_refuses_is_told_and_the_machine_goes_on_where_it_was(refuses: str) -> None:
    pair = Pair(refuses=refuses)
    with pytest.raises(LabError, match=refuses):
        perform(pair, live(_journey()))
    _settled(pair)
    assert pair.source.there


def test_qemus_of_two_versions_exchange_nothing() -> None:
    pair = Pair()
    pair.target.version = 9
    with pytest.raises(LabError, match=r"10\.0\.0, and the other one 9\.0\.0"):
        perform(pair, live(_journey()))
    _settled(pair)
    assert "migrate" not in pair.asked


def test_where_a_hypervisor_cannot_be_asked_nothing_is_decided() -> None:
    pair = Pair()
    with pytest.raises(Killed):
        perform(pair, live(_journey()), killed_at=3)
    pair.lose()
    pair.source.reached = False
    _resume(pair)
    assert (pair.phase, pair.source.there, pair.target.there) == ("begun", True, True)
    pair.source.reached = True
    _resume(pair)
    _settled(pair)


def test_what_cannot_be_deleted_now_stays_written_down_and_is_deleted_later() -> None:
    pair = Pair()

    def gone(count: int) -> None:
        pair.source.reached &= pair.target.state != "running"

    perform(pair, live(_journey()), before=gone)
    assert (pair.phase, pair.source.there, pair.target.state) == ("moved", True, "running")
    pair.source.reached = True
    _resume(pair)
    _settled(pair)


def test_a_machine_that_is_off_is_copied_and_the_original_goes_last() -> None:
    pair = Pair()
    pair.source.state = None
    perform(pair, cold("hv1/web", ran=False))
    assert (pair.source.there, pair.target.there, pair.target.disk, pair.phase) == (False, True, 7, None)
    assert pair.asked == ["make target", "carry target", "end source"]


@pytest.mark.parametrize("done", [False, True])
def test_killed_at_any_request_a_machine_that_is_stopped_for_it_keeps_its_disk(done: bool) -> None:
    for at in itertools.count():
        pair = Pair()
        try:
            perform(pair, cold("hv1/web", ran=True), killed_at=at, done=done)
        except Killed:
            _resume(pair, live=False)
            [there] = [each for each in (pair.source, pair.target) if each.there]
            assert (there.disk >= 7, pair.phase) == (True, None)
            continue
        assert at < MOST
        _settled(pair)
        return


def test_one_that_cannot_be_copied_is_started_where_it_was() -> None:
    pair = Pair(refuses="carry")
    with pytest.raises(LabError, match="carry"):
        perform(pair, cold("hv1/web", ran=True))
    _settled(pair)
    assert pair.source.there


# -- root of a hypervisor decides what the QEMUs in it say ------------------------------------------------------------

LIES: dict[str, dict[str, Any]] = {
    "it migrates for ever": {"query-migrate": {"status": "active", "ram": {}}},
    "it is about to stop for ever": {"query-migrate": {"status": "pre-switchover"}},
    "it says nothing of it": {"query-migrate": {}},
    "its mirrors never end": {"query-migrate": {"status": "pre-switchover"}, "query-block-jobs": [_job()] * 3},
    "its mirrors never come": {"query-block-jobs": []},
    "a thousand mirrors": {"query-block-jobs": [_job(f"moves-{number}") for number in range(1000)]},
}


def _ends(dialogue: Generator[Any, Any, Any], lies: dict[str, Any], event: str | None) -> object:
    """What comes of a dialogue whose source answers so, whatever was done before."""
    honest: dict[str, Any] = {
        "query-version": {"qemu": {"major": 10, "minor": 0, "micro": 2}},
        "query-pci": [],
        "query-block": [],
    }
    honest |= {"query-block-jobs": [_job()], "query-migrate": {"status": "completed"}}
    answer: Any = None
    for _ in range(20_000):
        try:
            request = dialogue.send(answer)
        except StopIteration as end:
            return end.value
        except LabError as error:
            return error
        match request:
            case Ask(_, commands):
                answer = [{**honest, **lies}.get(name, {}) for name, _ in commands]
            case Await():
                answer = event
            case Look(side):
                answer = "running" if side == "source" else "inmigrate"
            case Act() | _:
                answer = None
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize("event", [None, "active", "pre-switchover"])
@pytest.mark.parametrize("lies", LIES.values(), ids=list(LIES))
def test_a_source_that_lies_keeps_nobody_waiting_for_ever(lies: dict[str, Any], event: str | None) -> None:
    journey = Journey("hv1/web", Sockets("/a", "/b"), Sockets("/c", "/d"), (Disk("d0", is_node=True),))
    _ends(live(journey), lies, event)
    for phase in ("begun", "failed", "moved"):
        _ends(resume(journey, phase, live=True), lies, event)
