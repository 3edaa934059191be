"""Power that goes, a disk that is full and a SIGKILL, at every write of state: each file is the old one or the new one,
one message says what is wrong, and the next nestlab goes on."""

from __future__ import annotations

import asyncio
import copy
import errno
import itertools
import json
import os
import pickle
import signal
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

from nestlab.base.errors import LabError
from nestlab.home import labs, last_seen, lock
from nestlab.home.directories import Home
from nestlab.home.lab_keys import LabKeys
from nestlab.lab import addresses, blueprint_file
from nestlab.testing.fake_machine import FakeMachine
from nestlab.verbs import session
from nestlab.verbs.rename import renaming
from power import Disk, Image, put, recorded, small_disk
from test_session import ALL, PAIR, Bench

Machines = dict[tuple[str, str], FakeMachine]
Work = Callable[[Bench], Coroutine[Any, Any, object]]

WORKED_OUT = ("seen.json", "speeds.json", "step-times.json", "lock")
"""Files whose readers do without them: they may be empty after a power cut."""


async def first(bench: Bench) -> None:
    await bench.up()


async def changed(bench: Bench) -> None:
    bench.file.write_text(PAIR.replace("128M", "160M") + "  extra: {image: tiny}\n")
    await bench.up()


async def stopped(bench: Bench) -> None:
    await bench.change("stopped")


async def gone(bench: Bench) -> None:
    await bench.change("gone")


async def renamed(bench: Bench) -> None:
    async with renaming(bench.site, "pair", "demo", {}) as found:
        await found.perform()
        bench.world.rename("pair", "demo")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced is recorded; the disk under the tests need not do it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


LONG = partial(pytest.param, marks=pytest.mark.slow)
"""A case that takes half a minute: of a hundred calls, each is tried."""

NAMED = {
    "up": ((), first),
    "change": ((first,), changed),
    "stop": ((first,), stopped),
    "down": ((first,), gone),
    "rename": ((first, stopped), renamed),
}
"""What is done before, and what is interrupted."""


@dataclass
class Cut:
    """What a power cut left: the tree, what there was of machines, and after which call."""

    image: Image
    machines: Machines
    after: str


def start_over(root: Path, machines: Machines, text: str) -> Bench:
    """The next nestlab, on what is there; machines that ran have died with their host."""
    bench = Bench(root)
    bench.file.write_text(text)
    bench.world.machines = copy.deepcopy(machines)
    for lab, path in bench.world.machines:
        if "/" not in path and bench.world.machines[lab, path].state == "running":
            bench.world.kill(lab, path, "its host lost its power")
    return bench


async def prepared(root: Path, before: tuple[Work, ...]) -> Bench:
    root.mkdir(parents=True, exist_ok=True)
    bench = Bench(root)
    for each in before:
        await each(bench)
    return bench


async def cuts(root: Path, before: tuple[Work, ...], work: Work) -> tuple[list[Cut], dict[str, set[bytes]]]:
    """All that power cuts may leave while the work is done, each once."""
    bench = await prepared(root, before)
    found: list[Cut] = []
    known: set[int] = set()
    last = ""

    def gate(name: str, path: str) -> None:
        nonlocal last
        last = f"{name} {path}"

    def done() -> None:
        for image in disk.images(seeds=1):
            shape = hash((frozenset(image.items()), frozenset(bench.world.machines)))
            if shape not in known:
                known.add(shape)
                found.append(Cut(image, copy.deepcopy(bench.world.machines), last))

    disk = Disk(root, gate, done)
    with pytest.MonkeyPatch.context() as patch, recorded(disk, patch):
        done()
        await work(bench)
    return found, disk.versions


