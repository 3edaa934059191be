from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from blueprints import draft, guest, hypervisor, look, pair
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines import Engine
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Observed, Remove, Seen, Stop
from nestlab.testing.fake_engine import FakeEngine, FakeWorld
from nestlab.verbs.nest import Aside, Nest

DEEP = draft("lab", hypervisor("a", hypervisor("b", hypervisor("c", guest("d")))))


def running(blueprint: Blueprint) -> FakeWorld:
    world = FakeWorld()
    for step in plan(blueprint, Observed()).steps:
        world.do(blueprint.lab, step, blueprint)
    return world


def nest_of(world: FakeWorld, blueprint: Blueprint, previous: Blueprint | None = None) -> Nest:
    return Nest(blueprint, world.host(), world.engine, {"kvm": world.engine}, previous=previous)


def quiet(_: str) -> None:
    """Nobody listens."""


async def test_a_machine_at_any_level_is_a_host() -> None:
    world = running(DEEP)
    async with nest_of(world, DEEP) as nest:
        host = await nest.host("a/b/c/d")
        assert (host.path, host.level) == ("a/b/c/d", 4)
        assert (await nest.host()).path == ""
        assert await nest.accel("a") == "tcg"
        assert await nest.accel("a/b") == "kvm"
    assert world.open == 0


async def test_all_levels_are_seen() -> None:
    world = running(DEEP)
    async with nest_of(world, DEEP) as nest:
        seen = await nest.observe()
    assert list(seen.machines) == ["a", "a/b", "a/b/c", "a/b/c/d"]
    assert seen == look(world, DEEP)


async def test_what_is_in_a_hypervisor_that_does_not_answer_is_unknown_and_the_rest_is_seen() -> None:
    world = running(pair())
    world.silence("pair", "hv1")
    async with nest_of(world, pair()) as nest:
        seen = (await nest.observe()).machines
    assert seen["hv1"].state == "running"
    assert seen["hv1/web"] == Seen("hv1/web", "unknown", why="hv1 does not answer.", remembered=True)
    assert seen["hv2/web"].state == "running"


async def test_what_is_in_a_stopped_hypervisor_is_unknown_at_every_depth() -> None:
    world = running(DEEP)
    world.do("lab", Stop("", "a"), DEEP)
    async with nest_of(world, DEEP) as nest:
        seen = (await nest.observe()).machines
    assert {path: (each.state, each.why) for path, each in seen.items() if path != "a"} == {
        "a/b": ("unknown", "a is stopped"),
        "a/b/c": ("unknown", "a is stopped"),
        "a/b/c/d": ("unknown", "a is stopped"),
    }


async def test_what_was_seen_in_a_hypervisor_that_is_stopped_now_is_known_to_be_on_its_disk() -> None:
    world = running(DEEP)
    async with nest_of(world, DEEP) as nest:
        await nest.observe()
        await nest.perform(Stop("", "a"), DEEP, lambda _: None)
        seen = await nest.observe()
        assert {each.state for each in seen.machines.values()} == {"stopped"}
        assert seen.machines["a/b/c/d"].why == "a/b/c is stopped"
        steps = [step.id for step in plan(DEEP, seen, previous=DEEP).steps if step.path]
        assert steps == ["boot:a", "boot:a/b", "boot:a/b/c", "boot:a/b/c/d"]
        world.do("lab", Boot("", "a"), DEEP)
        world.kill("lab", "a")
        seen = await nest.observe()
        steps = [step.id for step in plan(DEEP, seen, previous=DEEP).steps if step.path == "a/b"]
        assert steps == ["update:a/b", "boot:a/b"], "what was written last may be lost"
        await nest.perform(Remove("", "a"), DEEP, lambda _: None)
        assert nest.known == {}


async def test_machines_in_no_blueprint_are_seen_too() -> None:
    old = draft("lab", hypervisor("hv1", hypervisor("old", guest("web"))))
    world = running(old)
    empty = Blueprint("lab")
    async with nest_of(world, empty) as nest:
        assert list((await nest.observe()).machines) == ["hv1"]
    async with nest_of(world, empty, old) as nest:
        assert list((await nest.observe()).machines) == ["hv1", "hv1/old", "hv1/old/web"]


async def test_a_plain_guest_that_is_to_become_a_hypervisor_is_not_asked_for_machines() -> None:
    old, new = draft("lab", guest("hv1")), draft("lab", hypervisor("hv1", guest("web")))
    world = running(old)
    made: list[str] = []

    def inside(lab: str, parent: Host) -> Engine:
        made.append(parent.path)
        return world.engine(lab, parent)

    async with Nest(new, world.host(), world.engine, {"kvm": inside}, previous=old) as nest:
        assert list((await nest.observe()).machines) == ["hv1"]
    assert made == []


async def test_hosts_and_engines_are_made_once_however_many_ask() -> None:
    world = running(DEEP)
    async with nest_of(world, DEEP) as nest:
        hosts = await asyncio.gather(*(nest.host("a/b/c") for _ in range(20)))
        assert len({id(host) for host in hosts}) == 1
        assert world.open == 3 + 3, "engines on the host, in a and in a/b; hosts a, a/b and a/b/c"


