"""The verbs on a FakePve: sessions whose labs are on it, with pretended images, agents and machines inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nestlab.base.events import Event
from nestlab.engines.pve.tags import LabNames
from nestlab.home import former_names
from nestlab.home.directories import Home, LabHome
from nestlab.lab.places import On, Pve
from nestlab.plan.steps import Plan, Want
from nestlab.proxmox.platform import ProxmoxPlatform, Reached
from nestlab.testing.fake_engine import FakeWorld
from nestlab.testing.fake_pve import FakePve
from nestlab.verbs import session as verbs
from nestlab.verbs.session import Session
from nestlab.verbs.site import Site
from pve_lab import Bench, client

PAIR = (Path(__file__).parent.parent / "examples" / "pair.yaml").read_text()


def quiet(event: Event) -> None:
    """Nobody listens."""


@dataclass
class Labs:
    """A home, and a site where labs on a Proxmox VE are on the FakePve of `bench`."""

    fake: FakePve
    home: Home
    bench: Bench
    folder: Path
    local: FakeWorld | None = None
    """Where labs are that are not on it, if a test has such."""

    @property
    def site(self) -> Site:
        def platform(place: LabHome, on: On, named: bool) -> ProxmoxPlatform:
            assert isinstance(on, Pve)
            self.bench.on = on
            names = LabNames(place.name, former_names.load(place), *former_names.intended(place))
            engine = self.bench.engine(place.name, memory=place.root / "pve.json", names=names)
            reached = Reached(client(self.fake))
            return ProxmoxPlatform(place, on, self.home, lambda: reached, _reached=reached, _engine=engine)

        world = self.local or self.bench.inside
        return Site(self.home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: (), elsewhere=platform)

    def file(self, text: str = PAIR, on: str = "pve://127.0.0.1") -> Path:
        path = self.folder / "lab.yaml"
        path.write_text(text.replace("lab: pair\n", f"lab: pair\non: {on}\n", 1))
        return path

    @asynccontextmanager
    async def wanted(self, text: str = PAIR, on: str = "pve://127.0.0.1") -> AsyncIterator[Session]:
        lab, source = verbs.read(self.file(text, on), {})
        async with verbs.changing(self.site, "up", lab=lab, source=source) as session:
            yield session

    async def up(self, text: str = PAIR, on: str = "pve://127.0.0.1") -> Plan:
        async with self.wanted(text, on) as session:
            todo = session.plan()
            await session.check(todo)
            await session.apply(todo, quiet)
            await session.look()
            assert not session.plan()
            return todo

    async def change(self, verb: str, want: Want, *machines: str) -> Plan:
        async with verbs.changing(self.site, verb, name="pair") as session:
            todo = session.plan(want, machines)
            await session.apply(todo, quiet, verb=verb)
            if want == "gone" and not machines:
                verbs.forget(session.place)
            return todo

    async def states(self) -> dict[str, str]:
        async with verbs.looking(self.site, name="pair") as session:
            return {path: seen.state for path, seen in (await session.look()).machines.items()}
