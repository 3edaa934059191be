"""Disks beside a machine's own on a Proxmox VE: their slots, hot-plug, growth and removal, CD-ROMs and boot order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from blueprints import draft, guest
from golden_files import assert_golden
from nestlab.engines.pve import data_disks
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.disks import Disk
from nestlab.lab.model import GIB, MIB, Image
from nestlab.lab.readiness import Ready
from nestlab.plan import planner
from nestlab.plan.steps import Boot, Discard, Plan, Plugs, Stop, Update
from nestlab.testing.fake_pve import FakePve
from pve_lab import Bench, assert_valid, bench, cluster, config, seen, up

DATA = Disk("data", 20 * GIB, serial="data")
FLASH = Disk("flash", 3 * GIB // 2, bus="scsi", ssd=True, serial="S3CR-1")
OLD = Disk("old", GIB, bus="sata", serial="old")
OLDEST = Disk("oldest", GIB, bus="ide", serial="oldest")
KEY = "file-" + "1" * 40
ISO = "file-" + "2" * 40


def lab(*disks: Disk, **also: Any) -> Blueprint:
    made = draft("lab", replace(guest("web", on=()), disks=disks, **also), hosts="before")
    files = tuple(KEY for disk in disks if disk.file) + tuple(ISO for _ in also.get("cdroms", ()))
    images = {KEY: Image(file="/old.raw", format="raw"), ISO: Image(file="/a.iso", format="iso")}
    spec = replace(made["web"], files=files)
    return replace(made, specs=(spec,), images=MappingProxyType({**made.images, **images}))


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1") as made:
        yield made


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        yield found
    assert_valid(fake)


def drives(made: Bench) -> dict[str, str]:
    """The disks beside nestlab's own, without their volumes."""
    own = ("virtio0", "virtio1", "virtio2")
    found = {key: str(value) for key, value in config(made).items() if key not in own and "size=" in str(value)}
    return {key: ",".join(value.split(",")[1:]) for key, value in sorted(found.items())}


async def planned(made: Bench, wanted: Blueprint) -> Plan:
    observed = await made.engine().observe()
    observed = replace(observed, images=frozenset(key for spec in wanted.specs for key in spec.images))
    return planner.plan(wanted, observed)


async def change(made: Bench, wanted: Blueprint) -> Plan:
    todo = await planned(made, wanted)
    engine = made.engine()
    for step in todo.steps:
        await engine.perform(step, wanted, made.say)
    assert not await planned(made, wanted)
    return todo


