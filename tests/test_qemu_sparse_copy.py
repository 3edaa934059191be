"""A disk image is copied with its holes as holes, and not put in place unless it is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu import sparse_copy
from nestlab.hosts.local import LocalHost


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
