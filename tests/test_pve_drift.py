"""What somebody changes of a lab's machines in a Proxmox VE: it is shown, planned with its reason, and set back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from blueprints import draft, guest
from nestlab.base.errors import LabError
from nestlab.engines.pve import drift, tags
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.plan import planner
from nestlab.plan.steps import Boot, Connect, Drift, Step, Stop, Update
from nestlab.testing.fake_pve import FakePve
from pve_lab import Bench, assert_valid, bench, cluster, config, machine_of, seen, up, vmid

LAB = draft("lab", guest("web", on=("wire",)), hosts="before")

SET = ("name=lab-web", "cores=2", "memory=2048", "kvm=1", "cpu=host", "net0=virtio=02:AA,bridge=nl1,firewall=0")


def rows(**changed: Any) -> list[dict[str, Any]]:
    """What PVE tells of a machine that is as it was set, but for this; None: it is gone."""
    there = dict(line.split("=", 1) for line in SET) | {"digest": "0", "scsihw": "lsi"} | changed
    return [{"key": key, "value": value} for key, value in there.items() if value is not None]


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"kvm": None},
        {"cpu": "cputype=host"},
        {"memory": "current=2048"},
        {"net0": "bridge=nl1,virtio=02:aa"},
        {"net0": "virtio=02:AA,bridge=nl1,firewall=0,queues=4"},
        {"net7": "virtio=02:BB,bridge=vmbr0"},
        {"onboot": 1},
    ],
)
def test_what_is_set_in_other_words_or_was_never_set_is_no_drift(same: dict[str, Any]) -> None:
    assert drift.changes(SET, rows(**same), "qemu") == ()


@pytest.mark.parametrize(
    ("changed", "said", "live"),
    [
        ({"memory": 1024}, "memory is 1024, wanted 2048", False),
        ({"cores": 1}, "cores is 1, wanted 2", False),
        ({"cpu": "x86-64-v2-AES"}, "cpu is x86-64-v2-AES, wanted host", False),
        ({"kvm": 0}, "kvm is 0, wanted 1", False),
        ({"name": "mine"}, "name is mine, wanted lab-web", True),
        ({"net0": None}, "net0 is gone, wanted virtio=02:AA,bridge=nl1,firewall=0", True),
        ({"net0": "virtio=02:AA,bridge=vmbr0,firewall=1"}, "net0: bridge is vmbr0, wanted nl1, ", True),
        ({"net0": "e1000=02:AA,bridge=nl1"}, "net0: virtio is gone, wanted 02:aa", True),
    ],
)
def test_what_was_changed_is_told_key_by_key(changed: dict[str, Any], said: str, live: bool) -> None:
    [found] = drift.changes(SET, rows(**changed), "qemu")
    assert found.drift.what.startswith(said)
    assert found.drift.live == live


def test_what_waits_for_the_next_start_is_set_back_while_the_machine_runs() -> None:
    waiting = [{**row, "pending": 512} if row["key"] == "memory" else row for row in rows()]
    [found] = drift.changes(SET, waiting, "qemu")
    assert found.drift == Drift("memory is 512, wanted 2048 from its next start on", live=True)
    gone = [{**row, "delete": 1} if row["key"] == "cpu" else row for row in rows()]
    assert [each.drift.what for each in drift.changes(SET, gone, "qemu")] == [
        "cpu is gone, wanted host from its next start on"
    ]


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster() as pve:
        pve.storages["local"].content += ",vztmpl"
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        yield found
        assert_valid(fake)


async def running(made: Bench, lab: Blueprint = LAB, path: str = "web") -> None:
    engine = made.engine()
    await engine.perform(Connect("", "wire"), lab, made.say)
    await up(made, lab, path, engine)


async def steps(made: Bench, lab: Blueprint = LAB) -> list[Step]:
    observed = await made.engine().observe()
    images = observed.images | lab.images.keys()
    return list(planner.plan(lab, replace(observed, images=images)).steps)


async def again(made: Bench, lab: Blueprint = LAB) -> None:
    """`up` until there is nothing left to do."""
    engine = made.engine()
    for step in await steps(made, lab):
        await engine.perform(step, lab, made.say)
    assert await steps(made, lab) == []


async def test_a_machine_as_it_was_made_has_no_drift(made: Bench) -> None:
    await running(made)
    assert await steps(made) == []
    found = await seen(made)
    assert found is not None
    assert found.drift == ()


async def test_other_memory_is_planned_with_its_reason_and_set_back_by_a_restart(made: Bench) -> None:
    await running(made)
    before = config(made)["virtio0"]
    made.fake.set_config(vmid(made), memory=64, cores=3)
    why = "restart: cores is 3, wanted 1, memory is 64, wanted 128 (changed by hand)"
    assert await steps(made) == [Stop(why, "web"), Boot(why, "web", needs=("stop:web",))]
    await again(made)
    assert (config(made)["memory"], config(made)["cores"], config(made)["virtio0"]) == ("128", 1, before)
    assert "setting back what was changed by hand: memory is 64, wanted 128" in made.said


async def test_a_name_and_a_card_are_set_back_while_it_runs(made: Bench) -> None:
    await running(made)
    card = config(made)["net0"]
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"name": "mine", "delete": "net0"})
    assert "net0" not in config(made)
    [step] = await steps(made)
    assert isinstance(step, Boot)
    assert "name is mine, wanted lab-web" in step.why
    assert "net0 is gone" in step.why
    await again(made)
    assert (config(made)["name"], config(made)["net0"]) == ("lab-web", card)
    assert made.fake.calls("POST", "/status/stop") == made.fake.calls("POST", "/status/shutdown") == []


async def test_what_somebody_changed_for_the_next_start_is_taken_back_now(made: Bench) -> None:
    await running(made)
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"memory": 64})
    found = machine_of(made.fake, "lab", "web")
    assert found is not None
    assert found.pending == {"memory": "64"}
    [step] = await steps(made)
    assert step.why == "live: memory is 64, wanted 128 from its next start on (changed by hand)"
    await again(made)
    assert found.pending == {}
    assert found.running


async def test_a_stopped_machine_is_set_back_when_it_is_started(made: Bench) -> None:
    await running(made)
    await made.engine().perform(Stop("", "web"), LAB, made.say)
    made.fake.set_config(vmid(made), memory=64, cpu="kvm64")
    await again(made)
    assert (config(made)["memory"], config(made)["cpu"]) == ("128", "host")


async def test_an_identity_disk_that_somebody_took_away_is_made_again(made: Bench) -> None:
    await running(made)
    await made.engine().perform(Stop("", "web"), LAB, made.say)
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio2"})
    assert "virtio2" not in config(made)
    found = await seen(made)
    assert found is not None
    assert [each.what for each in found.drift] == ["virtio2 is gone, wanted serial=nestlab-id"]
    await again(made)
    assert "serial=nestlab-id" in str(config(made)["virtio2"])


async def test_a_root_disk_that_somebody_detached_is_drift_and_attached_again(made: Bench) -> None:
    await running(made)
    await made.engine().perform(Stop("", "web"), LAB, made.say)
    before, boots = config(made)["virtio0"], config(made)["boot"]
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio0"})
    assert "virtio0" not in config(made)
    found = await seen(made)
    assert found is not None
    assert [each.what for each in found.drift] == ["virtio0 is gone, wanted serial=root"]
    await again(made)
    assert (config(made)["virtio0"], config(made)["boot"]) == (before, boots)
    assert not [key for key in config(made) if key.startswith("unused")]


async def test_a_disk_that_boots_and_was_detached_boots_again(made: Bench) -> None:
    await running(made)
    await made.engine().perform(Stop("", "web"), LAB, made.say)
    before, boots = config(made)["virtio1"], config(made)["boot"]
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio1"})
    assert config(made)["boot"] != boots
    await again(made)
    assert (config(made)["virtio1"], config(made)["boot"]) == (before, boots)


async def test_a_root_disk_that_is_to_be_detached_at_the_next_start_stays(made: Bench) -> None:
    await running(made)
    before = config(made)["virtio0"]
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio0"})
    [step] = await steps(made)
    assert step.why == "live: virtio0 is gone, wanted serial=root from its next start on (changed by hand)"
    await again(made)
    found = machine_of(made.fake, "lab", "web")
    assert found is not None
    assert (config(made)["virtio0"], found.pending, found.running) == (before, {}, True)


async def test_a_wrong_disk_is_never_attached_and_a_deleted_one_is_told(made: Bench) -> None:
    await running(made)
    engine = made.engine()
    await engine.perform(Stop("", "web"), LAB, made.say)
    here = f"/nodes/pve1/qemu/{vmid(made)}/config"
    await made.api.set(here, {"virtio9": "local:1"})
    await made.api.set(here, {"delete": "virtio0,virtio9"})
    with pytest.raises(LabError, match=r"its disk virtio0 .* was detached, and it may be any of local:\d+") as caught:
        await engine.perform(Boot("", "web"), LAB, made.say)
    assert "Attach the right one as virtio0" in (caught.value.hint or "")
    await made.api.set(here, {"delete": "unused0,unused1"})
    with pytest.raises(LabError, match="was detached and deleted"):
        await engine.perform(Boot("", "web"), LAB, made.say)
    assert not [key for key in config(made) if key == "virtio0"]


async def test_a_new_definition_keeps_a_disk_that_was_detached(made: Bench) -> None:
    await running(made)
    await made.engine().perform(Stop("", "web"), LAB, made.say)
    before = config(made)["virtio0"]
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio0"})
    larger = draft("lab", guest("web", on=("wire",), memory=256), hosts="before")
    await again(made, larger)
    assert (config(made)["virtio0"], config(made)["memory"]) == (before, "256")
    await made.engine().perform(Stop("", "web"), larger, made.say)
    await made.api.set(f"/nodes/pve1/qemu/{vmid(made)}/config", {"delete": "virtio0"})
    found = await seen(made)
    assert found is not None
    assert found.drift, "it is remembered across definitions"


async def test_a_container_is_compared_and_set_back_too(made: Bench, tmp_path: Path) -> None:
    (tmp_path / "debian.tar.zst").write_bytes(b"a template")
    image = Image(file=str(tmp_path / "debian.tar.zst"))
    lab = draft("lab", replace(guest("box", on=("wire",)), image=image, container=True), hosts="h")
    images = MappingProxyType({"file-1": image})
    lab = replace(lab, images=images, specs=tuple(replace(spec, image="file-1") for spec in lab.specs))
    await running(made, lab, "box")
    assert await steps(made, lab) == []
    card = config(made, "box")["net0"]
    made.fake.set_config(vmid(made, "box"), memory=64, net0="name=eth0,bridge=vmbr0")
    [step] = await steps(made, lab)
    assert "memory is 64, wanted 128" in step.why
    await again(made, lab)
    assert (config(made, "box")["memory"], config(made, "box")["net0"]) == (128, card)


async def test_a_container_gets_other_memory_and_cpus_as_it_runs(made: Bench, tmp_path: Path) -> None:
    (tmp_path / "debian.tar.zst").write_bytes(b"a template")
    image = Image(file=str(tmp_path / "debian.tar.zst"))

    def boxed(memory: int, cpus: int) -> Blueprint:
        box = replace(guest("box", on=("wire",)), image=image, container=True, memory=memory, cpus=cpus)
        lab = draft("lab", box, hosts="h")
        specs = tuple(replace(spec, image="file-1") for spec in lab.specs)
        return replace(lab, images=MappingProxyType({"file-1": image}), specs=specs)

    await running(made, boxed(128 << 20, 1), "box")
    wanted = boxed(192 << 20, 2)
    todo = planner.plan(wanted, await made.engine().observe(), previous=boxed(128 << 20, 1))
    [step] = [each for each in todo.steps if each.path == "box"]
    assert (type(step), step.why) == (Update, "live: cpus 1 -> 2, memory 128M -> 192M")
    made.fake.requests.clear()
    await made.engine().perform(step, wanted, made.say)
    assert (config(made, "box")["memory"], config(made, "box")["cores"]) == (192, 2)
    assert not [call.path for call in made.fake.requests if "/status/" in call.path and call.method == "POST"]
    assert await steps(made, wanted) == []


async def test_a_quick_look_shows_drift_and_asks_only_the_machine_that_has_it(made: Bench) -> None:
    await running(made)
    engine = made.engine()
    assert (await engine.glance())["web"].drift == ()
    made.fake.set_config(vmid(made), memory=64)
    made.fake.requests.clear()
    assert [each.what for each in (await engine.glance())["web"].drift] == ["memory is 64, wanted 128"]
    assert [call.path.rpartition("/")[2] for call in made.fake.requests] == ["resources", "pending"]


async def test_a_machine_of_an_older_nestlab_is_not_compared(made: Bench) -> None:
    await running(made)
    mark = tags.read(str(config(made)["description"]), vmid(made))
    assert mark is not None
    old = replace(mark, options=())
    made.fake.set_config(
        vmid(made), memory=64, description=tags.line(old), tags=tags.tags(str(config(made)["tags"]), old)
    )
    assert await steps(made) == []


async def test_a_machine_that_was_never_reached_is_not_as_wanted(made: Bench) -> None:
    made.inside.deaf.add("web")
    with pytest.raises(Exception, match="is not reached"):
        await running(made)
    found = await seen(made)
    assert found is not None
    assert (found.state, found.ready) == ("running", False)
    assert [step.why for step in await steps(made)] == ["it is still booting"]
    made.inside.deaf.clear()
    await again(made)
