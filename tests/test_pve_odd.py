"""What nestlab makes of a Proxmox VE that lies: one error that names it, or nothing, but never a crash."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

import blueprints
from nestlab.base.errors import LabError
from nestlab.engines.pve import guests, power
from nestlab.engines.pve.engine import PveEngine
from nestlab.engines.pve.images import Stock
from nestlab.engines.pve.migration import judge
from nestlab.images.image_files import Cache
from nestlab.plan.steps import Boot, Connect, Create, Remove, Stop
from nestlab.proxmox import setup
from nestlab.testing.fake_pve import FakePve
from nestlab.wire.pve import answers
from pve_lab import ONE, QUICK, Bench, bench, cluster, up
from pve_odd import Liar, liar

SEEDS = int(os.environ.get("NESTLAB_ODD_ANSWERS", "40"))
"""Runs of each test, each with other lies; `NESTLAB_ODD_ANSWERS=2000` looks for hours."""

WIRED = blueprints.draft("lab", blueprints.guest("web"), hosts="before")


@pytest.fixture
def fake() -> Iterator[FakePve]:
    with cluster("pve1", "pve2") as pve:
        yield pve


@pytest.fixture
async def made(fake: FakePve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(guests, "BUSY", QUICK)
    monkeypatch.setattr(guests, "LOCK_PATIENCE", 0.0)
    async with bench(fake, tmp_path) as found:
        yield found


def looks(engine: PveEngine, api: Liar, made: Bench, folder: Path) -> dict[str, Callable[[], Awaitable[object]]]:
    """Everything that only looks."""
    stock = Stock(api, made.on, Cache(folder), cache=folder)
    return {
        "observe": engine.observe,
        "glance": engine.glance,
        "routes": engine.routes,
        "platform": engine.platform,
        "check": lambda: engine.check(ONE, {"web"}),
        "outlook": lambda: engine.outlook(ONE, {"web"}),
        "accel": lambda: engine.accel("web"),
        "watched": engine.watched,
        "cpus": engine.cpus,
        "snapshots": lambda: engine.snapshots.all("web"),
        "migration": lambda: engine.migration.look("web", "pve2", hypervisor=False, inside=None),
        "setup plan": lambda: setup.plan(api, made.on, "lab@pve", "nestlab"),
        "setup check": lambda: setup.check(api, made.on, ("vmbr0",)),
        "images": stock.present,
    }


@pytest.mark.parametrize("share", [1.0, 0.3])
async def test_who_looks_at_a_proxmox_ve_that_lies_sees_one_error_or_nothing_odd(
    made: Bench, tmp_path: Path, share: float
) -> None:
    await up(made)
    refused = 0
    for seed in range(SEEDS):
        async with liar(made.fake, seed, share) as api:
            engine = made.engine_on(api)
            for what, look in looks(engine, api, made, tmp_path).items():
                try:
                    await look()
                except LabError:
                    refused += 1
                except Exception as error:
                    raise AssertionError(f"{what} with seed {seed}") from error
    assert refused > SEEDS


async def test_who_works_on_a_proxmox_ve_that_lies_fails_with_one_error_and_touches_nothing_of_others(
    made: Bench, fake: FakePve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "START", 1.0)
    mine = await made.api.get("/cluster/nextid")
    await made.api.task(await made.api.create("/nodes/pve1/qemu", {"vmid": mine, "name": "another"}))
    for seed in range(SEEDS // 2):
        async with liar(fake, seed, 0.1) as api:
            engine = made.engine_on(api)
            steps = (Connect("", "wire"), Create("", "web"), Boot("", "web"), Stop("", "web"), Remove("", "web"))
            for step in steps:
                try:
                    async with asyncio.timeout(20):
                        await engine.perform(step, ONE, made.say)
                except (LabError, TimeoutError):
                    continue
                except Exception as error:
                    raise AssertionError(f"{step} with seed {seed}") from error
        assert fake.vms[mine].config["name"] == "another"


async def test_who_moves_or_breaks_a_machine_on_a_proxmox_ve_that_lies_loses_nothing_of_others_and_not_the_machine(
    made: Bench, fake: FakePve
) -> None:
    await up(made)
    mine = await made.api.get("/cluster/nextid")
    await made.api.task(await made.api.create("/nodes/pve1/qemu", {"vmid": mine, "name": "another"}))
    moved = 0
    for seed in range(SEEDS // 2):
        async with liar(fake, seed, 0.1) as api:
            engine = made.engine_on(api)

            async def move(engine: PveEngine = engine) -> None:
                nonlocal moved
                for node in ("pve1", "pve2"):
                    with contextlib.suppress(LabError):
                        found = await engine.migration.look("web", node, hypervisor=False, inside=())
                        if (ruling := judge(found)).allowed:
                            await engine.migration.go(found, ruling, made.say)
                            moved += 1

            attempts: dict[str, Callable[[], Awaitable[object]]] = {
                "moving": move,
                "a cable out": lambda engine=engine: engine.link(WIRED["web"], "wire", up=False),  # type: ignore[misc]
                "a cable in": lambda engine=engine: engine.link(WIRED["web"], "wire", up=True),  # type: ignore[misc]
                "its power": lambda engine=engine: engine.kill("web"),  # type: ignore[misc]
            }
            for what, attempt in attempts.items():
                try:
                    async with asyncio.timeout(20):
                        await attempt()
                except (LabError, TimeoutError):
                    continue
                except Exception as error:
                    raise AssertionError(f"{what} with seed {seed}") from error
        assert fake.vms[mine].config["name"] == "another"
        assert len(fake.vms) >= 2
        assert "web" in (await made.engine_on(made.api).observe()).machines, f"lost with seed {seed}"
    assert moved


# -- against recordings of a real one, which are not part of the repository

RECORDINGS = Path(os.environ.get("NESTLAB_PVE_RECORDINGS") or "recordings-nowhere") / "http"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs recordings of a Proxmox VE")
def test_every_answer_of_a_real_one_is_what_nestlab_takes() -> None:
    taken = 0
    for file in sorted(RECORDINGS.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            asked, got = row["request"], row["response"]
            path = unquote(re.sub(r"^(http://HOST:8006)?/api2/json", "", asked["path"])).partition("?")[0]
            if got["status"] != 200 or not isinstance(got["body"], dict):
                continue
            if answers.reader_of(asked["method"], path) is not None:
                answers.answered(got["body"].get("data"), row["name"], asked["method"], path)
                taken += 1
    assert taken > 500
