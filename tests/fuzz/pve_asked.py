"""What nestlab asks a Proxmox VE, from the client up: each a coroutine that is given an Api and a directory."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import blueprints
from fuzz.said import printed
from nestlab.base.errors import LabError
from nestlab.engines.pve.engine import Environment, PveEngine
from nestlab.engines.pve.images import Stock
from nestlab.engines.pve.protocols import Stream
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host, Result
from nestlab.images.image_files import Cache
from nestlab.lab.places import Pve
from nestlab.plan import planner
from nestlab.plan.steps import Boot, Create, Remove, Stop
from nestlab.proxmox import setup
from nestlab.show import machine_table, render
from nestlab.testing.fake_engine import FakeHost, FakeWorld
from nestlab.testing.fake_machine import FakeMachine
from nestlab.wire.pve.agent import Agent
from nestlab.wire.pve.client import Pve as Client

LAB = blueprints.draft("lab", blueprints.hypervisor("hv1", blueprints.guest("in")), blueprints.guest("web"))
ON = Pve("pve://pve.test")
OUTER = frozenset({"hv1", "web"})

Asking = Callable[[Client, Path], Awaitable[None]]


class Door:
    """A guest agent that answers."""

    async def wait(self, timeout: float, alive: Callable[[], Awaitable[bool]] | None = None) -> None:
        if alive is not None:
            await alive()

    async def run(
        self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> Result:
        return Result(tuple(argv), 0, b"", b"")

    async def addresses(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    async def open(self, port: int) -> Sequence[str]:
        return ()

    async def stream(self, port: int) -> Stream:
        raise LabError("It has no stream.")


def engine(api: Client, place: Path) -> PveEngine:
    """The engine of LAB; what is inside its machines is pretended."""
    from pve_lab import PretendStock

    world = FakeWorld()
    for spec in LAB.specs:
        world.machines["lab", spec.path] = FakeMachine(spec.digest, spec.names, "running")

    def host(node: str, vmid: int, path: str, user: str, direct: bool) -> Host:
        return FakeHost(world, "lab", path)

    stock = PretendStock(api, ON, set(LAB.images))
    keys = LabKeys(place / "keys")
    return PveEngine(Environment("lab", ON, api, keys, stock, lambda *_: Door(), host, place / "pve.json"))


async def observe(api: Client, place: Path) -> None:
    found = await engine(api, place).observe()

    def show() -> None:
        rows = machine_table.rows(LAB, found, 1_800_000_000.0)
        print(machine_table.head("lab", rows), machine_table.table(rows), sep="\n")
        json.dumps(machine_table.data("lab", rows), allow_nan=False)
        for want in ("running", "gone"):
            print(render.plan(planner.plan(LAB, found, want, previous=LAB), LAB))

    printed(show)


async def glance(api: Client, place: Path) -> None:
    await engine(api, place).glance()


async def platform(api: Client, place: Path) -> None:
    asked = engine(api, place)
    basis = await asked.platform()
    printed(lambda: print(basis.line))
    assert isinstance(await asked.cpus(), int)
    await asked.routes()
    await asked.watched()


async def check(api: Client, place: Path) -> None:
    asked = engine(api, place)
    notes = await asked.check(LAB, OUTER)
    printed(lambda: print("\n".join(notes)))
    await asked.outlook(LAB, OUTER)


async def up(api: Client, place: Path) -> None:
    asked = engine(api, place)
    for path in sorted(OUTER):
        await asked.perform(Create("", path), LAB, print)
        await asked.perform(Boot("", path), LAB, print)


async def down(api: Client, place: Path) -> None:
    asked = engine(api, place)
    await asked.written(sorted(OUTER))
    for path in sorted(OUTER):
        await asked.perform(Stop("", path), LAB, print)
        await asked.perform(Remove("", path), LAB, print)


async def agent(api: Client, place: Path) -> None:
    door = Agent(api, "pve1", 100, "hv1", silence=10)
    await door.wait(60)
    await door.run(["ls", "-l"], input="é\0".encode(), check=False, timeout=200)
    await door.addresses()
    await door.text("/etc/hostname")


async def checked(api: Client, place: Path) -> None:
    points = await setup.check(api, ON)
    printed(lambda: print("\n".join(f"{each.what} {each.ok} {each.seen} {each.do}" for each in points)))


async def planned(api: Client, place: Path) -> None:
    await setup.plan(api, ON, "root@pam", "nestlab")


async def images(api: Client, place: Path) -> None:
    stock = Stock(api, ON, Cache(place / "cache"), cache=place / "cache")
    await stock.present()
    await stock.unused()


ASKED: dict[str, Asking] = {
    each.__name__: each for each in (observe, glance, platform, check, up, down, agent, checked, planned, images)
}


Answers = dict[str, list[list[Any]]]
"""By method and path: what is answered, one after the other: status, reason, body."""
