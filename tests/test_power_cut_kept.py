"""All that is kept beside a lab itself: a power cut, a disk that is full or fails, and several nestlabs at once leave
the old or the new of it, whole. And a migration, whose every write may be the last."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blueprints import pair
from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.home import cache, consents, faults, lab_keys, last_seen, moved_machines, ports, step_times
from nestlab.home.directories import Home, LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.home.speeds import Speeds
from nestlab.images import package_names
from nestlab.lab import pve_address
from nestlab.lab.faults import Fault
from nestlab.lab.model import Taken
from nestlab.lab.moved_machines import Away, Passage
from nestlab.plan.steps import Boot, Plan, Seen
from nestlab.wire.pve import credentials
from power import Disk, Gate, Image, put, recorded
from test_migration_killed import ALL, LAB, Moves, _migrate, _moves, _use
from test_power_cut import failing
from test_session import Bench


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced is recorded; the disk under the tests need not do it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@dataclass(frozen=True)
class Kind:
    """A kind of state. `write`: keep the value with that number; `read`: what is kept. `worked_out`: it is not said
    when it cannot be written, and may be lost in a power cut, for it is measured or seen again."""

    write: Callable[[LabHome, int], object]
    read: Callable[[LabHome], Any]
    worked_out: bool = False


def _machine(number: int) -> str:
    return f"hv{number}/web"


def _moves_of(number: int) -> moved_machines.Moves:
    away = Away("hv0/web", "hv0/web", _machine(number), float(number))
    return moved_machines.Moves((away,), (Passage(_machine(number), "hv9/web", "failed"),))


PVE = pve_address.Place("pve1.example.org")


def _speeds(place: LabHome) -> Speeds:
    return Speeds(place.root / "speeds.json")


def _times(place: LabHome, number: int) -> None:
    todo = Plan("pair", (Boot("why", "hv1"),))
    step_times.remember(Home(place.root, place.root), todo, pair(), {todo.steps[0].id: float(number)})


def _last_times(place: LabHome) -> list[float]:
    return [each[-1] for each in step_times.load(Home(place.root, place.root)).values()]


KINDS = {
    "faults": Kind(lambda place, n: faults.save(place, (Fault("cut", _machine(n), "wire", 1.0),)), faults.load),
    "machines that moved": Kind(lambda place, n: moved_machines.save(place, _moves_of(n)), moved_machines.load),
    "consents": Kind(
        lambda place, n: consents.keep(place, [Taken(f"/secret/{n}", "files", private=True)]), consents.load
    ),
    "ports": Kind(lambda place, n: ports.save(place, (ports.Kept(_machine(n), 80, 8000 + n),)), ports.load),
    "machines seen last": Kind(
        lambda place, n: last_seen.save(place, {_machine(n): Seen(_machine(n), "stopped", "a", "b", root="c", disk=n)}),
        last_seen.load,
        worked_out=True,
    ),
    "speeds": Kind(
        lambda place, n: _speeds(place).keep("hv1", 1.0 + n),
        lambda place: {path: each.slowness for path, each in _speeds(place).all().items()},
        worked_out=True,
    ),
    "how long steps take": Kind(_times, _last_times, worked_out=True),
    "credentials of a Proxmox VE": Kind(
        lambda place, n: credentials.keep(place.root, PVE, {"token": f"a@pve!b={n}"}),
        lambda place: credentials.held(place.root, PVE),
    ),
}


def _place(folder: Path) -> LabHome:
    place = Home(folder / "state", folder / "cache").lab("pair")
    place.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_power_cut_leaves_the_old_or_the_new(kind: Kind, tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    place = _place(root)
    nothing = kind.read(place)
    kind.write(place, 1)
    old = kind.read(place)
    found: list[Image] = []
    disk = Disk(root, done=lambda: found.extend(disk.images()))
    with pytest.MonkeyPatch.context() as patch, recorded(disk, patch):
        kind.write(place, 2)
    new = kind.read(place)
    assert old != new
    assert len(found) > 4
    for image in found:
        put(image, root)
        assert kind.read(place) in ([old, new, nothing] if kind.worked_out else [old, new])
        kind.write(place, 2)
        assert kind.read(place) == new


@pytest.mark.parametrize(
    ("number", "lasting"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True), (errno.EIO, False)],
    ids=["full", "over its quota", "read-only", "failing"],
)
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_an_error_of_the_disk_is_one_message_and_leaves_the_old_or_the_new(
    kind: Kind, number: int, lasting: bool, tmp_path: Path
) -> None:
    told = 0
    for at in itertools.count():
        root = tmp_path / str(at)
        root.mkdir()
        place, calls = _place(root), itertools.count()
        nothing = kind.read(place)
        kind.write(place, 1)
        old, error = kind.read(place), None
        fails = failing(number, at, lasting=lasting)

        def gate(name: str, path: str, fails: Any = fails, calls: Iterator[int] = calls) -> None:
            next(calls)
            fails(name, path)

        with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, gate), patch):
            try:
                kind.write(place, 2)
            except LabError as refused:
                error = refused
        found = kind.read(place)
        kind.write(place, 2)
        new = kind.read(place)
        assert found in [old, new, *([nothing] if kind.worked_out else [])]
        files.sweep(place.root)  # as the next nestlab does: where nothing can be removed, they stay
        assert not [*root.rglob("*.new")]
        if error is not None:
            told += 1
            assert os.strerror(number) in error.what
            assert error.hint
        if next(calls) <= at:
            break
    assert bool(told) is not kind.worked_out


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_several_nestlabs_at_once_leave_what_one_of_them_wrote(kind: Kind, tmp_path: Path) -> None:
    """Most of it is written under the lab's lock; it is whole without that, too."""
    place, odd = _place(tmp_path), []

    def write(own: int) -> None:
        try:
            for number in range(25):
                kind.write(place, 1 + own + 4 * (number % 3))
                kind.read(place)
        except BaseException as error:
            odd.append(error)

    threads = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert odd == []
    assert kind.read(place)
    assert not [*tmp_path.rglob("*.new")]


