"""Containers and snapshots on a Proxmox VE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blueprints import draft, guest
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import tags
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.plan.steps import Boot, Create, Remove, Stop
from nestlab.wire.pve.errors import PveError
from pve_lab import ONE, Bench, config, machine_of, seen, up, vmid


async def test_snapshots_are_taken_gone_back_to_and_dropped(made: Bench) -> None:
    made.fake.add_storage("thin", type="lvmthin", content="images")
    made.on = replace(made.on, storage="thin")
    engine = await up(made)
    await engine.snapshots.take("web", "first", memory=True, description="running")
    await engine.perform(Stop("", "web"), ONE, made.say)
    await engine.snapshots.take("web", "second")
    assert [(point.name, point.memory) for point in await engine.snapshots.all("web")] == [
        ("first", True),
        ("second", False),
    ]
    await engine.snapshots.back("web", "first")
    state = await seen(made)
    assert state is not None
    assert state.state == "running"
    await engine.snapshots.back("web", "second")
    state = await seen(made)
    assert state is not None
    assert state.state == "stopped"
    await engine.snapshots.drop("web", "first")
    assert [point.name for point in await engine.snapshots.all("web")] == ["second"]
    await engine.perform(Boot("", "web"), ONE, made.say)


async def test_a_machine_is_known_again_after_going_back_more_than_once(made: Bench) -> None:
    """Its tags are then those of the snapshot, its notes those of before (AbstractConfig.pm)."""
    made.fake.add_storage("thin", type="lvmthin", content="images")
    made.on = replace(made.on, storage="thin")
    engine = await up(made)
    await engine.perform(Stop("", "web"), ONE, made.say)
    await engine.snapshots.take("web", "first")
    for _ in range(3):
        await engine.snapshots.back("web", "first")
        mark = tags.read(str(config(made)["description"]), vmid(made))
        assert mark is not None
        assert tags.stamp_of(tags.split(str(config(made)["tags"]))) == tags.stamp(mark)
        assert mark.told == "?", "which names its disk of then has is not known"
    await engine.perform(Boot("", "web"), ONE, made.say)
    state = await seen(made)
    assert state is not None
    assert (state.state, state.names) == ("running", ONE["web"].names)


async def test_a_storage_without_snapshots_is_told_as_it_is(made: Bench) -> None:
    made.fake.add_storage("fat", type="lvm", content="images")
    made.on = replace(made.on, storage="fat")
    engine = await up(made)
    with pytest.raises(PveError, match="snapshot feature is not available"):
        await engine.snapshots.take("web", "first")
    assert await engine.snapshots.all("web") == ()
    with pytest.raises(PveError, match="snapshot 'first' does not exist"):
        await engine.snapshots.back("web", "first")


@pytest.fixture
def boxed(made: Bench, tmp_path: Path) -> Blueprint:
    """A lab of one container, whose template is a file of the user's."""
    made.fake.storages["local"].content += ",vztmpl"
    (tmp_path / "debian.tar.zst").write_bytes(b"a template")
    image = Image(file=str(tmp_path / "debian.tar.zst"))
    lab = draft("lab", replace(guest("web"), image=image, container=True))
    return replace(lab, specs=(replace(lab["web"], image="file-1"),), images={"file-1": lab.images[lab["web"].image]})


async def test_a_container_is_made_of_a_template_of_the_users(made: Bench, boxed: Blueprint) -> None:
    engine = await up(made, boxed)
    found = machine_of(made.fake, "lab", "web")
    assert found is not None
    assert (found.kind, found.config["unprivileged"], found.config["features"]) == ("lxc", 1, "nesting=1")
    state = await seen(made)
    assert state is not None
    assert (state.state, state.digest, state.names) == ("running", boxed["web"].digest, boxed["web"].names)
    with pytest.raises(Unreachable, match="is a container"):
        await engine.host("web")
    await engine.perform(Stop("", "web"), boxed, made.say)
    await engine.perform(Boot("", "web"), boxed, made.say)
    await engine.perform(Remove("", "web"), boxed, made.say)
    assert await seen(made) is None
    assert made.fake.vms == {}
    assert [volid for volid in made.fake.volumes if "vztmpl" not in volid] == []
    with pytest.raises(LabError, match="its image is none that a container can be made from"):
        await made.engine().perform(Create("", "web"), draft("lab", replace(guest("web"), container=True)), made.say)


async def test_a_container_has_snapshots_too(made: Bench, boxed: Blueprint) -> None:
    made.fake.add_storage("thin", type="lvmthin", content="rootdir")
    made.on = replace(made.on, storage="thin")
    engine = await up(made, boxed)
    await engine.snapshots.take("web", "first", description="before")
    assert [(point.name, point.description) for point in await engine.snapshots.all("web")] == [("first", "before")]
    await engine.snapshots.back("web", "first")
    state = await seen(made)
    assert state is not None
    assert state.state == "stopped"
    await engine.snapshots.drop("web", "first")
    assert await engine.snapshots.all("web") == ()


async def test_a_container_whose_number_somebody_takes_first_gets_another(made: Bench, boxed: Blueprint) -> None:
    said = "unable to create CT 100 - CT 100 already exists on node 'pve2'"
    made.fake.fail_next("/lxc", 500, said, method="POST")
    await up(made, boxed)
    assert vmid(made) == 101


@pytest.mark.parametrize("kind", ["vzcreate", "vzstart"])
async def test_a_container_that_fails_half_way_is_made_again(made: Bench, boxed: Blueprint, kind: str) -> None:
    made.fake.fail_task(kind, "unable to do that", log="extracting archive")
    with pytest.raises(PveError, match="unable to do that") as caught:
        await up(made, boxed)
    assert "extracting archive" in caught.value.detail
    engine = await up(made, boxed)
    assert len(made.fake.vms) == 1
    await engine.perform(Remove("", "web"), boxed, made.say)
    assert made.fake.vms == {}