async def test_connections_into_a_machine_end_before_it_is_stopped_or_booted() -> None:
    world = running(DEEP)
    async with nest_of(world, DEEP) as nest:
        before = await nest.host("a/b/c")
        await nest.perform(Stop("", "a/b"), DEEP, quiet)
        assert world.open == 2 + 2, "engines on the host and in a, and the hosts they gave"
        with pytest.raises(Unreachable):
            await nest.host("a/b/c")
        await nest.perform(Boot("", "a/b"), DEEP, quiet)
        await nest.perform(Boot("", "a/b/c"), DEEP, quiet)
        assert await nest.host("a/b/c") is not before


class Slow(FakeEngine):
    async def observe(self) -> Observed:
        await asyncio.Event().wait()
        return Observed()


async def test_a_hypervisor_that_hangs_does_not_hang_the_others() -> None:
    lab = draft("lab", hypervisor("a", hypervisor("b", guest("c"))), hypervisor("hv2", guest("web")))
    world = running(lab)

    def inside(lab: str, parent: Host) -> Engine:
        return Slow(world, lab, "a/b") if parent.path == "a/b" else world.engine(lab, parent)

    async with Nest(lab, world.host(), world.engine, {"kvm": inside}, answer=0.05) as nest:
        seen = (await nest.observe()).machines
        assert world.open == 3 + 3, "engines on the host, in a and in hv2, and the hosts they gave: none in a/b"
    assert seen["a/b"].state == "running", "what it is in does answer"
    assert seen["a/b/c"].state == "unknown"
    assert seen["a/b/c"].why == "a/b did not answer within 0.05 s"
    assert seen["hv2/web"].state == "running"
    assert world.open == 0


async def test_a_hypervisor_that_is_at_work_has_more_time_to_answer() -> None:
    lab = draft("lab", hypervisor("hv", guest("web")))
    world = running(lab)
    late = asyncio.Event()

    class Late(FakeEngine):
        async def observe(self) -> Observed:
            await late.wait()
            return await super().observe()

    class Busy(Nest):
        async def _works(self, seen: Seen) -> float | None:
            late.set()
            return 0.9

    def inside(lab: str, parent: Host) -> Engine:
        return Late(world, lab, parent.path)

    async with Busy(lab, world.host(), world.engine, {"kvm": inside}, answer=0.05) as nest:
        assert (await nest.observe()).machines["hv/web"].state == "running"
        late.clear()
        nest._works = Nest._works.__get__(nest)  # type: ignore[method-assign]
        seen = (await nest.observe()).machines["hv/web"]
        assert (seen.state, seen.why) == ("unknown", "hv did not answer within 0.05 s")


class Asked(FakeEngine):
    """An engine that is asked for its host's part of the proofs, and notes it."""

    async def observe_and_ask(self, script: str, words: Sequence[str]) -> tuple[Observed, str]:
        self.world.commands.append((self.parent, (script, *words)))
        self.world.reach(self.lab, self.parent)
        return await self.observe(), f"{self.parent} says {words[0]}"


async def ask(nest: Nest, *paths: str) -> tuple[Observed, dict[str, str]]:
    """Look, with a question for each hypervisor; and what was answered."""
    asides = {path: Aside("script", (path,), asyncio.get_running_loop().create_future()) for path in paths}
    seen = await nest.observe(asides)
    return seen, {path: each.answer.result() for path, each in asides.items() if each.answer.done()}


async def test_hypervisors_answer_once_whether_or_not_they_were_talked_to_before() -> None:
    lab = draft("lab", hypervisor("a", hypervisor("b", guest("c"))), hypervisor("hv2", guest("web")))
    world = running(lab)

    def inside(lab: str, parent: Host) -> Engine:
        return Asked(world, lab, parent.path)

    async with Nest(lab, world.host(), world.engine, {"kvm": inside}) as nest:
        await nest.engine("a")
        for _ in range(2):  # the second time all of them are known
            world.commands.clear()
            seen, answers = await ask(nest, "a", "a/b", "hv2")
            assert seen == look(world, lab)
            assert answers == {path: f"{path} says {path}" for path in ("a", "a/b", "hv2")}
            assert sorted(path for path, _ in world.commands) == ["a", "a/b", "hv2"]
    assert world.open == 0


async def test_what_was_asked_of_a_hypervisor_that_went_down_is_dropped() -> None:
    lab = draft("lab", hypervisor("a", guest("c")), hypervisor("hv2", guest("web")))
    world = running(lab)

    def inside(lab: str, parent: Host) -> Engine:
        return Asked(world, lab, parent.path)

    async with Nest(lab, world.host(), world.engine, {"kvm": inside}) as nest:
        await ask(nest, "a", "hv2")
        world.do("lab", Stop("", "a"), lab)
        seen, answers = await ask(nest, "a", "hv2")
        assert (seen.machines["a"].state, seen.machines["a/c"].state) == ("stopped", "stopped")
        assert answers == {"hv2": "hv2 says hv2"}
    assert world.open == 0


async def test_nothing_can_be_in_a_plain_guest() -> None:
    lab = draft("lab", guest("web"))
    async with nest_of(running(lab), lab) as nest:
        with pytest.raises(LabError, match="web is not a hypervisor"):
            await nest.engine("web")


async def test_a_kind_without_an_engine_is_named() -> None:
    world = running(DEEP)
    async with Nest(DEEP, world.host(), world.engine, {}) as nest:
        with pytest.raises(LabError, match="a is a hypervisor of kind kvm"):
            await nest.engine("a")