def test_sizes_are_said_exactly() -> None:
    assert [data_disks.gibibytes(size) for size in (20 * GIB, 3 * GIB // 2, 100 * MIB)] == ["20", "1.5", "0.09765625"]


def test_disks_are_made_with_exactly_these_options() -> None:
    spec = lab(DATA, FLASH, OLD, OLDEST)["web"]
    slots = data_disks.free_slots({"virtio0", "virtio1", "virtio2", "virtio15"}, spec.disks)
    found = {slots[disk.name]: data_disks.made(disk, "local-lvm") for disk in spec.disks}
    over = data_disks.made(DATA.made(KEY), "local-lvm", "local:import/nestlab-x.qcow2")
    assert_golden("pve/disks.json", json.dumps({**found, "virtio13": over}, indent=1))


async def test_a_machine_is_made_with_its_disks_and_grows_what_is_a_copy_of_a_file(made: Bench) -> None:
    over = Disk("over", 2 * GIB, "/old.raw", "raw", serial="over")
    await up(made, lab(DATA, FLASH, OLD, OLDEST, over))
    assert drives(made) == {
        "ide0": "serial=oldest,size=1G",
        "sata0": "serial=old,size=1G",
        "scsi1": "serial=S3CR-1,size=1536M,ssd=1",
        "virtio14": "serial=over,size=2G",
        "virtio15": "serial=data,size=20G",
    }
    assert config(made)["hotplug"] == "disk,network,usb"
    found = await seen(made)
    assert found is not None
    assert [disk.name for disk in found.disks] == ["data", "flash", "old", "oldest", "over"]
    assert found.plugs == Plugs(12, scsi=True, out=True)
    assert not found.drift


def foreign(bus: str, *disks: Disk, **also: Any) -> Blueprint:
    """A machine whose own disk is on a bus of the user's choice: its image is a file of theirs."""
    return lab(*disks, image=Image(file="/old.raw", format="raw"), bus=bus, ready=Ready("none"), **also)


def own(made: Bench) -> tuple[str, ...]:
    """Where its own disk is, and what it boots from."""
    found = config(made)
    where = [key for key, value in found.items() if "serial=root" in str(value).split(",")]
    assert not [key for key in found if key.startswith("unused")]
    return *where, str(found["boot"]).removeprefix("order=")


async def test_its_own_disk_is_on_the_bus_that_is_said_and_moves_with_it(made: Bench) -> None:
    await up(made, foreign("sata", OLD))
    assert own(made) == ("sata0", "sata0;sata1")
    assert drives(made)["sata1"] == "serial=old,size=1G"
    volume = config(made)["sata0"].split(",")[0]
    found = await seen(made)
    assert found is not None
    assert not found.drift
    for bus in ("ide", "scsi", "virtio", "sata"):
        todo = await change(made, foreign(bus, OLD))
        assert [type(step) for step in todo.steps] == [Stop, Update, Boot], "the same disk, at its next start"
        slot = "sata0" if bus == "sata" else f"{bus}0"
        assert own(made) == (slot, f"{slot};sata1")
        assert config(made)[slot].split(",")[0] == volume
        found = await seen(made)
        assert found is not None
        assert not found.drift


async def test_an_order_that_nobody_said_follows_its_own_disk(made: Bench) -> None:
    await up(made, foreign("scsi"))
    assert own(made) == ("scsi0", "scsi0")
    await change(made, foreign("virtio"))
    assert own(made) == ("virtio0", "virtio0")


async def test_an_empty_disk_is_made_on_its_bus(made: Bench) -> None:
    await up(made, lab(image=Image(base="none"), disk=4 * GIB, bus="sata", ready=Ready("none"), cdroms=("/a.iso",)))
    assert own(made) == ("sata0", "sata0;ide2")


async def test_a_machine_without_disks_is_as_it_was(made: Bench) -> None:
    await up(made, lab())
    assert config(made)["hotplug"] == "network,usb"
    found = await seen(made)
    assert found is not None
    assert (found.disks, found.plugs) == ((), Plugs())


async def test_disks_come_grow_and_go_while_the_machine_runs(made: Bench) -> None:
    await up(made, lab(DATA, FLASH))
    more = Disk("more", GIB, bus="scsi", serial="more")
    todo = await change(made, lab(replace(DATA, size=30 * GIB), more))
    assert [type(step) for step in todo.steps] == [Discard, Update]
    assert todo.losses[0].way == "live"
    assert drives(made) == {"scsi1": "serial=more,size=1G", "virtio15": "serial=data,size=30G"} or drives(made) == {
        "scsi2": "serial=more,size=1G",
        "virtio15": "serial=data,size=30G",
    }
    assert not [key for key in config(made) if key.startswith("unused")]
    found = await seen(made)
    assert found is not None
    assert not found.drift


async def test_a_first_disk_takes_a_restart_and_no_disk(made: Bench) -> None:
    await up(made, lab())
    root = config(made)["virtio0"]
    todo = await change(made, lab(DATA))
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert not todo.losses
    assert config(made)["virtio0"] == root


async def test_a_disk_that_moves_to_another_bus_keeps_its_volume(made: Bench) -> None:
    await up(made, lab(DATA))
    volume = config(made)["virtio15"].split(",")[0]
    todo = await change(made, lab(replace(DATA, bus="sata", serial="D2")))
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert config(made)["sata0"] == f"{volume},serial=D2,size=20G"
    assert not [key for key in config(made) if key.startswith(("unused", "virtio15"))]


async def test_a_disk_that_somebody_detached_is_seen_and_put_back(made: Bench) -> None:
    await up(made, lab(DATA))
    await made.api.task(str(await made.api.create(f"{_base(made)}/config", {"delete": "virtio15"})))
    found = await seen(made)
    assert found is not None
    assert [each.what for each in found.drift] == ["virtio15 is gone, wanted serial=data"]
    await change(made, lab(DATA))
    assert drives(made) == {"virtio15": "serial=data,size=20G"}


NONE = {"image": Image(base="none"), "disk": 4 * GIB, "cdroms": ("/a.iso",), "boot": ("cdrom", "disk")}


async def test_a_machine_without_an_image_has_an_empty_disk_and_boots_in_its_order(made: Bench) -> None:
    await up(made, lab(OLD, **NONE))
    there = config(made)
    assert there["virtio0"].endswith("serial=root,size=4G")
    assert there["ide2"].startswith(f"local:iso/nestlab-{ISO}.iso,media=cdrom")
    assert there["boot"] == "order=ide2;virtio0;sata0"
    found = await seen(made)
    assert found is not None
    assert found.ready
    assert not found.drift
    todo = await change(made, lab(OLD, **{**NONE, "boot": ("disk",)}))
    assert [type(step) for step in todo.steps] == [Stop, Update, Boot]
    assert config(made)["boot"] == "order=virtio0;sata0"


async def test_a_cdrom_that_is_wanted_no_more_is_taken_out(made: Bench) -> None:
    await up(made, lab(OLD, **NONE))
    await change(made, lab(OLD, **{**NONE, "cdroms": (), "boot": ("disk",)}))
    assert "ide2" not in config(made)


async def test_what_is_written_on_each_disk_is_told(made: Bench) -> None:
    await up(made, lab(DATA))
    engine = made.engine()
    await engine.observe()
    (written,) = (await engine.written(["web"])).values()
    assert dict(written.disks).keys() == {DATA.made().id}


def _base(made: Bench) -> str:
    return f"/nodes/pve1/qemu/{made.fake.world.guests[max(made.fake.world.guests)].vmid}"
