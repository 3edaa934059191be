"""A disk image is copied with its holes as holes, and not put in place unless it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.engines.qemu import sparse_copy
from nestlab.hosts.local import LocalHost
from nestlab.wire.shapes import Odd


def image(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(64 << 20)
        for at in (0, 5 << 20, (64 << 20) - 4096):
            file.seek(at)
            file.write(os.urandom(4096))
    return path


async def test_a_copy_is_the_same_and_keeps_its_holes(tmp_path: Path) -> None:
    source, target = image(tmp_path / "source"), tmp_path / "deep" / "target"
    await sparse_copy.copy(source, LocalHost(), str(target))
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20
    assert [path.name for path in target.parent.iterdir()] == ["target"]


async def test_an_empty_file_and_one_hole_are_copied(tmp_path: Path) -> None:
    for size in (0, 1 << 20):
        with (tmp_path / "source").open("wb") as file:
            file.truncate(size)
        await sparse_copy.copy(tmp_path / "source", LocalHost(), str(tmp_path / "target"))
        assert (tmp_path / "target").stat().st_size == size


def test_a_copy_that_breaks_off_is_not_put_in_place(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", sparse_copy.RECEIVE, str(tmp_path / "target"), "4096"]
    half = (0).to_bytes(8, "big") + (4096).to_bytes(8, "big") + b"half"
    for sent in (b"", b"\0" * 5, half):
        done = subprocess.run(argv, input=sent, capture_output=True)
        assert done.returncode != 0
        assert not (tmp_path / "target").exists()


async def test_a_copy_that_fails_there_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="cannot be copied"):
        await sparse_copy.copy(image(tmp_path / "source"), LocalHost(), str(tmp_path / "file" / "target"))


# -- out of a hypervisor


async def test_what_comes_back_is_the_same_and_keeps_its_holes(tmp_path: Path) -> None:
    source, target = image(tmp_path / "source"), tmp_path / "target"
    told: list[int] = []
    await sparse_copy.fetch(LocalHost(), str(source), target, 64 << 20, told.append)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20
    assert target.stat().st_mode & 0o777 == 0o600
    assert told == sorted(told)
    assert told[-1] == 64 << 20


async def test_a_disk_of_which_nothing_was_written_comes_back(tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as file:
        file.truncate(1 << 20)
    await sparse_copy.fetch(LocalHost(), str(tmp_path / "source"), tmp_path / "target", 1 << 20)
    assert (tmp_path / "target").read_bytes() == bytes(1 << 20)


PIECE = "out.write((%d).to_bytes(8, 'big') + (%d).to_bytes(8, 'big') + b'x' * %d)\n"

LIES = {
    "beyond its end": (PIECE % (4090, 10, 10), "bytes at 4090, of a disk of 4096"),
    "far beyond its end": (PIECE % ((1 << 64) - 1, 10, 10), "of a disk of 4096"),
    "twice": (PIECE % (0, 4096, 4096) + PIECE % (0, 4096, 4096), "bytes at 0"),
    "a piece without end": (PIECE % (0, 1 << 63, 1 << 20), f"a piece of {1 << 63} bytes"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_whoever_sends_a_disk_fills_it_and_no_more(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, words = LIES[lie]
    monkeypatch.setattr(sparse_copy, "SEND", f"import sys\nout = sys.stdout.buffer\n{program}")
    with pytest.raises(Odd) as error:
        await sparse_copy.fetch(LocalHost(), "disk", tmp_path / "target", 4096)
    assert words in str(error.value)
    assert (tmp_path / "target").stat().st_size == 4096


@pytest.mark.parametrize("program", ["", "out.write(b'half')", PIECE % (0, 10, 5), PIECE % (0, 10, 10)])
async def test_a_disk_that_breaks_off_is_none(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"import sys\nout = sys.stdout.buffer\n{program}\nout.flush()\nsys.exit('no more')"
    monkeypatch.setattr(sparse_copy, "SEND", text)
    with pytest.raises(LabError, match="cannot be copied") as error:
        await sparse_copy.fetch(LocalHost(), "disk", tmp_path / "target", 4096)
    assert "no more" in error.value.detail


async def test_one_that_stops_sending_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience.of_lab(1.0, 1.0)
    monkeypatch.setattr(sparse_copy, "SILENCE", 0.2)
    monkeypatch.setattr(sparse_copy, "SEND", "import time\ntime.sleep(100000)")
    with pytest.raises(Overdue, match="stopped sending"):
        await sparse_copy.fetch(LocalHost(), "disk", tmp_path / "target", 4096)


async def test_no_file_of_this_machine_is_written_over_by_what_comes(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "target").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError):
        await sparse_copy.fetch(LocalHost(), str(image(tmp_path / "source")), tmp_path / "target", 64 << 20)
    assert (tmp_path / "mine").read_text() == "mine"
