"""What a restart would cost of machines that run although their images are gone."""

from __future__ import annotations

from dataclasses import replace

from blueprints import draft, guest, hypervisor, look
from nestlab.plan.planner import plan
from nestlab.plan.restart_cost import restart_cost
from nestlab.plan.steps import Observed, Stop
from nestlab.testing.fake_engine import FakeWorld

LAB = draft("lab", hypervisor("hv1", guest("web")), hypervisor("hv2"))


def running() -> FakeWorld:
    world = FakeWorld()
    for step in plan(LAB, Observed()).steps:
        world.do("lab", step, LAB)
    return world


def cost(seen: Observed) -> str:
    return restart_cost(LAB, seen, plan(LAB, seen))


def test_the_cost_names_images_that_are_gone_and_who_needs_them() -> None:
    world = running()
    assert cost(look(world, LAB)) == ""
    world.images.clear()
    assert not plan(LAB, look(world, LAB)), "nothing is to be done as long as all runs"
    said = cost(look(world, LAB))
    assert said.startswith("no longer in the cache: image kvm of hv1, hv2; tiny of hv1. What runs goes on;")


def test_images_that_the_plan_builds_or_nothing_runs_on_cost_nothing() -> None:
    world = running()
    world.images.clear()
    world.do("lab", Stop("", "hv1"), LAB)
    world.do("lab", Stop("", "hv2"), LAB)
    seen = look(world, LAB)
    assert cost(replace(seen, images=frozenset())) == ""
