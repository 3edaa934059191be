"""Power cuts and cables that are out on a Proxmox VE, against the stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from blueprints import draft, guest
from nestlab.base.errors import LabError
from nestlab.engines import Failing
from nestlab.engines.pve.failing import linked
from nestlab.plan import planner
from nestlab.plan.steps import Connect
from nestlab.testing.fake_pve import FakePve
from pve_lab import Bench, bench, cluster, config, seen, up

LAB = draft("lab", guest("web", on=("wire",)), hosts="before")


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster() as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        await found.engine().perform(Connect("", "wire"), LAB, found.say)
        await up(found, LAB)
        yield found


def test_only_the_cable_of_a_card_is_changed() -> None:
    card = "virtio=02:AA,bridge=nl1,firewall=0"
    assert linked(card, up=False) == f"{card},link_down=1"
    assert linked(linked(card, up=False), up=False) == f"{card},link_down=1"
    assert linked(linked(card, up=False), up=True) == linked(card, up=True) == card
    assert linked("virtio=02:AA,link_down=0,tag=3", up=False) == "virtio=02:AA,tag=3,link_down=1"


async def test_a_cable_is_taken_out_while_the_machine_runs_and_is_no_change_by_hand(made: Bench) -> None:
    before = config(made)["net0"]
    await made.engine().link(LAB["web"], "wire", up=False)
    assert config(made)["net0"] == f"{before},link_down=1"
    there = await seen(made)
    assert there is not None
    assert (there.state, there.drift) == ("running", ())
    todo = planner.plan(LAB, await made.engine().observe(), previous=LAB)
    assert [step for step in todo.steps if step.path] == []
    await made.engine().link(LAB["web"], "wire", up=True)
    assert config(made)["net0"] == before


async def test_a_machine_whose_power_is_cut_is_one_that_nobody_stopped(made: Bench) -> None:
    assert await made.engine().kill("web")
    there = await seen(made)
    assert there is not None
    assert there.state == "died"
    assert not await made.engine().kill("web")


async def test_its_networks_cannot_be_impaired_and_that_is_said(made: Bench) -> None:
    engine = made.engine()
    assert isinstance(engine, Failing)
    with pytest.raises(LabError, match="its API cannot impair"):
        await engine.impair(LAB)
