"""Folders that are made once, whole or not at all."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home import cache
from nestlab.home.cache import making, remove, sweep, working
from nestlab.images import unused
from nestlab.images.mmdebstrap import disk_errors


def quiet(_: str) -> None:
    pass


def visible(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir() if not path.name.endswith(".lock")}


async def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    async with making(target, quiet) as partial:
        assert partial is not None
        (partial / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert visible(tmp_path) == {"thing"}


async def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    async def fail() -> None:
        async with making(tmp_path / "thing", quiet) as partial:
            assert partial is not None
            (partial / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert visible(tmp_path) == set()


async def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    for expected in (True, False):
        async with making(tmp_path / "thing", quiet) as partial:
            assert (partial is not None) is expected


async def test_of_two_who_want_the_same_one_makes_it_and_the_other_waits(tmp_path: Path) -> None:
    made: list[int] = []
    said: list[str] = []
    entered, waiting = asyncio.Event(), asyncio.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    async def one(number: int) -> None:
        async with making(tmp_path / "thing", say, "the image x") as partial:
            if partial is not None:
                made.append(number)
                entered.set()
                await waiting.wait()

    first = asyncio.create_task(one(1))
    await entered.wait()
    await asyncio.gather(first, one(2))
    assert made == [1]
    assert said == ["waiting: another process is making the image x"]


async def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    async with making(tmp_path / "thing", quiet):

        async def wait() -> None:
            async with making(tmp_path / "thing", quiet):
                pass

        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter


async def test_what_a_killed_process_left_is_removed_first(tmp_path: Path) -> None:
    left = tmp_path / ".thing.partial"
    left.mkdir()
    (left / "half").touch()
    async with making(tmp_path / "thing", quiet) as partial:
        assert partial is not None
        assert list(partial.iterdir()) == []


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove(tmp_path / "none")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "is full"), (errno.EACCES, "cannot be written"), (errno.EIO, "/cache: …")],
)
def test_errors_of_the_disk_become_sentences(number: int, words: str) -> None:
    with pytest.raises(LabError, match=words), disk_errors("The image x", Path("/cache")):
        raise OSError(number, "…")


def test_other_errors_of_the_system_stay_what_they_are() -> None:
    with pytest.raises(ConnectionError), disk_errors("The image x", Path("/cache")):
        raise ConnectionError


async def test_what_a_killed_process_started_is_waited_for(tmp_path: Path) -> None:
    """Its helpers inherit the mark; only when the last of them has ended is what they left removed."""
    target, partial = tmp_path / "thing", tmp_path / ".thing.partial"
    partial.mkdir()
    (partial / "half").touch()
    told: list[str] = []
    with working(partial) as mark:
        helper = await asyncio.create_subprocess_exec("sleep", "1", pass_fds=(mark,))
    sweep(tmp_path)
    async with making(target, told.append) as fresh:
        assert helper.returncode == 0 or await helper.wait() == 0
        assert fresh is not None
        assert [*fresh.iterdir()] == []
    assert told == ["waiting: what an interrupted nestlab started is still ending"]


def killed(images: Path, place: Path) -> Path:
    """What is there after a build was killed whose chroot is in `place`."""
    partial = images / ".image.partial"
    (images / ".image.lock").touch()
    (place / "chroot").mkdir(parents=True)
    (place / "chroot" / "file").write_bytes(b"x" * 100_000)
    partial.mkdir()
    cache.note(partial, place)
    return partial


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "cache" / "images").mkdir(parents=True)
    return tmp_path / "cache" / "images"


def test_the_chroot_of_a_killed_build_is_shown_and_removed_with_what_it_was_for(tmp_path: Path, images: Path) -> None:
    place = tmp_path / "nestlab-1"
    killed(images, place)
    [found] = unused.unused(tmp_path / "cache", ())
    assert str(place) in found.what
    assert found.size >= 100_000
    unused.remove(found)
    assert not place.exists()
    assert visible(images) == set()


async def test_the_next_build_removes_it_as_well(tmp_path: Path, images: Path) -> None:
    killed(images, tmp_path / "nestlab-1")
    async with making(images / "image", quiet) as partial:
        assert partial is not None
        assert not (tmp_path / "nestlab-1").exists()


@pytest.mark.parametrize("case", ["another", "a link", "another name", "nonsense"])
def test_what_is_not_the_directory_that_was_noted_stays(tmp_path: Path, images: Path, case: str) -> None:
    place = tmp_path / ("victim" if case == "another name" else "nestlab-1")
    partial = killed(images, place)
    if case == "another":
        place.rename(tmp_path / "kept")  # so that its inode is not given again
        place.mkdir()
    elif case == "a link":
        place.rename(tmp_path / "victim")
        place.symlink_to("victim")
    elif case == "nonsense":
        (partial / cache.ELSEWHERE).write_bytes(b"\xff /")
    remove(partial)
    assert place.exists()
    assert not partial.exists()