@pytest.mark.parametrize("name", ["up", "stop", "rename", LONG("change"), LONG("down")])
async def test_after_a_power_cut_every_file_is_whole_and_the_next_up_goes_on(tmp_path: Path, name: str) -> None:
    before, work = NAMED[name]
    root = tmp_path / "disk"
    root.mkdir()
    found, versions = await cuts(root, before, work)
    assert len(found) > 10
    for cut in found:
        torn = [path for path, data in cut.image.items() if "/" in path and not whole(path, data, versions)]
        assert torn == [], f"after {cut.after}"
        put(cut.image, root)
        home = Home(root / "state", root / "cache")
        readable(home)
        if cut.machines:
            lab = next(lab for lab, _ in cut.machines)
            others = [each for each in home.labs() if home.lab(each).blueprint.exists()]
            assert others, f"machines of {lab} and no lab after {cut.after}"
        await goes_on(root, cut.machines)


def whole(path: str, data: bytes | str | None, versions: dict[str, set[bytes]]) -> bool:
    """Whether a file has a content that it had under this name: an old one or a new one."""
    name = path.rpartition("/")[2]
    if not isinstance(data, bytes) or name.endswith(".new") or (not data and name in WORKED_OUT):
        return True
    if "/journal/" in path:
        return not data or any(each.startswith(data) for each in versions.get(path, {data}))
    return data in versions.get(path, {data})


def readable(home: Home) -> None:
    """Each file of state, as far as it is there, is read; each lab that has keys has all of them."""
    for name in home.labs():
        place = home.lab(name)
        blueprint = blueprint_file.load(place.blueprint, name)
        blueprint_file.load(place.applied, name)
        if place.leases.exists():
            addresses.leases_from_json(place.leases.read_text())
        if place.former_names.exists():
            assert json.loads(place.former_names.read_text())
        if (place.root / labs.NAME).exists():
            assert labs.load(place) is not None
        last_seen.load(place)
        keys = LabKeys(place.root)
        assert keys.authorized.startswith("ssh-ed25519 ")
        for key in place.root.glob("keys/*[0-9a-f]"):
            assert json.loads(key.read_text())["private"]
        assert lock.holder(place.lock) is None
        assert blueprint is None or blueprint.specs


async def goes_on(root: Path, machines: Machines) -> None:
    """`up` with the lab file, and `down` after it, with nothing left."""
    called = "demo" if (root / "state/labs/demo").exists() else "pair"
    bench = start_over(root, machines, PAIR.replace("lab: pair", f"lab: {called}"))
    if called == "demo":
        bench.world.rename("pair", "demo")
    await bench.up()
    running = {path for (lab, path), each in bench.world.machines.items() if each.state == "running"}
    assert running >= ALL
    assert not [*(root / "state").rglob("*.new")]
    async with session.changing(bench.site, "down", name=called) as opened:
        todo = opened.plan("gone")
        await opened.apply(todo, lambda _: None, verb="down")
        session.forget(opened.place)
    assert bench.world.machines == {}
    assert bench.home.labs() == []


# -- errors of the disk


async def count(root: Path, before: tuple[Work, ...], work: Work) -> int:
    """How many calls change the disk."""
    calls: list[str] = []
    bench = await prepared(root, before)
    with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, lambda name, _: calls.append(name)), patch):
        await work(bench)
    return len(calls)


def failing(number: int, at: int, *, lasting: bool) -> Callable[[str, str], None]:
    """The call with this number fails; or all from it on that would write (on a full disk, names can still go)."""
    calls = 0

    def gate(name: str, path: str) -> None:
        nonlocal calls
        calls += 1
        harmless = number == errno.ENOSPC and name in ("unlink", "rmdir", "rename", "replace", "fsync", "remove")
        if calls - 1 == at or (lasting and calls > at and not harmless):
            raise OSError(number, os.strerror(number), path)

    return gate


