"""Power cuts, links that are off, bad links and wrong clocks, made by the user: kept, told, settled and healed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.proofs import Proof, Verdict
from nestlab.home import faults as kept
from nestlab.hosts.host import Result
from nestlab.lab import faults as sayings
from nestlab.lab.faults import Fault, Impairment, impairment, shift, with_fault, without
from nestlab.plan.faults import blamed
from nestlab.plan.steps import Boot, Plan
from nestlab.show import machine_table
from nestlab.verbs import faults, session
from nestlab.verbs.nest import Nest
from test_session import Bench, quiet


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def _up(bench: Bench, *machines: str) -> Plan:
    """As `nestlab up` does."""
    lab, source = session.read(bench.file, {}, ())
    async with session.changing(bench.site, "up", lab=lab, source=source) as opened:
        todo = opened.plan("running", machines, leave=faults.left_down(opened, machines))
        await opened.apply(todo, quiet)
        await opened.look()
        await faults.settle(opened)
    return todo


async def _heal(bench: Bench, *words: str) -> None:
    async with session.changing(bench.site, "heal", name="pair") as opened:
        chosen, machines, segments = faults.selected(opened, words)
        await faults.join(opened, machines, segments)
        await faults.heal(opened, chosen, lambda todo: opened.apply(todo, quiet, verb="heal"), lambda _: None)


async def _kill(bench: Bench, *paths: str) -> None:
    async with session.changing(bench.site, "kill", name="pair") as opened:
        await faults.kill(opened, paths)


async def _cut(bench: Bench, path: str, segment: str) -> None:
    async with session.changing(bench.site, "cut", name="pair") as opened:
        await faults.cut(opened, path, segment)


def _kept(bench: Bench) -> set[tuple[str, str, str]]:
    return {each.key for each in kept.load(bench.home.existing("pair"))}


async def _state(bench: Bench, path: str) -> str:
    async with session.looking(bench.site, name="pair") as opened:
        return (await opened.look()).machines[path].state


async def test_what_was_killed_is_left_off_by_up_and_started_by_its_name(bench: Bench) -> None:
    await _up(bench)
    await _kill(bench, "hv1")
    assert await _state(bench, "hv1") == "killed"
    assert not await _up(bench)
    assert bench.running() == {"hv2", "hv2/web"}
    with pytest.raises(LabError, match="hv1/web is in hv1, which was killed"):
        await _up(bench, "hv1/web")
    todo = await _up(bench, "hv1")
    assert [step.why for step in todo.steps if isinstance(step, Boot) and step.machine == "hv1"] == ["it was killed"]
    assert (_kept(bench), len(bench.running())) == (set(), 4)


async def test_start_and_heal_start_what_was_killed(bench: Bench) -> None:
    await _up(bench)
    await _kill(bench, "hv1/web", "hv2")
    assert bench.running() == {"hv1"}
    await _heal(bench, "hv1/web")
    assert bench.running() == {"hv1", "hv1/web"}
    assert _kept(bench) == {("kill", "hv2", "")}
    await bench.change("running")
    async with session.changing(bench.site, "up", name="pair") as opened:
        await faults.settle(opened)
    assert (_kept(bench), len(bench.running())) == (set(), 4)


async def test_only_what_runs_is_killed_and_nothing_is_done_where_one_does_not(bench: Bench) -> None:
    await _up(bench)
    await bench.change("stopped", "hv1/web")
    with pytest.raises(LabError, match="hv1/web does not run: it is stopped"):
        await _kill(bench, "hv2", "hv1/web")
    assert "hv2" in bench.running()
    assert _kept(bench) == set()


async def test_a_cut_is_kept_until_it_is_healed_and_again_after_an_interruption(bench: Bench) -> None:
    await _up(bench)
    await _cut(bench, "hv1/web", "wire")
    assert bench.world.failing == {("hv1/web", "wire")}
    with pytest.raises(LabError, match="hv1/web is cut off wire already") as caught:
        await _cut(bench, "hv1/web", "wire")
    assert "nestlab heal hv1/web wire" in caught.value.hint
    bench.world.failing.clear()  # as if nestlab had been killed between keeping and doing it
    assert not await _up(bench)
    assert bench.world.failing == {("hv1/web", "wire")}
    await _heal(bench, "wire")
    assert (bench.world.failing, _kept(bench)) == (set(), set())


async def test_what_does_not_run_comes_up_cut(bench: Bench) -> None:
    await _up(bench)
    await bench.change("stopped")
    await _cut(bench, "hv1", "wire")
    assert bench.world.failing == set()
    await _up(bench)
    assert bench.world.failing == {("hv1", "wire")}


async def test_healing_a_link_that_is_not_on_record_puts_it_up_all_the_same(bench: Bench) -> None:
    await _up(bench)
    bench.world.failing.add(("hv1", "wire"))
    await _heal(bench, "hv1", "wire")
    assert bench.world.failing == set()


async def test_what_cannot_be_done_leaves_no_record(bench: Bench) -> None:
    await _up(bench)
    bench.world.silence("pair", "hv1")
    with pytest.raises(LabError):
        await _cut(bench, "hv1", "wire")
    assert _kept(bench) == set()


@pytest.mark.parametrize(
    ("path", "segment", "says"),
    [("hv1", "wir", "no segment wir.*Did you mean wire"), ("hv1", "lan", "has no segment lan.*Its segments: wire")],
)
async def test_a_segment_that_is_not_there_is_named(bench: Bench, path: str, segment: str, says: str) -> None:
    await _up(bench)
    with pytest.raises(LabError) as caught:
        await _cut(bench, path, segment)
    import re

    assert re.search(says, str(caught.value).replace("\n", " "))


async def test_healing_what_is_no_machine_and_no_segment_is_a_mistake(bench: Bench) -> None:
    await _up(bench)
    with pytest.raises(LabError, match="no machine and no segment wier"):
        await _heal(bench, "wier")


async def test_an_impaired_segment_is_kept_and_so_is_the_link_of_a_machine_inside(bench: Bench) -> None:
    await _up(bench)
    async with session.changing(bench.site, "impair", name="pair") as opened:
        await faults.impair(opened, "", "wire", Impairment(0.04))
        assert faults.within_bridges(opened, "wire") == ["hv1", "hv2"]
        await faults.impair(opened, "hv1/web", "wire", Impairment(0.04))
        with pytest.raises(LabError, match="no segment lan"):
            await faults.impair(opened, "", "lan", Impairment(0.04))
    assert bench.world.failing == {("", "impaired")}
    assert _kept(bench) == {("impair", "", "wire"), ("impair", "hv1/web", "wire")}
    await _heal(bench)
    assert _kept(bench) == set()


async def test_a_clock_is_set_ahead_of_this_one_and_right_again(bench: Bench) -> None:
    await _up(bench)
    asked: list[int] = []

    def answer(_: str, argv: Sequence[str]) -> Result | None:
        if "date -s" not in argv[2]:
            return None
        asked.append(int(argv[4]))
        return Result(tuple(argv), 0, f"{argv[4]}\n".encode(), b"")

    bench.world.answer = answer
    async with session.changing(bench.site, "clock", name="pair") as opened:
        _, off = await faults.clock(opened, "hv1", 3600)
    assert abs(off - 3600) < 60
    await _heal(bench, "hv1")
    assert abs(asked[0] - time.time() - 3600) < 300
    assert abs(asked[1] - time.time()) < 300
    assert _kept(bench) == set()


async def test_a_machine_that_the_lab_has_no_longer_takes_its_faults_along(bench: Bench) -> None:
    await _up(bench)
    await _cut(bench, "hv2/web", "wire")
    bench.file.write_text(bench.file.read_text().replace("  hv2: *hv\n", ""))
    await _up(bench)
    assert _kept(bench) == set()


async def test_a_damaged_record_is_named_and_not_taken_for_none(bench: Bench) -> None:
    await _up(bench)
    place = bench.home.lab("pair")
    for text in (
        "[",
        "{}",
        '[{"kind": "burn"}]',
        '[{"kind": "cut", "path": "../x"}]',
        '[{"kind": "cut", "since": "x"}]',
    ):
        (place.root / kept.FILE).write_text(text)
        with pytest.raises(LabError, match=r"faults\.json"):
            kept.load(place)


def test_a_proof_that_fails_names_what_was_done_on_purpose_and_others_do_not() -> None:
    done = (Fault("cut", "hv1", "wire", 100.0), Fault("kill", "hv2", since=100.0))
    failed = Proof("hv3", 1, "segment wire", False, "does not reach hv1 (IPv4); hv2 does not run")
    inner = Proof("hv2/web", 2, "reachable", False, "it is stopped", "`nestlab up` brings it up")
    other = Proof("hv3", 1, "cpu", False, "neither", "why")
    fine = Proof("hv3", 1, "segment lan", True, "reaches")
    verdict = blamed(Verdict("lab", (failed, inner, other, fine)), done, 160.0)
    assert "hv1 is cut off wire (for 1m 00s); `nestlab heal hv1 wire` takes it back" in verdict.proofs[0].why
    assert "hv2 was killed (1m 00s ago)" in verdict.proofs[0].why
    assert verdict.proofs[1].why == "hv2 was killed (1m 00s ago); `nestlab heal hv2` takes it back"
    assert verdict.proofs[2:] == (other, fine)


def test_faults_are_shown_in_the_order_of_machines_and_as_data() -> None:
    done = (
        Fault("impair", "", "wire", 0, Impairment(0.04, 0.005, 0.01, 10_000_000)),
        Fault("clock", "b", shift=-5400),
        Fault("cut", "a", "wire"),
    )
    assert [line.partition(" (for")[0] for line in sayings.lines(done, 5)] == [
        "segment wire is impaired (delay 40ms ± 5ms, loss 1%, rate 10mbit)",
        "a is cut off wire",
        "the clock of b is 1h30m behind",
    ]
    assert machine_table.data("lab", [], done)["faults"][2]["segment"] == "wire"


def test_one_of_the_same_key_replaces_the_other() -> None:
    one, two = Fault("impair", "", "wire", 1, Impairment(1)), Fault("impair", "", "wire", 2, Impairment(2))
    assert with_fault((one,), two) == (two,)
    assert without((two, Fault("kill", "a")), [one]) == (Fault("kill", "a"),)


@pytest.mark.parametrize(("text", "seconds"), [("+1h", 3600), ("-90s", -90), ("+1d12h", 129600), ("-1m30s", -90)])
def test_how_far_a_clock_is_off(text: str, seconds: int) -> None:
    assert shift(text) == seconds


@pytest.mark.parametrize("text", ["1h", "+", "+h", "+1", "+0s", "+999999d", "++1h", "+1h ", "+1y"])
def test_what_is_no_shift_is_a_mistake(text: str) -> None:
    with pytest.raises(LabError, match=r"clock"):
        shift(text)


def test_what_a_link_is_impaired_by() -> None:
    assert impairment("40ms", "500us", "0.5%", "1.5mbit") == Impairment(0.04, 0.0005, 0.005, 1_500_000)
    assert impairment("", "", "100%", "") == Impairment(loss=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("", "", "", ""), "Nothing is said"),
        (("0ms", "", "0%", ""), "Nothing is said"),
        (("40", "", "", ""), "--delay 40"),
        (("2m", "", "", ""), "--delay 2m"),
        (("61s", "", "", ""), "--delay 61s"),
        (("10ms", "20ms", "", ""), "jitter is greater"),
        (("", "", "1", ""), "--loss 1"),
        (("", "", "101%", ""), "--loss 101%"),
        (("", "", "", "10"), "--rate 10"),
        (("", "", "", "1bit"), "--rate 1bit"),
        (("", "", "", "10mb"), "--rate 10mb"),
    ],
)
def test_what_impairs_nothing_is_a_mistake(words: tuple[str, str, str, str], says: str) -> None:
    with pytest.raises(LabError, match=says):
        impairment(*words)


async def test_what_cannot_be_seen_to_run_is_neither_cut_off_nor_said_to_be(bench: Bench) -> None:
    """Its hypervisor does not answer: it may run on with its link up, and who cuts it off relies on that."""
    await _up(bench)
    async with session.changing(bench.site, "cut", name="pair") as opened:
        machines = opened.observed.machines
        unseen = replace(machines["hv1/web"], state="unknown", why="hv1 did not answer within 12 s\x1b[2J")
        opened.observed = replace(opened.observed, machines={**machines, "hv1/web": unseen})
        refused = "Whether hv1/web runs cannot be told: hv1 did not answer within 12 s"
        with pytest.raises(LabError, match=refused) as told:
            await faults.cut(opened, "hv1/web", "wire")
        assert "\x1b" not in told.value.what
        with pytest.raises(LabError, match=refused):
            await faults.impair(opened, "hv1/web", "wire", Impairment(0.04))
    assert _kept(bench) == set()


async def test_a_machine_that_says_it_is_slow_is_waited_for_no_longer_than_others_that_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host stretches a nominal time by the slowness that it is believed, and nobody does so once more."""
    await _up(bench)
    given: list[float] = []

    class Slow:
        slowness = 100.0

        async def run(self, argv: Sequence[str], *, timeout: float, check: bool) -> Result:
            given.append(timeout)
            return Result(tuple(argv), 0, f"{round(time.time())}\n".encode(), b"")

    async def host(_: object, path: str) -> Slow:
        return Slow()

    async with session.changing(bench.site, "clock", name="pair") as opened:
        with monkeypatch.context() as patch:
            patch.setattr(Nest, "host", host)
            await faults.clock(opened, "hv1", 0)
    assert given == [faults.ANSWER]
