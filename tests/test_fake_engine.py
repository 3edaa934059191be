from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blueprints import draft, guest, hypervisor, look
from engine_contract import Stage, live_through
from nestlab.base.errors import LabError, Refused, Unreachable
from nestlab.hosts.host import Result
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.planner import plan
from nestlab.plan.steps import Boot, Build, Connect, Create, Introduce, Observed, Remove, Stop, Update
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs.nest import Nest


def stage(world: FakeWorld) -> Stage:
    @contextmanager
    def refusal() -> Iterator[None]:
        world.refuse("boot:hv1/web")
        yield

    async def kill(nest: Nest) -> None:
        world.kill("lab", "hv1/web")

    def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
        return Nest(blueprint, world.host(), world.engine, {"kvm": world.engine}, previous=previous)

    return Stage(
        lab=draft("lab", hypervisor("hv1", guest("web")), guest("lone"), hosts="before"),
        changed=draft("lab", hypervisor("hv1", guest("web", memory=256)), guest("lone"), hosts="after"),
        enlarged=draft("lab", hypervisor("hv1", guest("web", memory=256), memory=2048), guest("lone"), hosts="after"),
        inner="hv1/web",
        nest=nest,
        refusal=refusal,
        kill=kill,
    )


async def test_the_fake_engine_lives_the_life_of_every_engine() -> None:
    world = FakeWorld()
    await live_through(stage(world))
    assert world.machines == {}
    assert world.open == 0, "every host and engine was closed"


def quiet(_: str) -> None:
    """Nobody listens."""


def running(blueprint: Blueprint) -> FakeWorld:
    world = FakeWorld()
    for step in plan(blueprint, Observed()).steps:
        world.do(blueprint.lab, step, blueprint)
    return world


async def test_a_refused_creation_leaves_a_half_made_machine() -> None:
    lab = draft("lab", guest("web"))
    world = FakeWorld()
    world.refuse("create:web")
    engine = world.engine("lab", world.host())
    with pytest.raises(Refused):
        await engine.perform(Create("", "web"), lab, quiet)
    assert (await engine.observe()).machines["web"].state == "broken"


def test_steps_out_of_order_fail_as_they_would_for_real() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    world = FakeWorld()
    with pytest.raises(LabError, match="images that are not built"):
        world.do("lab", Create("", "hv1"), lab)
    for key in lab.images:
        world.do("lab", Build("", key), lab)
    world.do("lab", Create("", "hv1"), lab)
    with pytest.raises(LabError, match="cannot join wire"):
        world.do("lab", Boot("", "hv1"), lab)
    world.do("lab", Connect("", "wire"), lab)
    with pytest.raises(Unreachable):
        world.do("lab", Create("", "hv1/web"), lab)
    world.do("lab", Boot("", "hv1"), lab)
    with pytest.raises(LabError, match="hv1/web is not there"):
        world.do("lab", Boot("", "hv1/web"), lab)
    world.do("lab", Create("", "hv1/web"), lab)
    with pytest.raises(LabError, match="hv1/web is stopped"):
        world.do("lab", Introduce("", "hv1/web"), lab)


def test_a_machine_goes_down_with_what_it_is_in() -> None:
    lab = draft("lab", hypervisor("hv1", guest("web")))
    world = running(lab)
    world.do("lab", Stop("", "hv1"), lab)
    assert look(world, lab).machines["hv1/web"].state == "unknown"
    world.do("lab", Boot("", "hv1"), lab)
    assert look(world, lab).machines["hv1/web"].state == "died"


async def test_a_disk_is_kept_under_another_definition_and_only_removing_deletes_it() -> None:
    lab, other = draft("lab", guest("web")), draft("lab", guest("web", memory=256))
    world = running(lab)
    host = await world.engine("lab", world.host()).host("web")
    await host.write("/root/data", b"precious")
    with pytest.raises(LabError, match="runs with another definition"):
        world.do("lab", Update("", "web"), other)
    world.do("lab", Stop("", "web"), lab)
    for step in (Create("", "web"), Update("", "web")):
        world.do("lab", step, other)
        assert world.machines["lab", "web"].files == {"/root/data": b"precious"}
    hyper = draft("lab", hypervisor("web"))
    world.images.update(hyper.images)
    with pytest.raises(LabError, match="made from something else"):
        world.do("lab", Create("", "web"), hyper)
    world.do("lab", Remove("", "web"), hyper)
    world.do("lab", Create("", "web"), hyper)
    assert world.machines["lab", "web"].files == {}


async def test_its_hosts_keep_files_and_answer_commands(tmp_path: Path) -> None:
    lab = draft("lab", guest("web"))
    world = running(lab)
    host = await world.engine("lab", world.host()).host("web")
    (tmp_path / "local").write_bytes(b"local")
    await host.put(tmp_path / "local", "/there")
    assert await host.read("/there") == b"local"
    with pytest.raises(LabError, match="no file /nowhere"):
        await host.read("/nowhere")
    world.answer = lambda path, argv: Result(tuple(argv), 3, b"one\ntwo\n", b"no") if argv[0] == "fail" else None
    assert (await host.run(["true"])).status == 0
    assert (await host.run(["fail"], check=False)).status == 3
    with pytest.raises(LabError, match="fail failed with status 3"):
        await host.run(["fail"])
    assert world.commands == [("web", ("true",)), ("web", ("fail",)), ("web", ("fail",))]
    world.answer = lambda path, argv: Result(tuple(argv), 0, b"one\ntwo\n", b"")
    async with host.lines(["log"]) as lines:
        assert [line async for line in lines] == [b"one", b"two"]
    async with host.start(["cat"]) as command:
        await command.write(b"in")
        assert (await command.result(b"put")).stdout == b"one\ntwo\n"
    world.kill("lab", "web")
    with pytest.raises(Unreachable):
        await host.run(["true"])


async def test_labs_do_not_see_each_other() -> None:
    world = running(draft("one", guest("web")))
    assert not (await world.engine("two", world.host()).observe()).machines
    assert not (await world.engine("two", world.host()).observe()).links
