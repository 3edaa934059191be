"""State that another version of nestlab wrote: an older one's is read, a newer one's refused before anything is done.

`golden/older_state` holds what earlier versions of nestlab kept, recorded by running them: of a lab, and of the doctor.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fake_root import FakeRoot, fix, undo
from golden_files import GOLDEN
from nestlab.base.errors import LabError
from nestlab.doctor.remedies import RECORD
from nestlab.home import consents, faults, journal, last_seen, moved_machines, ports
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.moved_machines import Away, Passage
from nestlab.verbs import session
from test_session import ALL, Bench

OLDER = GOLDEN / "older_state"
LABS = sorted(each.name for each in OLDER.iterdir() if (each / "lab.json").exists())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def addresses(blueprint: Blueprint) -> dict[str, list[tuple[str, ...]]]:
    return {spec.path: [nic.addresses for nic in spec.nics] for spec in blueprint.specs}


def test_there_is_recorded_state() -> None:
    assert len(LABS) > 1


@pytest.mark.parametrize("name", LABS)
async def test_a_lab_of_an_older_nestlab_is_read_and_goes_on(bench: Bench, name: str) -> None:
    root = bench.home.lab("pair").root
    shutil.copytree(OLDER / name, root, dirs_exist_ok=True)
    before = blueprint_file.load(root / "lab.json", "pair")
    assert before is not None
    assert {spec.path for spec in before.specs} == ALL
    assert journal.last_steps(root / "journal", ALL).keys() == ALL
    async with session.looking(bench.site, name="pair") as opened:
        assert opened.blueprint.specs == before.specs
    await bench.up()
    assert bench.running() == ALL
    after = blueprint_file.load(root / "lab.json", "pair")
    assert after is not None
    assert addresses(after) == addresses(before)
    await bench.change("gone")
    assert bench.home.labs() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "its format is 2, and this nestlab knows up to 1"),
        ({"since": "tomorrow"}, None),
        ({"specs": [{"path": "hv1", "machine": {"name": "hv1"}, "colour": "red", "hosts": 0}]}, "it says `colour`"),
    ],
)
async def test_a_lab_of_a_newer_nestlab_is_refused_and_not_touched(
    bench: Bench, change: dict[str, Any], told: str | None
) -> None:
    await bench.up()
    root = bench.home.lab("pair").root
    data = json.loads((root / "lab.json").read_text())
    (root / "lab.json").write_text(json.dumps(data | change))
    if told is None:
        assert not await bench.up()  # what this nestlab need not know
        return
    before, machines = tree(root), dict(bench.world.machines)
    attempts: list[Callable[[], Awaitable[object]]] = [bench.up, lambda: bench.change("stopped")]
    attempts.append(lambda: bench.change("gone"))
    for attempt in attempts:
        with pytest.raises(LabError, match="A newer nestlab was at work on lab pair") as refused:
            await attempt()
        assert told in refused.value.what
        assert "Use that nestlab" in refused.value.hint
    assert {name: data for name, data in tree(root).items() if name != "lock"} == {
        name: data for name, data in before.items() if name != "lock"
    }
    assert bench.world.machines == machines


async def test_what_an_older_doctor_changed_is_taken_back(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host")
    root.load("nested=0")
    before = root.tree()
    root.write("/etc/modprobe.d/zz-nestlab.conf", (OLDER / "doctor/zz-nestlab.conf").read_text())
    root.write(RECORD, (OLDER / "doctor/record.json").read_text(), 0o600)
    root.load()
    await undo(root)
    assert root.parameter("kvm_amd.nested") == "0"
    after = root.tree()
    assert {path: each for path, each in after.items() if not path.startswith("sys")} == {
        path: each for path, each in before.items() if not path.startswith("sys")
    } | {path: after[path] for path in after if path in ("etc", "etc/modprobe.d")}


async def test_what_a_newer_doctor_changed_is_not_touched(tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "host")
    root.load("nested=0")
    await fix(root)
    data = json.loads(root.read(RECORD)) | {"version": 2}
    root.write(RECORD, json.dumps(data), 0o600)
    before = root.tree()
    for attempt in (fix, undo):
        with pytest.raises(LabError, match=r"A newer nestlab changed this host.*its version is 2") as refused:
            await attempt(root)
        assert "Use that nestlab" in refused.value.hint
    assert root.tree() == before


def test_what_is_kept_beside_a_lab_is_read_whatever_version_wrote_it(bench: Bench) -> None:
    """Older ones have fewer words, newer ones more; the lab's own `format` says when that is not enough."""
    place = bench.home.lab("pair")
    place.root.mkdir(parents=True, exist_ok=True)
    away = {"born": "hv1/web", "home": "hv1/web", "path": "hv2/web", "colour": "red"}
    passage = {"source": "hv1/db", "target": "hv2/db", "colour": ["red"]}
    rows: dict[str, object] = {
        moved_machines.FILE: {"away": [away], "passages": [passage], "colours": {}},
        faults.FILE: [{"kind": "cut", "path": "hv1", "segment": "wire", "colour": "red"}],
        ports.NAME: [{"path": "hv1", "port": 80, "local": 8080, "colour": "red"}],
        consents.NAME: ["/secret", {"colour": "red"}],
        last_seen.NAME: {"hv1": {"digest": "a", "names": "b", "root": "c", "disk": 1, "colour": "red"}},
    }
    for name, data in rows.items():
        (place.root / name).write_text(json.dumps(data))
    assert moved_machines.load(place) == moved_machines.Moves(
        (Away("hv1/web", "hv1/web", "hv2/web"),), (Passage("hv1/db", "hv2/db"),)
    )
    assert [each.key for each in faults.load(place)] == [("cut", "hv1", "wire")]
    assert ports.load(place) == (ports.Kept("hv1", 80, 8080),)
    assert consents.load(place) == {"/secret"}
    assert last_seen.load(place)["hv1"].digest == "a"