# -- the secrets of a node


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes whose keys are made at once: what is tested is what becomes of them."""
    numbers = itertools.count()

    def node(machine: str) -> dict[str, str]:
        return {
            name: f"{name} {next(numbers)} of {machine}"
            for name in ("password", "host", "host_public", "root", "root_public")
        }

    monkeypatch.setattr(lab_keys, "new_node", node)


@pytest.mark.usefixtures("nodes")
def test_a_power_cut_leaves_a_node_all_of_its_secrets_and_what_it_was_told_stays(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    place = _place(root)
    old = LabKeys(place.root).node("hv1")
    found: list[Image] = []
    disk = Disk(root, done=lambda: found.extend(disk.images()), others_keep=False)
    with pytest.MonkeyPatch.context() as patch, recorded(disk, patch):
        told = LabKeys(place.root).node("hv2")
        LabKeys(place.root).hand_on("hv2", "hv3")
    after = list(disk.images())
    assert len(found) > 8
    for image in (*found, *after):
        put(image, root)
        keys = LabKeys(place.root)
        assert keys.node("hv1") == old
        node = keys.node("hv2")
        assert node.password.endswith("of hv2")
        assert image not in after or (node == told == keys.node("hv3"))
        assert LabKeys(place.root).node("hv2") == node


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_secrets_of_a_node_that_cannot_be_written_are_one_message_and_none(number: int, tmp_path: Path) -> None:
    for at in itertools.count():
        root = tmp_path / str(at)
        root.mkdir()
        place, calls, told, error = _place(root), itertools.count(), None, None
        fails = failing(number, at, lasting=True)

        def gate(name: str, path: str, fails: Gate = fails, calls: Iterator[int] = calls) -> None:
            next(calls)
            fails(name, path)

        with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, gate), patch):
            try:
                told = LabKeys(place.root).node("hv1")
            except LabError as refused:
                error = refused
        if error is not None:
            assert os.strerror(number) in error.what
            assert error.hint
        assert LabKeys(place.root).node("hv1").password
        if told is not None:
            assert LabKeys(place.root).node("hv1") == told
        if next(calls) <= at:
            assert at > 4
            return


# -- folders of the cache


async def _names(archive: package_names.Archive, place: Path) -> None:
    """As `package_names.fetch` does with what a mirror gave."""
    folder = archive.folder(place)
    cache.remove(folder)
    async with cache.making(folder, lambda _: None, "a list") as partial:
        assert partial is not None
        package_names.keep(b"aptitude\nbash\n", partial)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_a_list_of_packages_that_cannot_be_written_is_none_and_is_asked_for_again(
    number: int, tmp_path: Path
) -> None:
    archive = package_names.Archive("trixie", None)
    for at in itertools.count():
        root = tmp_path / str(at)
        root.mkdir()
        failed, calls = False, itertools.count()
        fails = failing(number, at, lasting=True)

        def gate(name: str, path: str, fails: Any = fails, calls: Iterator[int] = calls) -> None:
            next(calls)
            fails(name, path)

        with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, gate), patch):
            try:
                await _names(archive, root)
            except OSError as error:  # `disk_errors` makes a sentence of it
                failed = error.errno == number
                assert failed
        found = package_names.load(archive, root)
        assert found is None or found.known == {"aptitude", "bash"}
        assert failed or found is not None
        await _names(archive, root)
        again = package_names.load(archive, root)
        assert again is not None
        assert again.known == {"aptitude", "bash"}
        if next(calls) <= at:
            assert at > 3
            return


async def test_a_power_cut_leaves_a_whole_list_of_packages_or_none(tmp_path: Path) -> None:
    archive, root = package_names.Archive("trixie", None), tmp_path / "disk"
    root.mkdir()
    await _names(archive, root)
    found: list[Image] = []
    disk = Disk(root, done=lambda: found.extend(disk.images()), others_keep=False)
    with pytest.MonkeyPatch.context() as patch, recorded(disk, patch):
        await _names(archive, root)
    seen = set()
    for image in found:
        put(image, root)
        names = package_names.load(archive, root)
        assert names is None or names.known == {"aptitude", "bash"}
        seen.add(names is None)
        await _names(archive, root)
        assert cache.left_behind(root / package_names.PLACE) == []
        assert package_names.load(archive, root) is not None
    assert seen == {True, False}


# -- a migration


async def _count(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    calls: list[str] = []
    bench = await _ready(root, monkeypatch)
    with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, lambda name, _: calls.append(name)), patch):
        await _migrate(bench, "hv1/web", "hv2/web")
    return len(calls)


async def _ready(root: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    root.mkdir()
    bench = Bench(root)
    bench.file.write_text(LAB)
    await bench.up()
    _use(monkeypatch, Moves(bench))
    return bench


@pytest.mark.parametrize(
    ("number", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["a full disk", "one that fails once"]
)
async def test_a_migration_at_any_write_of_which_the_disk_fails_leaves_one_machine_and_up_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, lasting: bool
) -> None:
    total = await _count(tmp_path / "count", monkeypatch)
    assert total > 10
    for at in range(0, total, 1 if lasting else 3):
        root = tmp_path / str(at)
        bench = await _ready(root, monkeypatch)
        error: LabError | None = None
        with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, failing(number, at, lasting=lasting)), patch):
            try:
                await _migrate(bench, "hv1/web", "hv2/web")
            except LabError as refused:
                error = refused
        if error is not None:
            assert os.strerror(number) in error.what + error.detail, f"call {at}: {error}"
            assert error.hint
        await bench.up()
        [web] = [path for path in bench.running() if path.endswith("/web")]
        assert {path for _, path in bench.world.machines} == bench.running() == {*ALL, web}
        assert _moves(bench).passages == ()
        assert [each.path for each in _moves(bench).aways] == (["hv2/web"] if web == "hv2/web" else [])
