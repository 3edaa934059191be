"""What is written on disks that are about to be deleted on a Proxmox VE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError
from nestlab.engines import Weighing
from nestlab.engines.pve import tags
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import GIB
from nestlab.lab.places import Pve
from nestlab.plan import planner
from nestlab.plan.steps import Written
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.world import Storage
from pve_lab import Bench, Meddled, assert_valid, bench, cluster, config, up, vmid

LAB = draft("lab", hypervisor("hv", guest("web")), hosts="before")


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster() as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        yield found
        assert_valid(fake)


def write(made: Bench, size: int) -> None:
    """The machine has written so much on its own disk."""
    volume = made.fake.world.volume(str(config(made, "hv")["virtio0"]).split(",")[0], "pve1")
    assert volume is not None
    volume.used = size


async def written(made: Bench, path: str = "hv") -> Written | None:
    engine = made.engine()
    assert isinstance(engine, Weighing)
    await engine.observe()
    return (await engine.written([path, "elsewhere"])).get(path)


async def removal(made: Bench, lab: Blueprint) -> str:
    """Why a machine is removed that is not wanted any more, as `plan` and `down` say it."""
    engine = made.engine()
    observed = await engine.observe()
    told = await engine.written(["hv"])
    machines = {path: replace(each, written=told.get(path)) for path, each in observed.machines.items()}
    found = planner.plan(lab, replace(observed, machines=MappingProxyType(machines)), "gone", previous=lab)
    [loss] = found.losses
    return loss.why


async def test_a_storage_of_files_tells_what_is_written(made: Bench) -> None:
    await up(made, LAB, "hv")
    write(made, 1288490189)
    assert await written(made) == Written(1288490189)
    assert (await removal(made, LAB)).endswith("its disk with 1.2G written is deleted")


async def test_where_a_storage_tells_only_sizes_it_is_up_to_the_size(made: Bench, fake: FakePve) -> None:
    fake.world.storages["thin"] = Storage("thin", "lvmthin", "", "images,rootdir")
    made.on = Pve("pve://127.0.0.1", storage="thin")
    await up(made, LAB, "hv")
    write(made, 7000)
    assert await written(made) == Written(GIB, at_most=True)
    assert (await removal(made, LAB)).endswith("its disk with up to 1G written is deleted")


async def test_a_storage_that_may_not_be_asked_costs_nothing_but_the_number(made: Bench) -> None:
    await up(made, LAB, "hv")

    def refuse(method: str, path: str) -> None:
        if "/content/" in path:
            raise LabError("Permission check failed.", hint="Grant it.")

    engine = made.engine_on(Meddled(made.api, refuse))
    await engine.observe()
    assert await engine.written(["hv"]) == {"hv": Written(GIB, at_most=True)}


async def test_a_half_made_machine_never_ran_and_is_made_again_unasked(made: Bench) -> None:
    await up(made, LAB, "hv")
    write(made, GIB)
    half = tags.read(str(config(made, "hv")["description"]), vmid(made, "hv"))
    assert half is not None
    half = replace(half, making=True)
    made.fake.set_config(vmid(made, "hv"), description=tags.line(half), tags=tags.tags("", half))
    assert await written(made) is None
    observed = await made.engine().observe()
    assert planner.plan(LAB, observed, previous=LAB).losses == ()
