"""nestlab dies at every single request that it makes to a Proxmox VE; the next one goes on, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines.pve.segments import LOCK
from nestlab.lab.blueprint import Blueprint
from nestlab.plan.planner import plan
from nestlab.plan.steps import Want
from nestlab.testing.fake_engine import FakeHost
from nestlab.testing.fake_pve import FakePve
from nestlab.verbs.apply import apply
from nestlab.verbs.nest import Nest
from nestlab.wire.pve.client import Pve as Client
from pve_lab import Bench, assert_valid, bench, cluster
from waiting import settled

LAB = draft("lab", hypervisor("hv1", guest("web")), guest("lone"), hosts="before")
OTHER = draft("lab", hypervisor("hv1", guest("web"), memory=1500), guest("new"), hosts="after")
EMPTY = Blueprint("lab")


class Dead(BaseException):
    """The process is gone: nothing is caught, nothing tidied up."""


class Mortal:
    """An Api that dies before, or right after, the request with a certain number; then nobody answers it any more."""

    def __init__(self, api: Client, number: int, *, after: bool) -> None:
        self.api, self.left, self.after = api, number, after
        self.dead = False
        self.last = ""

    @property
    def where(self) -> str:
        return self.api.where

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self.api, name)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Dead
            if name in ("create", "set", "delete", "upload"):
                self.left -= 1
                if self.left < 0 and not self.after:
                    self.dead = True
                    raise Dead
                answer = await asked(*args, **kwargs)
                if self.left < 0:
                    self.dead, self.last = True, f"{name} {args[0]}"
                    raise Dead
                return answer
            return await asked(*args, **kwargs)

        return ask


def nest(made: Bench, blueprint: Blueprint, previous: Blueprint | None, api: Any) -> Nest:
    def on(lab: str, parent: Any) -> Any:
        memory = made.place / f"{made.fake.port}.json"
        return made.engine_on(api or made.api, lab, memory=memory)

    return Nest(blueprint, FakeHost(made.inside, "", ""), on, {"kvm": made.inside.engine}, previous=previous)


async def make_it_so(
    made: Bench, blueprint: Blueprint, previous: Blueprint | None, want: Want, api: Any = None
) -> None:
    async with nest(made, blueprint, previous, api) as found:
        todo = plan(blueprint, await found.observe(), want, previous=previous)
        await apply(todo, blueprint, found, lambda _: None)
        if api is None:
            assert plan(blueprint, await found.observe(), want, previous=previous).steps == ()


async def dies(made: Bench, blueprint: Blueprint, previous: Blueprint | None, want: Want, api: Mortal) -> bool:
    """Whether it died on the way (and not only ended)."""
    try:
        await make_it_so(made, blueprint, previous, want, api)
    except (Dead, LabError, BaseExceptionGroup):
        assert api.dead
    if api.last == f"create {LOCK}":
        # It had no time to write down that the lock is its own: this one is not taken from whoever may hold it.
        made.fake.world.sdn.lock = ""
    # Requests of its that were on their way are done by then: whoever types the next command is slower than that.
    await settled(lambda: len(made.fake.requests), still=0.1)
    return api.dead


def assert_empty(fake: FakePve) -> None:
    stock = {vmid for vmid, guest in fake.vms.items() if guest.name.startswith("template-")}
    assert {vmid: guest.config for vmid, guest in fake.vms.items() if vmid not in stock} == {}
    assert fake.world.sdn.applied["vnets"] == fake.world.sdn.config["vnets"] == {}
    assert fake.world.sdn.lock == ""
    left = [volid for volid in fake.volumes if ":import/" in volid and "cargo" not in volid]
    assert left == [], "an identity holds a secret"
    assert {volume.volid for volume in fake.world.volumes.values() if volume.vmid not in {0, *stock}} == set()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_up_goes_on_after_nestlab_was_killed_at_any_request(tmp_path: Path, after: bool) -> None:
    number = 0
    died = True
    while died:
        with cluster("pve1", "pve2") as fake:
            async with bench(fake, tmp_path) as made:
                died = await dies(made, LAB, None, "running", Mortal(made.api, number, after=after))
                if number % 2 and died:  # down at once, without going on
                    await make_it_so(made, EMPTY, LAB, "gone")
                else:
                    await make_it_so(made, LAB, LAB, "running")
                    await make_it_so(made, EMPTY, LAB, "gone")
                assert_empty(fake)
                assert_valid(fake)
        number += 1
    assert number > 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_change_and_down_go_on_after_nestlab_was_killed_at_any_request(tmp_path: Path, after: bool) -> None:
    number = 0
    died = True
    while died:
        with cluster("pve1", "pve2", version="9.2") as fake:
            async with bench(fake, tmp_path) as made:
                await make_it_so(made, LAB, None, "running")
                died = await dies(made, OTHER, LAB, "running", Mortal(made.api, number, after=after))
                await make_it_so(made, OTHER, LAB, "running")
                gone = await dies(made, EMPTY, OTHER, "gone", Mortal(made.api, number, after=after))
                await make_it_so(made, EMPTY, OTHER, "gone")
                assert_empty(fake)
                assert_valid(fake)
                died = died or gone
        number += 1
    assert number > 20
