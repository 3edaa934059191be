"""A lab on a libvirt is refused before anything is made where libvirt's QEMU is too old for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home.paths import Place
from nestlab.hosts.facts import Facts
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Version
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image, Lab, Machine
from nestlab.lab.places import Libvirt
from nestlab.verbs.libvirt_platform import LibvirtPlatform
from test_qemu_engine import settled

LAB = Lab("pair", Libvirt("qemu:///system"), machines=(Machine("web", image=Image(base="tiny"), accel="tcg"),))


class WithoutKvm(LocalHost):
    async def facts(self) -> Facts:
        return Facts()


def platform(version: Version | None) -> LibvirtPlatform:
    async def told() -> Version | None:
        return version

    def nobody(lab: str, parent: object) -> object:
        raise AssertionError

    return LibvirtPlatform(WithoutKvm(), nobody, Path("/nonexistent"), Place("/nonexistent"), told)  # type: ignore[arg-type]


@pytest.fixture
def blueprint() -> Blueprint:
    return settled(LAB)


async def test_an_emulated_machine_takes_a_qemu_that_emulates_well(blueprint: Blueprint) -> None:
    [told] = await platform((10, 0, 0)).outlook(blueprint, ["web"])
    assert told.accel == "tcg"
    with pytest.raises(
        LabError, match=r"libvirt's QEMU is 7\.2\.22, and web takes 10\.0\.0 or newer, as it is emulated"
    ):
        await platform((7, 2, 22)).outlook(blueprint, ["web"])


async def test_a_libvirt_that_does_not_say_what_it_runs_runs_nothing(blueprint: Blueprint) -> None:
    with pytest.raises(LabError, match="does not say which QEMU"):
        await platform(None).outlook(blueprint, ["web"])


async def test_a_lab_that_starts_nothing_asks_libvirt_nothing(blueprint: Blueprint) -> None:
    assert await platform(None).outlook(blueprint, []) == ()
