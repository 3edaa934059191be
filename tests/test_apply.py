from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor, look, pair
from nestlab.base.events import Began, Ended, Event, Failed, Finished, Said, Started
from nestlab.hosts.facts import Facts
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.planner import plan
from nestlab.plan.steps import Observed, Plan, Remove
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs.apply import Interrupted, Stopping, Unfinished, apply
from nestlab.verbs.nest import Nest


def nest_of(world: FakeWorld, blueprint: Blueprint) -> Nest:
    return Nest(blueprint, world.host(), world.engine, {"kvm": world.engine})


def ids(steps: Plan) -> list[str]:
    return [step.id for step in steps.steps]


async def settle() -> None:
    """Let every task run until it waits for something that does not come by itself."""
    for _ in range(200):
        await asyncio.sleep(0)


def crowd(count: int) -> Blueprint:
    return draft("crowd", *(guest(f"m{number}", on=[]) for number in range(count)))


async def test_steps_run_in_the_order_of_their_needs_and_tell_of_it() -> None:
    world, lab, events = FakeWorld(), pair(), list[Event]()
    steps = plan(lab, Observed())
    async with nest_of(world, lab) as nest:
        await apply(steps, lab, nest, events.append, clock=lambda: 7.0)
    done = [each for _, each in world.done]
    for step in steps.steps:
        assert all(done.index(need) < done.index(step.id) for need in step.needs)
    assert events[0] == Began(7.0, verb="up", lab="pair", steps=tuple(ids(steps)))
    assert isinstance(events[-1], Ended)
    assert events[-1].ok
    of_web = [each for each in events if each.step == "boot:hv1/web"]
    assert of_web[0] == Started(7.0, "boot:hv1/web", "hv1/web", "not there yet")
    assert [each.text for each in of_web if isinstance(each, Said)] == ["preparing", "waiting"]
    assert isinstance(of_web[-1], Finished)
    assert not plan(lab, look(world, lab))


async def test_what_is_to_be_known_of_a_step_goes_with_its_end() -> None:
    world, lab, events = FakeWorld(), crowd(1), list[Event]()

    class Noting(Nest):
        async def perform(self, *args: Any) -> str | None:
            await super().perform(*args)
            return "ended by force"

    async with Noting(lab, world.host(), world.engine, {}) as nest:
        await apply(plan(lab, Observed()), lab, nest, events.append)
    assert {each.note for each in events if isinstance(each, Finished)} == {"ended by force"}


async def test_an_empty_plan_is_told_as_well() -> None:
    world, events = FakeWorld(), list[Event]()
    async with nest_of(world, Blueprint("lab")) as nest:
        await apply(Plan("lab"), Blueprint("lab"), nest, events.append)
    assert [each.kind for each in events] == ["began", "ended"]


async def test_independent_machines_boot_at_the_same_time() -> None:
    world, lab, events = FakeWorld(Facts(cpus=2)), crowd(2), list[Event]()
    gates = [world.hold("boot:m0"), world.hold("boot:m1")]
    async with nest_of(world, lab) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append))
        await settle()
        assert {each.step for each in events if isinstance(each, Started)} >= {"boot:m0", "boot:m1"}
        for gate in gates:
            gate.set()
        await run


@pytest.mark.parametrize(
    ("cpus", "limit", "expected"), [(4, None, 6), (2, None, 3), (1, None, 2), (4, 3, 3), (4, 1, 1)]
)
async def test_half_as_many_more_as_the_host_has_cpus_boot_at_once(cpus: int, limit: int | None, expected: int) -> None:
    world, lab, events = FakeWorld(Facts(cpus=cpus)), crowd(10), list[Event]()
    gates = [world.hold(f"boot:m{number}") for number in range(10)]
    async with nest_of(world, lab) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append, limit=limit))
        await settle()
        boots = [each for each in events if isinstance(each, Started) and each.step.startswith("boot:")]
        assert len(boots) == expected
        for gate in gates:
            gate.set()
        await run


