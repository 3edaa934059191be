"""Firmware and a TPM of machines on a Proxmox VE: their disks come, stay, change and go with what a lab file says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blueprints import draft, guest
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.hardware import Hardware, Smbios
from nestlab.plan.steps import Boot, Stop, Update
from nestlab.testing.fake_pve import FakePve
from pve_lab import Bench, assert_valid, bench, cluster, config, seen, up


def lab(hardware: Hardware) -> Blueprint:
    return draft("lab", replace(guest("web", on=("wire",)), hardware=hardware), hosts="before")


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster() as made:
        yield made


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(fake, tmp_path) as found:
        yield found


async def changed(made: Bench, hardware: Hardware) -> None:
    """Stopped, told the new definition, started: as `up` does it."""
    engine = made.engine()
    await engine.perform(Stop("", "web"), lab(hardware), made.say)
    await engine.perform(Update("", "web"), lab(hardware), made.say)
    await engine.perform(Boot("", "web"), lab(hardware), made.say)


async def drifted(made: Bench) -> tuple[str, ...]:
    found = await seen(made)
    assert found is not None
    return tuple(each.what for each in found.drift)


async def test_firmware_and_a_tpm_come_stay_and_go(made: Bench) -> None:
    await up(made, lab(Hardware(firmware="secure", tpm=True, watchdog=True, smbios=Smbios("S"))))
    first = dict(config(made))
    assert first["bios"] == "ovmf"
    assert "pre-enrolled-keys=1" in first["efidisk0"]
    assert "version=v2.0" in first["tpmstate0"]
    assert await drifted(made) == ()
    await changed(made, Hardware(firmware="secure", tpm=True, display=True))
    again = dict(config(made))
    assert (again["efidisk0"], again["tpmstate0"]) == (first["efidisk0"], first["tpmstate0"])
    assert again["vga"] == "type=std"
    assert not {"watchdog", "smbios1"} & again.keys()
    await changed(made, Hardware(firmware="uefi"))
    other = config(made)
    assert "pre-enrolled-keys=0" in other["efidisk0"]
    assert not [key for key in other if key.startswith(("tpmstate", "unused"))], "what was on them is gone"
    await changed(made, Hardware())
    assert "bios" not in config(made)
    assert await drifted(made) == ()
    assert_valid(made.fake)


async def test_a_firmware_that_somebody_changed_is_seen(made: Bench) -> None:
    await up(made, lab(Hardware(firmware="uefi")))
    config(made)["bios"] = "seabios"
    assert any("bios is seabios, wanted ovmf" in what for what in await drifted(made))
