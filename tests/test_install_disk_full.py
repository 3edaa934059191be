"""A golden image on a disk with any room, or on one that fails: it is whole, or there is one message and nothing of it;
with room it is made. So is the certificate of its answer server."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from install_in_sshd import HASH, QEMU
from installer_qemu import MARK
from nestlab.answers import Answers
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.home import cache
from nestlab.home.directories import Home
from nestlab.images import installed
from nestlab.images.firmware_files import Pack
from nestlab.images.qemu_runtime import choose_qemu_img
from nestlab.install import certificate, golden
from nestlab.install.installation import Job, Means
from nestlab.lab.install import Install
from nestlab.lab.model import MIB, Image
from power import Disk, Gate, recorded, small_disk
from test_install_medium import iso_with
from test_power_cut import failing, remount

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")

ADDRESS = "10.0.2.4"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path is short: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="nl") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def means(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of a QEMU; what is looked for in nestlab's cache is in the real one."""

    async def here(job: Job, place: Path, say: object) -> Means:
        async def no_firmware(_: object) -> Pack:
            raise AssertionError("a BIOS needs none")

        img = await choose_qemu_img(Home.of(os.environ, Path.home()).cache, lambda _: None)
        return Means(QEMU, img, "kvm", 1.0, no_firmware)

    monkeypatch.setattr(golden, "_means_here", here)
    patience.of_lab(1.0, 1.0)


def image_of(folder: Path) -> tuple[str, Image]:
    """An image and its key. Its kernel takes pages, as real ones do."""
    iso = folder / "a.iso"
    files = {"/casper/vmlinuz": b"well", "/casper/initrd": b"i" * 90_000}
    found = Install("ubuntu", Answers(user="ubuntu", password=HASH), iso=str(iso_with(iso, files)), disk=64 * MIB)
    return installed.key_of(found), Image(name="web", install=found)


async def made(key: str, image: Image, where: Path) -> LabError | None:
    """The error that making it ended with, if any."""
    try:
        await golden.make(key, image, where, lambda _: None)
    except LabError as error:
        return error
    return None


def whole(key: str, where: Path) -> bool:
    """Whether the cache has it. What is there that is no whole image fails the test."""
    there = installed.folder_of(key, where)
    assert cache.left_behind(there.parent) == []
    assert [each.name for each in there.parent.iterdir() if not each.name.endswith(".lock")] == [key] * there.exists()
    if not there.exists():
        return False
    assert sorted(each.name for each in there.iterdir()) == [installed.DISK, installed.DESCRIPTION]
    found = installed.load(key, where)
    assert found is not None
    assert MARK in found.disk.read_bytes()
    return True


@ROOT
async def test_on_a_disk_with_any_room_an_image_is_whole_or_there_is_one_message_and_nothing_of_it(
    place: Path,
) -> None:
    key, image = image_of(place)
    told = set()
    for pages in [*range(2, 70, 3), *range(70, 1000, 150)]:
        with small_disk(place / "d", f"{4 * pages}k") as where:
            error = await made(key, image, where)
            if error is not None:
                assert "disk" in error.what
                assert "full" in error.what or "No space left" in error.what + error.detail
                assert error.hint
            if where.joinpath("installed").exists():
                assert whole(key, where) is (error is None)
            told.add(error is None)
            remount(where, "size=64m")
            assert await made(key, image, where) is None
            assert whole(key, where)
        (place / "d").rmdir()
    assert told == {True, False}


@ROOT
async def test_on_a_disk_that_is_read_only_it_is_said_and_nothing_is_made(place: Path) -> None:
    key, image = image_of(place)
    with small_disk(place / "d", "64m") as where:
        remount(where, "ro")
        error = await made(key, image, where)
        assert error is not None
        assert "cannot be written" in error.what
        assert error.hint
        remount(where, "rw")
        assert await made(key, image, where) is None
        assert whole(key, where)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
async def test_an_error_of_the_disk_at_any_call_is_one_message_and_the_next_makes_the_image(
    place: Path, number: int
) -> None:
    key, image = image_of(place)
    told = 0
    for at in itertools.count():
        where, calls = place / str(at), itertools.count()
        where.mkdir()
        fails = failing(number, at, lasting=False)

        def gate(name: str, path: str, calls: Iterator[int] = calls, fails: Gate = fails) -> None:
            next(calls)
            fails(name, path)

        with pytest.MonkeyPatch.context() as patch, recorded(Disk(where, gate), patch):
            error = await made(key, image, where)
        if error is not None:
            told += 1
            assert error.hint
        assert await made(key, image, where) is None
        assert whole(key, where)
        if next(calls) <= at:
            break
    assert told > 3


@ROOT
def test_a_certificate_that_a_full_disk_does_not_take_is_an_error_and_its_key_is_not_left(tmp_path: Path) -> None:
    seen = set()
    with small_disk(tmp_path / "d", "8k") as folder:
        (folder / "other").write_bytes(b"x" * 8192)
        for size in (8192, 4096):
            os.truncate(folder / "other", size)
            try:
                certificate.self_signed(ADDRESS, folder)
            except OSError as error:
                seen.add(error.errno)
            else:
                seen.add(None)
            assert [each.name for each in folder.iterdir()] == ["other"]
    assert seen == {errno.ENOSPC, None}