async def test_inside_a_hypervisor_its_own_cpus_are_the_limit() -> None:
    lab = draft("lab", hypervisor("hv1", guest("a"), guest("b")), hypervisor("hv2", guest("a"), guest("b"), cpus=2))
    world, events = FakeWorld(), list[Event]()
    inner = [spec.path for spec in lab.specs if spec.parent]
    gates = [world.hold(f"boot:{path}") for path in inner]
    async with nest_of(world, lab) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append))
        await settle()
        boots = [each.path for each in events if isinstance(each, Started) and each.step.startswith("boot:")]
        assert sorted(path for path in boots if "/" in path) == ["hv1/a", "hv2/a", "hv2/b"]
        for gate in gates:
            gate.set()
        await run


async def test_a_failure_keeps_back_only_what_needs_it() -> None:
    world, lab, events = FakeWorld(), pair(), list[Event]()
    world.refuse("boot:hv1")
    async with nest_of(world, lab) as nest:
        with pytest.raises(Unfinished) as caught:
            await apply(plan(lab, Observed()), lab, nest, events.append)
    assert look(world, lab).machines["hv2/web"].state == "running"
    assert list(caught.value.failures) == ["boot:hv1"]
    assert caught.value.left == ("boot:hv1", "create:hv1/web", "boot:hv1/web")
    assert caught.value.what == (
        "boot hv1 failed: The fake world refuses boot:hv1.\nNot done because of that: create hv1/web, boot hv1/web."
    )
    assert "`nestlab up` again goes on from here: 8 of 11 steps are done." in caught.value.hint
    assert isinstance(events[-1], Ended)
    assert (events[-1].ok, events[-1].left) == (False, caught.value.left)
    assert [each.step for each in events if isinstance(each, Failed)] == ["boot:hv1"]


async def test_all_failures_are_told_in_one_error() -> None:
    world, lab = FakeWorld(), pair()
    world.refuse("boot:hv1")
    world.refuse("create:hv2")
    async with nest_of(world, lab) as nest:
        with pytest.raises(Unfinished) as caught:
            await apply(plan(lab, Observed()), lab, nest, lambda _: None)
    assert set(caught.value.failures) == {"boot:hv1", "create:hv2"}
    assert caught.value.what.count("failed:") == 2
    assert caught.value.hint.count("Try again.") == 1


async def test_what_was_refused_is_resumed() -> None:
    world, lab = FakeWorld(), pair()
    world.refuse("create:hv1/web", times=2)
    async with nest_of(world, lab) as nest:
        for _ in range(2):
            with pytest.raises(Unfinished):
                await apply(plan(lab, await nest.observe()), lab, nest, lambda _: None)
        await apply(plan(lab, await nest.observe()), lab, nest, lambda _: None)
        assert not plan(lab, await nest.observe())


async def test_ctrl_c_cancels_what_runs_and_says_what_is_left() -> None:
    world, lab, events, stopping = FakeWorld(), pair(), list[Event](), Stopping()
    world.hold("boot:hv1")
    async with nest_of(world, lab) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append, stopping=stopping))
        await settle()
        stopping.press()
        with pytest.raises(Interrupted) as caught:
            await run
        assert caught.value.left == ("boot:hv1", "create:hv1/web", "boot:hv1/web")
        assert caught.value.what.startswith("Interrupted. Done: connect segment wire, build image kvm, ")
        assert caught.value.what.endswith("Left: boot hv1, create hv1/web, boot hv1/web.")
        assert "goes on from here" in caught.value.hint
        failed = [each for each in events if isinstance(each, Failed)]
        assert [(each.step, each.what) for each in failed] == [("boot:hv1", "interrupted")]
        world._holds.clear()
        await apply(plan(lab, await nest.observe()), lab, nest, events.append)
        assert not plan(lab, await nest.observe())
    assert world.open == 0


async def test_ctrl_c_twice_waits_for_nothing() -> None:
    world, lab, stopping = FakeWorld(), crowd(1), Stopping()
    release = asyncio.Event()

    class Stubborn(Nest):
        async def perform(self, *args: object) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await release.wait()

    async with Stubborn(lab, world.host(), world.engine, {}) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, lambda _: None, stopping=stopping))
        await settle()
        stopping.press()
        await settle()
        assert not run.done()
        stopping.press()
        with pytest.raises(Interrupted):
            await run
        release.set()
        await settle()


