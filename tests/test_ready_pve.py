"""Machines on a Proxmox VE that nestlab does not log in to: up by agent, port or console; proven by what PVE tells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.base.picture import Picture
from nestlab.engines.pve import hardware
from nestlab.engines.pve.readiness import nests
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.places import Pve
from nestlab.lab.readiness import Ready
from nestlab.plan.steps import Boot, Create, Introduce
from nestlab.testing.fake_pve.fake import FakePve
from pve_lab import ONE, Bench, assert_valid, bench, cluster, seen
from test_screen_pictures import written
from waiting import LONG, until


@pytest.fixture
def pve() -> Iterator[FakePve]:
    with cluster("pve1") as fake:
        yield fake
        assert_valid(fake)


def shut(ready: Ready, *, foreign: bool = False) -> Blueprint:
    [spec] = ONE.specs
    kind = "other" if foreign else None
    machine = replace(spec.machine, ready=ready, foreign=foreign, hypervisor=kind)
    return replace(ONE, specs=(replace(spec, machine=machine),))


async def brought_up(made: Bench, lab: Blueprint) -> bool:
    engine = made.engine()
    await engine.perform(Create("", "web"), lab, made.say)
    await engine.perform(Boot("", "web"), lab, made.say)
    there = await seen(made)
    assert there is not None
    assert there.ready
    return await engine.is_up(lab.specs[0])


@pytest.mark.parametrize("ready", [Ready("none"), Ready("agent"), Ready("console", pattern="^starting serial")])
async def test_it_is_up_by_what_its_lab_file_says(ready: Ready, pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        assert await brought_up(made, shut(ready))
        assert not any("ssh" in each for each in made.said), made.said


async def test_a_console_that_shows_something_else_is_waited_for(pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        lab, engine = shut(Ready("console", pattern="never")), made.engine()
        await engine.perform(Create("", "web"), lab, made.say)
        booting = asyncio.ensure_future(engine.perform(Boot("", "web"), lab, made.say))
        await until(lambda: booting.done() or "waiting for its console to show never" in made.said)
        await asyncio.wait({booting}, timeout=1)
        assert not booting.done()
        booting.cancel()
        await asyncio.wait({booting})
        there = await seen(made)
        assert there is not None
        assert not there.ready


def shown(pve: FakePve, picture: Picture) -> None:
    for guest in pve.world.guests.values():
        guest.screen = picture


async def test_a_screen_that_stands_still_is_that_of_a_machine_that_is_up(pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        lab, engine = shut(Ready("screen", still=1)), made.engine()
        await engine.perform(Create("", "web"), lab, made.say)
        shown(pve, written("SeaBIOS (version 1.16.3)", "Booting from Hard Disk..."))
        booting = asyncio.ensure_future(engine.perform(Boot("", "web"), lab, made.say))
        await until(lambda: booting.done() or pve.calls("POST", "vncproxy")[1:])
        await asyncio.wait({booting}, timeout=1)
        assert not booting.done()
        there = await seen(made)
        assert there is not None
        assert not there.ready
        shown(pve, written("login:"))
        async with asyncio.timeout(LONG):
            await booting
        assert await engine.is_up(lab.specs[0])
        assert "waiting for its screen to stand still for 1 s" in made.said


async def test_a_screen_of_death_is_none_of_a_machine_that_is_up(pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        lab, engine = shut(Ready("screen", still=1)), made.engine()
        await engine.perform(Create("", "web"), lab, made.say)
        shown(pve, written("No bootable device."))
        async with asyncio.timeout(LONG):
            with pytest.raises(LabError, match="did not come up: by its screen, nothing on its disks boots"):
                await engine.perform(Boot("", "web"), lab, made.say)


def test_a_screen_that_cannot_be_fetched_is_refused_before_anything_is_made() -> None:
    lab = shut(Ready("screen", still=1))
    assert hardware.refused(lab, Pve("pve://pve1")) == []
    [said] = hardware.refused(lab, Pve("pve+ssh://pve1"))
    assert "no screen can be fetched over pve+ssh" in said


async def test_nobody_is_told_names_by_a_login(pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        lab = shut(Ready("none"))
        await brought_up(made, lab)
        other = replace(lab, specs=(replace(lab.specs[0], hosts="after"),))
        await made.engine().perform(Introduce("", "web"), other, made.say)
        there = await seen(made)
        assert there is not None
        assert there.names == other.specs[0].names


async def test_what_its_cpu_shows_is_said_by_its_configuration(pve: FakePve, tmp_path: Path) -> None:
    async with bench(pve, tmp_path) as made:
        await brought_up(made, shut(Ready("none"), foreign=True))
        assert await made.engine().shown("web") == ("vmx or svm", "its configuration (cpu: host)")


@pytest.mark.parametrize(
    ("cpu", "does"),
    [
        ("host", True),
        ("cputype=max,flags=+aes", True),
        ("EPYC,flags=+aes;+nested-virt", True),
        ("x86-64-v2-AES", False),
        ("EPYC", False),
        ("kvm64,hidden=1", False),
    ],
)
def test_which_cpus_nest(cpu: str, does: bool) -> None:
    assert nests(cpu) is does


def test_a_port_that_nothing_leads_to_is_refused_before_anything_is_made() -> None:
    [said] = hardware.refused(shut(Ready("port", port=3389)), Pve("pve://pve1"))
    assert "no port of it can be reached from here" in said
    assert hardware.refused(shut(Ready("agent")), Pve("pve://pve1")) == []
