"""`nestlab rename` of a lab on a Proxmox VE: its machines get the name there, and none is ever lost on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.pve import hardware, tags
from nestlab.engines.pve.hardware import Wire
from nestlab.engines.pve.tags import LabNames, Mark
from nestlab.home import former_names, labs
from nestlab.home.directories import Home
from nestlab.lab.blueprint import Blueprint
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.world import Guest
from nestlab.verbs import session as verbs
from nestlab.verbs.rename import renaming
from pve_lab import assert_valid, bench, cluster
from pve_session import Labs, quiet

ALL = {"hv1", "hv1/web", "hv2", "hv2/web"}


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve


@pytest.fixture
async def home(fake: FakePve, tmp_path: Path) -> AsyncIterator[Labs]:
    async with bench(fake, tmp_path / "labs") as found:
        yield Labs(fake, Home(tmp_path / "state", tmp_path / "cache"), found, tmp_path)
        assert_valid(fake)


def machines(fake: FakePve) -> dict[int, Guest]:
    return {vmid: guest for vmid, guest in fake.vms.items() if not guest.template}


def marks(fake: FakePve) -> dict[int, Mark]:
    found = {vmid: tags.read(str(guest.config["description"]), vmid) for vmid, guest in machines(fake).items()}
    return {vmid: mark for vmid, mark in found.items() if mark is not None}


async def rename(home: Labs, name: str, new: str) -> None:
    async with renaming(home.site, name, new, {}) as ready:
        await ready.perform()
    for (lab, path), machine in list(home.bench.inside.machines.items()):
        if lab == name:
            home.bench.inside.machines[new, path] = machine
            del home.bench.inside.machines[lab, path]


async def change(home: Labs, name: str, verb: str, want: Any) -> Any:
    async with verbs.changing(home.site, verb, name=name) as session:
        todo = session.plan(want)
        await session.apply(todo, quiet, verb=verb)
        return todo


def cards(fake: FakePve) -> dict[tuple[int, str], str]:
    """The MAC address of every card."""
    return {
        (vmid, key): str(value).split(",")[0]
        for vmid, guest in machines(fake).items()
        for key, value in guest.config.items()
        if hardware.CARD.fullmatch(key)
    }


def made(home: Labs, name: str) -> Blueprint:
    from nestlab.lab import blueprint_file

    found = blueprint_file.load(labs.existing(home.home, name).blueprint, name)
    assert found is not None
    return found


async def test_a_renamed_lab_has_the_same_machines_disks_and_macs(home: Labs, fake: FakePve) -> None:
    await home.up(on="{pve: 'pve://127.0.0.1', bridge: vmbr0}")
    before, macs = set(machines(fake)), cards(fake)
    disks = {vmid: guest.config.get("virtio0") for vmid, guest in machines(fake).items()}
    await change(home, "pair", "stop", "stopped")
    await rename(home, "pair", "demo")
    assert home.home.labs() == ["demo"]
    assert {mark.lab for mark in marks(fake).values()} == {"demo"}
    for guest in machines(fake).values():
        words = str(guest.config["tags"]).split(";")
        assert "nestlab-demo" in words
        assert "nestlab-pair" not in words
        assert str(guest.config["name"]).startswith("demo-hv")
    await change(home, "demo", "start", "running")
    assert set(machines(fake)) == before
    assert cards(fake) == macs
    assert {vmid: guest.config.get("virtio0") for vmid, guest in machines(fake).items()} == disks
    vnets = fake.world.sdn.applied["vnets"]
    assert [row["alias"] for row in vnets.values()] == ["nestlab demo wire"]
    assert all(f"bridge={next(iter(vnets))}" in str(guest.config["net0"]) for guest in machines(fake).values())
    async with verbs.looking(home.site, name="demo") as session:
        seen = (await session.look()).machines
        assert {path: each.state for path, each in seen.items()} == dict.fromkeys(ALL, "running")
        assert [each.drift for each in seen.values()] == [()] * 4
        assert not session.plan()
    await change(home, "demo", "down", "gone")
    assert not machines(fake)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("then", ["demo", "other"])
async def test_killed_among_the_machines_the_lab_has_all_of_them_and_goes_on(
    home: Labs, fake: FakePve, at: int, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.up()
    await change(home, "pair", "stop", "stopped")
    before = set(machines(fake))
    from nestlab.engines.pve import rename as module

    genuine, done = module._rename, list[int]()

    async def killed(*words: Any) -> None:
        await genuine(*words)
        done.append(1)
        if len(done) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_rename", killed)
    with pytest.raises(KeyboardInterrupt):
        await rename(home, "pair", "demo")
    monkeypatch.undo()
    assert len({mark.lab for mark in marks(fake).values()}) == (2 if at == 1 else 1)
    assert home.home.labs() == ["pair"]
    async with verbs.looking(home.site, name="pair") as session:
        seen = (await session.look()).machines
        assert {path for path, each in seen.items() if "/" not in path} == {"hv1", "hv2"}
        assert not [step for step in session.plan("running").steps if step.verb == "create" and "/" not in step.subject]
    await rename(home, "pair", then)
    assert home.home.labs() == [then]
    assert {mark.lab for mark in marks(fake).values()} == {then}
    assert not home.home.lab(then).rename.exists()
    await change(home, then, "start", "running")
    assert set(machines(fake)) == before
    await change(home, then, "down", "gone")
    assert not machines(fake)


async def test_a_lab_of_that_name_on_the_cluster_is_left_alone_and_said(home: Labs, fake: FakePve) -> None:
    await home.up()
    await change(home, "pair", "stop", "stopped")
    theirs = Mark("demo", "hv1", 900, digest="x")
    config: dict[str, Any] = {"description": tags.line(theirs), "tags": tags.tags("", theirs), "name": "demo-hv1"}
    with fake.world.lock:
        fake.world.guests[900] = Guest(900, "pve1", "qemu", config=config, machine=dict(config))
    with pytest.raises(LabError, match="has machines of another lab demo already: VM 900"):
        await rename(home, "pair", "demo")
    assert home.home.labs() == ["pair"]
    assert not home.home.lab("pair").rename.exists()
    assert {mark.lab for vmid, mark in marks(fake).items() if vmid != 900} == {"pair"}


async def test_a_machine_that_runs_is_named(home: Labs) -> None:
    await home.up()
    with pytest.raises(LabError, match=r"Machines of lab pair run: hv1"):
        await rename(home, "pair", "demo")


def test_tags_that_a_rollback_brought_back_still_lead_to_the_machine() -> None:
    names = LabNames("demo", ("pair",))
    assert names.may_own(("nestlab", "nestlab-pair"))
    assert not names.owns(Mark("pair", "hv1", 100)), "its notes decide: somebody may have made another pair"
    assert names.without("mine;nestlab-pair;nestlab-demo") == "mine"
    assert names.first == "pair"


def test_machines_of_somebody_elses_lab_are_not_taken_for_those_that_were_being_renamed() -> None:
    names = LabNames("pair", (), ("demo",), frozenset({100}))
    assert names.owns(Mark("demo", "hv1", 100))
    assert not names.owns(Mark("demo", "hv1", 101))


def test_a_card_follows_its_segment_and_keeps_all_else(home: Labs) -> None:
    from blueprints import pair

    spec = pair()["hv1"]
    was = "net0=virtio=02:AA,bridge=nlold,firewall=0,mtu=1400,tag=3"
    assert hardware.moved([was], spec, {"wire": Wire("nlnew", 7)}) == {
        "net0": "virtio=02:AA,bridge=nlnew,firewall=0,mtu=1400,tag=7"
    }
    assert hardware.moved([was], spec, {"wire": Wire("nlold", 3)}) == {}
    assert hardware.moved([], spec, {"wire": Wire("nlnew")}) == {}


def test_a_damaged_note_of_a_rename_is_not_guessed(tmp_path: Path) -> None:
    place = Home(tmp_path / "state", tmp_path / "cache").lab("pair")
    for text in ("no", "{}", '{"labs": ["../x"], "machines": []}', '{"labs": ["a"], "machines": ["b"]}'):
        place.rename.write_text(text)
        with pytest.raises(LabError, match="cannot be read"):
            former_names.intended(place)
    place.rename.write_text('{"labs": ["pair"], "machines": [1]}')
    assert former_names.intended(place) == ((), frozenset()), "it has that name already"