async def test_after_ctrl_c_nothing_further_starts_though_a_step_comes_to_its_end() -> None:
    world, lab, stopping, events = FakeWorld(), crowd(1), Stopping(), list[Event]()

    class Diligent(Nest):
        async def perform(self, *args: object) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async with Diligent(lab, world.host(), world.engine, {}) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append, stopping=stopping))
        await settle()
        stopping.press()
        with pytest.raises(Interrupted) as caught:
            await run
    assert caught.value.left == ("create:m0", "boot:m0"), "the build came to its end"
    assert [each.step.split(":")[0] for each in events if isinstance(each, Started)] == ["build"]


async def test_cancelling_the_run_cancels_its_steps() -> None:
    world, lab, events = FakeWorld(), crowd(1), list[Event]()
    world.hold("boot:m0")
    async with nest_of(world, lab) as nest:
        run = asyncio.create_task(apply(plan(lab, Observed()), lab, nest, events.append))
        await settle()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert isinstance(events[-1], Ended)
    assert events[-1].left == ("boot:m0",)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("boot:")] == []


async def test_a_bug_in_a_step_ends_the_run_as_what_it_is() -> None:
    world, lab, events = FakeWorld(), crowd(3), list[Event]()

    class Buggy(Nest):
        async def perform(self, *args: object) -> None:
            raise ZeroDivisionError("a bug")

    async with Buggy(lab, world.host(), world.engine, {}) as nest:
        with pytest.raises(ZeroDivisionError):
            await apply(plan(lab, Observed()), lab, nest, events.append)
    assert isinstance(events[-1], Ended)
    assert not events[-1].ok


async def test_what_is_already_gone_may_be_removed_again() -> None:
    world = FakeWorld()
    async with nest_of(world, Blueprint("lab")) as nest:
        await apply(Plan("lab", (Remove("", "web"),)), Blueprint("lab"), nest, lambda _: None)


SCRIPT = """
    import asyncio, signal, sys
    from blueprints import pair
    from nestlab.verbs.apply import Interrupted, Stopping, apply
    from nestlab.testing.fake_engine import FakeWorld
    from nestlab.base.events import Said
    from nestlab.home.journal import start
    from nestlab.verbs.nest import Nest
    from nestlab.plan.steps import Observed
    from nestlab.plan.planner import plan
    from pathlib import Path

    async def main() -> None:
        signal.alarm(60)  # whatever happens to the test, this process does not stay
        world, lab, stopping = FakeWorld(), pair(), Stopping()
        world.hold("boot:hv1")
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopping.press)
        with start(Path(sys.argv[1]), "up") as journal:
            def emit(event):
                journal.write(event)
                if isinstance(event, Said) and event.text == "held":
                    print("held", flush=True)
            async with Nest(lab, world.host(), world.engine, {"kvm": world.engine}) as nest:
                try:
                    await apply(plan(lab, Observed()), lab, nest, emit, stopping=stopping)
                except Interrupted as error:
                    print(error.what, flush=True)

    asyncio.run(main())
"""


@pytest.fixture
def held_run(tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """A nestlab of its own at work on a boot that does not come to an end."""

    def start() -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        argv = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return start


def test_a_real_ctrl_c_ends_cleanly(held_run: Callable[[], subprocess.Popen[str]]) -> None:
    with held_run() as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "Left: boot hv1" in process.stdout.read()
    assert process.returncode == 0


def test_the_journal_survives_kill_9(held_run: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    from nestlab.home.journal import read, runs

    with held_run() as process:
        process.kill()
    (run,) = runs(tmp_path)
    events = list(read(run.path))
    assert isinstance(events[0], Began)
    assert ("boot:hv1", "held") in [(each.step, each.text) for each in events if isinstance(each, Said)]
    assert not any(isinstance(each, Ended) for each in events)
