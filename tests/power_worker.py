"""Writes state of nestlab for ever, or looks at what a power cut left of it: run inside a machine whose power is cut.

power_worker.py work FOLDER [ROOT]: a line on stdout for each thing done.
power_worker.py check FOLDER [ROOT]: looks at all of it, goes on from there, and says `whole CONTROLS` at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path

from nestlab.doctor.finding import Remedy, Write
from nestlab.doctor.surgery import Surgeon
from nestlab.home import labs
from nestlab.home.directories import Home
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.facts import Facts
from nestlab.hosts.local import LocalHost
from nestlab.lab import addresses, blueprint_file
from nestlab.lab.model import GIB
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import session
from nestlab.verbs.rename import renaming
from nestlab.verbs.site import Site

LAB = "lab: %s\nsegments: {wire: }\nmachines:\n" + "".join(
    f"  m{number}: {{image: tiny, memory: %dM, segments: [wire]}}\n" for number in range(3)
)
NAMES = ("pair", "demo")

CONF = "/etc/modprobe.d/power.conf"
BEFORE = "# of the user's\noptions kvm ignore_msrs=0\n"
MODE = 0o640


class Worker:
    """A lab of pretended machines, and a file of the host that the doctor edits."""

    def __init__(self, folder: Path, root: str) -> None:
        self.folder = folder
        self.root = root
        self.conf = Path(root + CONF)
        self.world = FakeWorld(Facts(cpus=4, memory=64 * GIB, memory_available=64 * GIB))
        self.home = Home(folder / "state", folder / "cache")
        self.site = Site(self.home, self.world.host, self.world.engine, {"kvm": self.world.engine}, needs=lambda: ())
        self.name = next(iter(self.home.labs()), NAMES[0])

    async def up(self, memory: int) -> None:
        file = self.folder / "lab.yaml"
        file.write_text(LAB % (self.name, memory, memory, memory))
        lab, source = session.read(file, {})
        async with session.changing(self.site, "up", lab=lab, source=source) as opened:
            await opened.apply(opened.plan("running"), lambda _: None)

    async def stop(self) -> None:
        async with session.changing(self.site, "stop", name=self.name) as opened:
            await opened.apply(opened.plan("stopped"), lambda _: None, verb="stop")

    async def rename(self) -> None:
        other = NAMES[1 - NAMES.index(self.name)]
        await self.stop()
        async with renaming(self.site, self.name, other, {}) as found:
            await found.perform()
        self.world.rename(self.name, other)
        self.name = other

    async def down(self) -> None:
        async with session.changing(self.site, "down", name=self.name) as opened:
            await opened.apply(opened.plan("gone"), lambda _: None, verb="down")
            session.forget(opened.place)

    async def fix(self, number: int) -> None:
        content = f"{BEFORE}options kvm_intel nested={number % 2} # {number} {'x' * (number % 50) * 100}\n"
        change = Write(CONF, content, self.conf.read_text(), MODE)
        await self.surgeon().fix([Remedy("power", (change,))])

    async def undo(self) -> None:
        await self.surgeon().undo()

    def surgeon(self) -> Surgeon:
        return Surgeon(LocalHost(), lambda _: None, self.root)


async def work(worker: Worker) -> None:
    """For ever, each time another lab and another edit; beside it, a file that nobody syncs."""
    if not worker.conf.exists():
        worker.conf.parent.mkdir(parents=True, exist_ok=True)
        worker.conf.write_text(BEFORE)
        worker.conf.chmod(MODE)
    controls = worker.folder / "controls"
    controls.mkdir(exist_ok=True)
    done = itertools.count()
    print("begun", flush=True)
    for number in itertools.count():
        (controls / f"{number}").write_text("never synced\n")
        print(next(done), "up", flush=True)
        await worker.up(128 + number % 7)
        print(next(done), "fix", flush=True)
        await worker.fix(number)
        if number % 3 == 1:
            print(next(done), "rename", flush=True)
            await worker.rename()
        if number % 3 == 2:
            print(next(done), "undo", flush=True)
            await worker.undo()
        if number % 5 == 4:
            print(next(done), "down", flush=True)
            await worker.down()


async def check(worker: Worker) -> None:
    """AssertionError or LabError for anything that is not whole, or that keeps nestlab from going on."""
    for name in worker.home.labs():
        place = worker.home.lab(name)
        for file in (place.blueprint, place.applied):
            found = blueprint_file.load(file, name)
            assert found is None or found.specs, file
        if place.leases.exists():
            addresses.leases_from_json(place.leases.read_text())
        if (place.root / labs.NAME).exists():
            assert labs.load(place) is not None
        if place.blueprint.exists():
            assert LabKeys(place.root).authorized.startswith("ssh-ed25519 ")
        for key in place.root.glob("keys/????????"):
            assert json.loads(key.read_text())["private"], key
    text = worker.conf.read_text()
    assert text == BEFORE or (text.startswith(BEFORE) and text.endswith("\n") and " # " in text), text[-200:]
    await worker.undo()
    assert worker.conf.read_text() == BEFORE
    assert worker.conf.stat().st_mode & 0o777 == MODE
    assert not [*Path(f"{worker.root}/var/lib/nestlab").glob("doctor/*")]
    await worker.up(200)
    assert len([each for each in worker.world.machines.values() if each.state == "running"]) == 3
    assert not [*worker.folder.rglob("*.new")]
    await worker.rename()
    await worker.up(201)
    await worker.down()
    assert worker.home.labs() == []
    whole = [file for file in (worker.folder / "controls").glob("*") if file.read_text() == "never synced\n"]
    print("whole", len(whole), flush=True)


def main(words: list[str]) -> None:
    worker = Worker(Path(words[1]), words[2] if len(words) > 2 else "")
    asyncio.run(work(worker) if words[0] == "work" else check(worker))


if __name__ == "__main__":
    main(sys.argv[1:])