async def tried(work: Work, bench: Bench) -> LabError | None:
    """The one message that it ended with, if any."""
    try:
        await work(bench)
    except LabError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("name", "number", "lasting"),
    [
        LONG("up", errno.ENOSPC, True),
        LONG("up", errno.EIO, False),
        LONG("change", errno.ENOSPC, True),
        LONG("change", errno.EROFS, True),
        ("stop", errno.EIO, True),
        LONG("stop", errno.ENOSPC, True),
        LONG("down", errno.ENOSPC, True),
        LONG("down", errno.EROFS, True),
        LONG("down", errno.EIO, False),
        ("rename", errno.ENOSPC, True),
        ("rename", errno.EIO, True),
        ("rename", errno.EIO, False),
    ],
)
async def test_an_error_of_the_disk_at_any_write_is_one_message_and_the_next_up_goes_on(
    tmp_path: Path, name: str, number: int, lasting: bool
) -> None:
    before, work = NAMED[name]
    total = await count(tmp_path / "count", before, work)
    assert total > 5
    told = 0
    for at in range(total):
        root = tmp_path / str(at)
        bench = await prepared(root, before)
        with (
            pytest.MonkeyPatch.context() as patch,
            recorded(Disk(root, failing(number, at, lasting=lasting)), patch),
        ):
            error = await tried(work, bench)
        if error is not None:
            told += 1
            assert os.strerror(number) in error.what + error.detail, f"call {at}: {error}"
            assert error.hint
        readable(bench.home)
        await goes_on(root, bench.world.machines)
    assert told


# -- SIGKILL


@pytest.mark.parametrize("name", ["rename", LONG("up"), LONG("down")])
def test_killed_at_any_write_nestlab_leaves_what_the_next_up_goes_on_from(tmp_path: Path, name: str) -> None:
    before, work = NAMED[name]
    total = asyncio.run(count(tmp_path / "count", before, work))
    for at in range(total):
        root, world = tmp_path / str(at), tmp_path / f"{at}.world"
        child = os.fork()
        if not child:
            killed_at(at, root, world, before, work)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        readable(Home(root / "state", root / "cache"))
        asyncio.run(goes_on(root, pickle.loads(world.read_bytes())))


def killed_at(at: int, root: Path, world: Path, before: tuple[Work, ...], work: Work) -> NoReturn:
    """In a process of its own: do it, and be killed before the call with this number."""
    calls = itertools.count()

    def gate(*_: str) -> None:
        if next(calls) == at:
            world.write_bytes(pickle.dumps(bench.world.machines))
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        bench = asyncio.run(prepared(root, before))
        with pytest.MonkeyPatch.context() as patch, recorded(Disk(root, gate), patch):
            asyncio.run(work(bench))
    finally:
        os._exit(1)


# -- a disk that is full, and one that is read-only


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
async def test_on_a_disk_with_any_room_up_works_or_says_that_it_is_full_and_room_lets_it_go_on(tmp_path: Path) -> None:
    told = set()
    for pages in range(1, 40):
        with small_disk(tmp_path / str(pages), f"{pages * 4}k") as root:
            try:
                bench = await prepared(root, ())
            except OSError:
                continue  # not even the lab file
            bench.home = Home(root / "state", tmp_path / f"{pages}.cache")
            bench.site = replace(bench.site, home=bench.home)
            error = await tried(first, bench)
            if error is not None:
                assert "No space left on device" in error.what
                assert error.hint.startswith("Make room there")
            told.add(error is None)
            remount(root, "size=4g")
            readable(bench.home)
            await goes_on(root, bench.world.machines)
    assert told == {True, False}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("name", NAMED)
async def test_on_a_disk_that_became_read_only_it_is_said_and_nothing_is_half_done(tmp_path: Path, name: str) -> None:
    before, work = NAMED[name]
    with small_disk(tmp_path / "disk", "4g") as root:
        bench = await prepared(root, before)
        machines = copy.deepcopy(bench.world.machines)
        remount(root, "ro")
        bench.file = tmp_path / "pair.yaml"
        bench.file.write_text(PAIR)
        with pytest.raises(LabError, match="Read-only file system") as error:
            await work(bench)
        assert error.value.hint
        if name in ("up", "change"):
            assert bench.world.machines == machines
        remount(root, "rw")
        await goes_on(root, bench.world.machines)
