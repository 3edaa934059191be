"""Files that nestlab wrote itself, of another version, of another lab, or damaged: a lab's directory read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import blueprints
from fuzz import clock, mutate
from fuzz.said import instead, printed, printed_json
from fuzz.target import shown
from nestlab.base.errors import LabError
from nestlab.base.printable import printable
from nestlab.cli import consent, lab_work, light_status
from nestlab.cli.consent import Consent
from nestlab.doctor.change_record import Record
from nestlab.engines.pve.remembered import Memory
from nestlab.home import former_names, journal, labs, last_seen, lock_holder, step_times
from nestlab.home.directories import Home, LabHome
from nestlab.home.speeds import Speeds
from nestlab.lab import addresses, blueprint_file
from nestlab.lab.blueprint import Leases, Subnet
from nestlab.testing.fake_engine import FakeWorld
from nestlab.verbs import session as verbs
from nestlab.verbs.site import Site

LAB = blueprints.pair()

LEASES = Leases(
    {"wire": Subnet("10.77.0.0/24", "fd77::/64")}, {"hv1@wire": ("10.77.0.2", "fd77::2")}, {1: "10.100.0.0/24"}
)

RECORD: dict[str, Any] = {
    "version": 1,
    "boot_id": "b",
    "made": ["/etc/modprobe.d"],
    "files": {
        "/etc/default/grub": {
            "content": "eA==",
            "mode": 420,
            "uid": 0,
            "gid": 0,
            "wrote": ["eA=="],
            "mixed": False,
            "open": False,
        }
    },
    "parameters": {"kvm.ignore_msrs": "N"},
    "modules": {"kvm_intel": "N"},
    "tasks": [
        {"kind": "Write", "change": {"path": "/etc/modprobe.d/x.conf", "content": "x"}, "done": False},
        {"kind": "Run", "change": {"argv": ["update-grub"]}, "done": True},
    ],
    "undone": False,
}

JOURNAL = (
    '{"event": "began", "verb": "up", "at": 1.0, "lab": "pair"}\n'
    '{"event": "started", "step": "boot:hv1", "why": "x", "at": 2.0}\n'
)

GOOD: dict[str, Any] = {
    "lab.json": json.loads(blueprint_file.blueprint_to_json(LAB)),
    "applied.json": json.loads(blueprint_file.blueprint_to_json(LAB)),
    "leases.json": json.loads(addresses.leases_to_json(LEASES)),
    "origin.json": {"file": "/labs/pair.yaml", "sets": ["lab=pair", "machines.hv1.cpus=2"]},
    "seen.json": {"hv1/web": {"digest": "d", "names": "n", "root": "r", "disk": 5}},
    "former-names.json": ["first", "second"],
    "speeds.json": {"": {"slowness": 1.5, "at": 1.0}, "hv1": {"slowness": 20.0, "at": 1.0}},
    "step-times.json": {"host boot": [1.0, 2.0]},
    "pve.json": {"marks": ['nestlab: {"lab":"pair","path":"hv1"}'], "token": "t", "owner": 1},
    "lock": {"pid": 1, "verb": "up", "since": 1.0, "host": "h"},
    "record": RECORD,
    "journal": JOURNAL,
}
"""By file: what is good in it."""


class Fuzzed:
    """See `fuzz.target.Target`. A case is a line with the name of a file, and what is in it."""

    def __init__(self) -> None:
        self._loop = clock.Runner()

    def close(self) -> None:
        self._loop.close()

    def make(self, rng: Random) -> bytes:
        name = rng.choice((*GOOD, "lab.json", "lab.json", "applied.json", "leases.json"))
        good = GOOD[name]
        if rng.random() < 0.1:
            data = mutate.octets(rng, (good if isinstance(good, str) else json.dumps(good)).encode())
        elif isinstance(good, str):
            rows = [json.loads(line) for line in good.splitlines()]
            data = "\n".join(mutate.json_text(rng, mutate.tree(rng, row)) for row in rows).encode(
                errors="surrogatepass"
            )
        else:
            data = mutate.json_text(rng, mutate.tree(rng, good)).encode(errors="surrogatepass")
        return f"{name}\n".encode() + data

    def run(self, case: bytes, place: Path) -> str:
        first, _, data = case.partition(b"\n")
        name = first.decode(errors="replace")
        if name not in GOOD:
            return "no such file"
        home = Home(place / "state", place / "cache")
        at = home.lab("pair")
        for each in ("lab.json", "applied.json"):
            (at.root / each).write_text(json.dumps(GOOD[each]))
        (at.root / "lab.yaml").write_text(
            "lab: pair\nmachines: {hv1: {hypervisor: kvm, machines: {web: {image: tiny}}}}\n"
        )
        (at.root / "origin.json").write_text(json.dumps({"file": str(at.root / "lab.yaml"), "sets": []}))
        _file(home, at, name).write_bytes(data)
        refused = _read(home, at, name, data)
        refused += self._used(home, at)
        return f"{name} {'refused' if refused else 'taken'}"

    def _used(self, home: Home, at: LabHome) -> list[LabError]:
        """The verbs that read it, with a world in which nothing is there yet, and one in which all is."""
        os.environ.update({"NESTLAB_HOME": str(home.state), "NESTLAB_CACHE": str(home.cache), "HOME": str(home.state)})
        world = FakeWorld()
        site = Site(home, world.host, world.engine, {"kvm": world.engine}, needs=lambda: ())
        instead(lab_work, site=lambda: site, home=lambda: home)
        instead(consent, home=lambda: home)
        instead(light_status, site=lambda: site)
        ways: list[Callable[[], object]] = [
            lambda: printed(lambda: self._loop.run(self._planned(site, world))),
            lambda: printed(lambda: light_status.status(["pair"], as_json=False, deep=False)),
            lambda: printed_json(lambda: light_status.status(["pair"], as_json=True, deep=False)),
            lambda: printed_json(lambda: self._loop.run(_plan(at.root / "lab.yaml"))),
            lambda: labs.lab_of(home, at.root / "lab.yaml"),
        ]
        return [error for way in ways if (error := _refusal(way)) is not None]

    async def _planned(self, site: Site, world: FakeWorld) -> None:
        async with verbs.looking(site, name="pair") as session:
            await session.look()
            for want in ("running", "gone"):
                todo = session.plan(want)
                session.usual(todo)
                print(len(todo.steps))
        assert world.open == 0


async def _plan(file: Path) -> None:
    from nestlab.home.targets import Which

    await lab_work.show_plan(Which(file=file), [], as_json=True, consent=Consent())


def _file(home: Home, at: LabHome, name: str) -> Path:
    """Where it is."""
    known = {
        "step-times.json": home.state / "step-times.json",
        "former-names.json": at.former_names,
        "speeds.json": at.speeds,
        "leases.json": at.leases,
        "lab.json": at.blueprint,
        "applied.json": at.applied,
        "lock": at.lock,
        "journal": at.journal / "20260101T000000Z-up.jsonl",
    }
    path = known.get(name, at.root / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _read(home: Home, at: LabHome, name: str, data: bytes) -> list[LabError]:
    """By those who read single files."""

    def run_journal() -> None:
        for run in journal.runs(at.journal):
            list(journal.read(run.path))
        journal.last_steps(at.journal, ["hv1"])

    def record() -> None:
        try:
            found = Record.from_json(data.decode(errors="replace"))
        except ValueError:
            return
        assert Record.from_json(found.to_json()) == found

    ways: dict[str, Callable[[], object]] = {
        "seen.json": lambda: last_seen.save(at, last_seen.load(at)),
        "former-names.json": lambda: former_names.load(at),
        "speeds.json": lambda: Speeds(at.speeds).all(),
        "step-times.json": lambda: step_times.load(home),
        "pve.json": lambda: Memory(at.root / "pve.json").left_behind,
        "lock": lambda: lock_holder.read(at.lock),
        "journal": run_journal,
        "record": record,
    }
    error = _refusal(ways.get(name, lambda: None))
    return [error] if error is not None else []


def _refusal(way: Callable[[], object]) -> LabError | None:
    try:
        way()
    except LabError as error:
        shown(printable(str(error)))
        return error
    return None
