"""The engine for a Proxmox VE leads the life of every engine, on a FakePve over HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blueprints import draft, guest, hypervisor
from engine_contract import Stage, live_through
from nestlab.lab.blueprint import Blueprint
from nestlab.verbs.nest import Nest
from pve_lab import Bench, assert_valid, bench, cluster


def stage(made: Bench) -> Stage:
    world = made.inside

    @contextmanager
    def refusal() -> Iterator[None]:
        world.refuse("boot:hv1/web")
        yield

    async def kill(nest: Nest) -> None:
        world.kill("lab", "hv1/web")

    def nest(blueprint: Blueprint, previous: Blueprint | None) -> Nest:
        inside = {"kvm": world.engine}
        return Nest(blueprint, world.host(), made.engine, inside, previous=previous)

    return Stage(
        lab=draft("lab", hypervisor("hv1", guest("web")), guest("lone"), hosts="before"),
        changed=draft("lab", hypervisor("hv1", guest("web", memory=256)), guest("lone"), hosts="after"),
        enlarged=draft("lab", hypervisor("hv1", guest("web", memory=256), memory=2048), guest("lone"), hosts="after"),
        inner="hv1/web",
        nest=nest,
        refusal=refusal,
        kill=kill,
    )


@pytest.mark.parametrize("version", ["8.4", "9.1", "9.2"])
async def test_the_engine_for_a_pve_lives_the_life_of_every_engine(tmp_path: Path, version: str) -> None:
    with cluster("pve1", "pve2", version=version) as fake:
        async with bench(fake, tmp_path) as made:
            await live_through(stage(made))
        left = [guest for guest in fake.vms.values() if not guest.template]
        assert left == []
        assert fake.world.sdn.applied["vnets"] == {}
        uploads = [volid for volid in fake.volumes if ":import/" in volid and "cargo" not in volid]
        assert uploads == [], "the identities, which hold secrets, are gone"
        assert_valid(fake)
