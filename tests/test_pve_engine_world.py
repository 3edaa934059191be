"""What the engine for a Proxmox VE makes of a world that is not as it was left."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from blueprints import draft, guest, hypervisor
from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.pve import tags as marks
from nestlab.engines.pve.cpu_types import PLAIN_FLAGS
from nestlab.lab.model import GIB, Segment
from nestlab.plan.steps import Boot, Create, Introduce, Remove, Stop
from nestlab.wire.pve.errors import PveError
from pve_lab import ONE, Bench, config, seen, up, vmid
from waiting import until

RENAMED = draft("lab", guest("web"), hosts="after")
CHANGED = draft("lab", guest("web", memory=256), hosts="before")


async def test_nothing_without_the_mark_is_seen_or_touched(made: Bench) -> None:
    """Not by name, not by VMID, not by tags, and not by notes that somebody copied along with a machine."""
    engine = await up(made)
    task = made.api.task
    notes, tags = str(config(made)["description"]), str(config(made)["tags"])
    foreign: dict[str, Any] = {"pool": "nestlab", "memory": 16}
    await task(await made.api.create("/nodes/pve1/qemu", {"vmid": 900, "name": "lab-web", "tags": tags, **foreign}))
    await task(await made.api.create("/nodes/pve1/qemu", {"vmid": 901, "description": notes, "tags": tags, **foreign}))
    spoilt = notes.replace('"lab":"lab"', '"lab":"other"').replace(f'"vmid":{vmid(made)}', '"vmid":902')
    await task(await made.api.create("/nodes/pve1/qemu", {"vmid": 902, "description": spoilt, "tags": tags, **foreign}))
    assert set((await made.engine().observe()).machines) == {"web"}
    await engine.perform(Remove("", "web"), ONE, made.say)
    await made.engine().perform(Remove("", "web"), ONE, made.say)
    assert {900, 901, 902} <= set(made.fake.vms)
    assert await seen(made) is None


async def test_a_machine_that_loses_its_mark_is_not_removed(made: Bench) -> None:
    engine = await up(made)
    await engine.observe()
    number = vmid(made)
    made.fake.set_config(number, description="mine now")
    await engine.perform(Remove("", "web"), ONE, made.say)
    assert number in made.fake.vms
    assert made.fake.vms[number].running


async def test_what_a_person_writes_into_notes_and_tags_stays(made: Bench) -> None:
    engine = await up(made)
    made.fake.set_config(
        vmid(made), description="Anna's\n" + str(config(made)["description"]), tags="prod;nestlab;nestlab-lab"
    )
    await engine.perform(Stop("", "web"), ONE, made.say)
    assert str(config(made)["description"]).startswith("Anna's\n\nnestlab: {")
    assert "prod" in marks.split(str(config(made)["tags"]))
    state = await seen(made)
    assert state is not None
    assert state.state == "stopped"


async def test_a_number_that_somebody_else_takes_is_left_to_them(made: Bench) -> None:
    made.fake.fail_next("/clone", 500, "unable to create VM 101: config file already exists", method="POST")
    await up(made)
    assert await seen(made) is not None


async def test_a_clone_that_finds_its_number_taken_only_in_its_task_takes_another(made: Bench) -> None:
    """As PVE does: the number is taken by the worker, and not by the request (qemu-server, clone_vm)."""
    made.fake.fail_task("qmclone", "unable to create VM 101: config file already exists")
    await up(made)
    assert await seen(made) is not None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("qmclone", "clone failed: unable to create image: qemu-img: No space left on device"),
        ("qmconfig", "import failed: No space left on device"),
    ],
)
async def test_a_full_disk_in_the_middle_is_told_and_up_goes_on(made: Bench, kind: str, said: str) -> None:
    made.fake.fail_task(kind, said)
    engine = made.engine()
    with pytest.raises(PveError, match="No space left on device"):
        await engine.perform(Create("", "web"), ONE, made.say)
    half = await seen(made)
    assert half is None or half.state == "broken"
    await up(made, engine=engine)
    whole = await seen(made)
    assert whole is not None
    assert whole.state == "running"
    assert len([each for each in made.fake.vms.values() if "nestlab-lab" in str(each.config.get("tags"))]) == 1


async def test_a_machine_that_dies_is_told_from_one_that_was_stopped(made: Bench) -> None:
    engine = await up(made)
    await made.api.task(await made.api.create(f"/nodes/pve1/qemu/{vmid(made)}/status/stop"))
    state = await seen(made)
    assert state is not None
    assert state.state == "died"
    assert "nobody stopped it by nestlab" in state.why
    await engine.perform(Boot("", "web"), ONE, made.say)
    await engine.perform(Stop("", "web"), ONE, made.say)
    state = await seen(made)
    assert state is not None
    assert state.state == "stopped"


async def test_a_paused_machine_goes_on(made: Bench) -> None:
    engine = await up(made)
    made.fake.vms[vmid(made)].paused = True
    state = await seen(made)
    assert state is not None
    assert state.state == "paused"
    await engine.perform(Boot("", "web"), ONE, made.say)
    assert not made.fake.vms[vmid(made)].paused


async def test_a_machine_that_does_not_shut_down_is_ended(made: Bench) -> None:
    engine = await up(made)
    made.fake.vms[vmid(made)].obeys = False
    await engine.perform(Stop("", "web"), ONE, made.say)
    assert not made.fake.vms[vmid(made)].running


async def test_a_machine_that_stops_while_it_boots_is_told_at_once(made: Bench) -> None:
    engine = made.engine()
    await engine.perform(Create("", "web"), ONE, made.say)
    real = made.inside.answers

    def crashes(lab: str, path: str) -> bool:
        for each in made.fake.vms.values():
            each.running = False
        return real(lab, path)

    made.inside.answers = crashes  # type: ignore[method-assign]
    with pytest.raises(LabError, match="stopped before it could be reached"):
        await engine.perform(Boot("", "web"), ONE, made.say)


async def test_new_names_are_told_and_kept_over_a_boot(made: Bench) -> None:
    engine = await up(made)
    old = str(config(made)["virtio2"])
    await engine.perform(Introduce("", "web"), RENAMED, made.say)
    assert any("/etc/hosts" in word for path, words in made.inside.commands if path == "web" for word in words)
    state = await seen(made)
    assert state is not None
    assert state.names == RENAMED["web"].names
    await engine.perform(Stop("", "web"), RENAMED, made.say)
    await engine.perform(Boot("", "web"), RENAMED, made.say)
    assert str(config(made)["virtio2"]) != old, "its identity disk is another one"
    assert not any(key.startswith("unused") for key in config(made))
    old_volume = old.split(",")[0]
    assert old_volume not in made.fake.volumes


async def test_a_machine_that_somebody_else_started_again_has_the_names_of_its_disk(made: Bench) -> None:
    engine = await up(made)
    await engine.perform(Introduce("", "web"), RENAMED, made.say)
    number = vmid(made)
    await made.api.task(await made.api.create(f"/nodes/pve1/qemu/{number}/status/stop"))
    await made.api.task(await made.api.create(f"/nodes/pve1/qemu/{number}/status/start"))
    made.fake.vms[number].started = time.time() + 10
    state = await seen(made)
    assert state is not None
    assert state.state == "running"
    assert state.names == ONE["web"].names


async def test_creating_again_keeps_the_disk_and_another_definition_does_not(made: Bench) -> None:
    engine = await up(made)
    await engine.perform(Stop("", "web"), ONE, made.say)
    first = vmid(made)
    await engine.perform(Create("", "web"), RENAMED, made.say)
    assert vmid(made) == first
    state = await seen(made)
    assert state is not None
    assert state.names == RENAMED["web"].names
    disk = str(config(made)["virtio0"])
    await engine.perform(Create("", "web"), CHANGED, made.say)
    assert int(config(made)["memory"]) == 256
    assert len([each for each in made.fake.vms.values() if not each.template]) == 1
    assert str(config(made)["virtio0"]) != disk or vmid(made) == first


async def test_a_disk_is_as_large_as_the_lab_file_says(made: Bench) -> None:
    lab = draft("lab", replace(guest("web"), disk=5 * GIB))
    await up(made, lab)
    assert "size=5G" in str(config(made)["virtio0"])


async def test_a_storage_that_makes_no_linked_clones_is_given_copies(made: Bench) -> None:
    made.fake.add_storage("fat", type="lvm", content="images")
    made.on = replace(made.on, storage="fat")
    await up(made)
    assert str(config(made)["virtio0"]).startswith("fat:vm-")
    assert any("makes no linked clones" in text for text in made.said)


async def test_a_node_without_kvm_emulates_and_says_so(made: Bench) -> None:
    for node in made.fake.nodes.values():
        node.kvm, node.nested, node.flags = False, False, "fpu sse2"
    lab = draft("lab", hypervisor("web"))
    engine = made.engine()
    [note] = await engine.check(lab, {"web"})
    assert "web (kvm: 0, cpu: max)" in note
    [outlook] = await engine.outlook(lab, {"web"})
    assert (outlook.cpu, outlook.kvm) == ("max", False)
    await up(made, lab, engine=engine)
    assert (config(made)["kvm"], config(made)["cpu"]) == (0, "max")
    assert await engine.accel("web") == "tcg"
    basis = await engine.platform()
    assert (basis.nests, basis.emulates) == (False, True)
    assert "no KVM" in basis.line


async def test_a_node_whose_kvm_turns_out_to_be_off_emulates(made: Bench) -> None:
    for node in made.fake.nodes.values():
        node.kvm = False
    engine = await up(made)
    assert (config(made)["kvm"], config(made)["cpu"]) == (0, "max")
    assert any("has no KVM" in text for text in made.said)
    state = await seen(made)
    assert state is not None
    assert state.accel == "tcg"
    await engine.perform(Remove("", "web"), ONE, made.say)
    insisting = draft("lab", replace(guest("web"), accel="kvm"))
    with pytest.raises(PveError, match="KVM virtualisation configured, but not available"):
        await up(made, insisting)


async def test_a_network_that_a_node_has_not_loaded_yet_is_waited_for(made: Bench) -> None:
    made.fake.fail_task("qmstart", "bridge 'nlabcdef' does not exist")
    await up(made)
    assert "waiting for its network" in made.said


async def test_a_machine_on_a_node_that_is_away_is_not_made_twice(made: Bench) -> None:
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="before")
    await up(made, lab)
    made.fake.node_down("pve2")
    engine = made.engine()
    with pytest.raises(Unreachable, match=r"Node pve2 of .* does not answer"):
        await engine.observe()
    with pytest.raises(LabError):
        await made.engine().perform(Create("", "web"), lab, made.say)
    made.fake.node_down("pve2", down=False)
    assert len([each for each in made.fake.vms.values() if not each.template]) == 1


async def test_a_machine_whose_mark_is_known_is_unknown_while_its_node_is_away(made: Bench) -> None:
    memory = made.place / "pve.json"
    lab = draft("lab", replace(guest("web"), node="pve2"), hosts="before")
    await up(made, lab, engine=made.engine(memory=memory))
    made.fake.node_down("pve2")
    state = (await made.engine(memory=memory).observe()).machines["web"]
    assert state.state == "unknown"
    assert "pve2" in state.why


async def test_a_lock_without_a_task_is_told_with_what_frees_it(made: Bench) -> None:
    engine = await up(made)
    made.fake.set_config(vmid(made), lock="backup")
    with pytest.raises(LabError, match=r"is locked \(backup\), and no task works on it") as caught:
        await engine.perform(Remove("", "web"), ONE, made.say)
    assert f"qm unlock {vmid(made)}" in caught.value.hint


async def test_a_hibernated_machine_goes_on_where_it_was_and_can_be_removed(made: Bench) -> None:
    engine = await up(made)
    base = f"/nodes/pve1/qemu/{vmid(made)}"
    await made.api.task(await made.api.create(f"{base}/status/suspend", {"todisk": True}))
    state = await seen(made)
    assert state is not None
    assert (state.state, state.why) == ("stopped", "it is hibernated")
    await engine.perform(Stop("", "web"), ONE, made.say)
    await engine.perform(Boot("", "web"), ONE, made.say)
    assert made.fake.vms[vmid(made)].running
    await made.api.task(await made.api.create(f"{base}/status/suspend", {"todisk": True}))
    await engine.perform(Remove("", "web"), ONE, made.say)
    assert await seen(made) is None


async def test_a_task_that_nobody_follows_any_more_is_waited_for(made: Bench) -> None:
    made.fake.slow("qmclone", 3)
    engine = made.engine()
    work = asyncio.ensure_future(engine.perform(Create("", "web"), ONE, made.say))
    tasks = made.fake.tasks.all
    await until(lambda: "qmclone" in [task.kind for task in tasks if task.status is None])
    work.cancel()
    await asyncio.wait({work})
    await until(lambda: all(task.status is not None for task in tasks))
    state = await seen(made)
    assert state is not None
    assert state.state == "broken"
    await made.engine().perform(Remove("", "web"), ONE, made.say)
    assert await seen(made) is None


async def test_the_outlook_tells_where_a_machine_will_be_and_is(made: Bench) -> None:
    engine = made.engine()
    for node in made.fake.nodes.values():
        node.flags = " ".join({"vmx", *PLAIN_FLAGS})
    lab = draft("lab", hypervisor("hv1"), replace(guest("web"), node="pve2"), segments=(Segment("wire"),), hosts="x")
    lab = replace(lab, specs=tuple(replace(spec, nics=()) for spec in lab.specs))
    before = {each.path: each for each in await engine.outlook(lab, {"hv1", "web"})}
    assert (before["hv1"].node, before["hv1"].vmid, before["hv1"].cpu) == ("pve1", None, "host")
    assert (before["web"].node, before["web"].cpu) == ("pve2", "x86-64-v2-AES")
    assert "the lab file says so" in before["web"].why
    await engine.perform(Create("", "web"), lab, made.say)
    [after] = await made.engine().outlook(lab, {"web"})
    assert (after.node, after.vmid, after.storage) == ("pve2", vmid(made), "local")
    assert await made.engine().node_of("web") == "pve2"


async def test_what_does_not_fit_is_told_before_anything_is_made(made: Bench) -> None:
    lab = draft("lab", guest("web", memory=40 << 10))
    with pytest.raises(LabError, match=r"memory: 40\.0G needed"):
        await made.engine().check(lab, {"web"})
    assert made.fake.calls("POST") == []


async def test_a_pool_or_a_bridge_that_is_not_there_is_told_before_anything_is_made(made: Bench) -> None:
    bridged = draft("lab", guest("web"), segments=(Segment("wire", bridge="vmbr7", vlan=3),))
    with pytest.raises(LabError, match="Node pve1 has no bridge vmbr7"):
        await made.engine().check(bridged, {"web"})
    made.on = replace(made.on, pool="elsewhere")
    with pytest.raises(LabError, match="has no pool elsewhere that can be seen; it has: nestlab"):
        await made.engine().check(ONE, {"web"})
    assert made.fake.calls("POST") == []


async def test_addresses_that_the_nodes_have_are_told(made: Bench) -> None:
    lab = draft("lab", guest("web", at="10.99.0.7"))
    lab = replace(
        lab, specs=tuple(replace(s, nics=(replace(s.nics[0], addresses=("10.99.0.7/24",)),)) for s in lab.specs)
    )
    engine = made.engine()
    assert await engine.routes() == ("10.99.0.0/24",)
    [note] = await engine.check(lab, {"web"})
    assert note == "Segment wire (10.99.0.0/24) has addresses of 10.99.0.0/24, which the nodes are in as well."


async def test_a_segment_on_a_bridge_is_there_while_a_machine_uses_it(made: Bench) -> None:
    lab = draft("lab", guest("web"), segments=(Segment("wire", bridge="vmbr0", vlan=30),))
    engine = await up(made, lab)
    assert "bridge=vmbr0,firewall=0,tag=30" in str(config(made)["net0"])
    assert (await engine.observe()).links == {"wire"}
    await engine.perform(Remove("", "web"), lab, made.say)
    assert (await engine.observe()).links == frozenset()
