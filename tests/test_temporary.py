"""What a killed nestlab left in /tmp is known as that, and removed by the next; nothing of anybody else is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestlab.base import temporary
from nestlab.home.directories import Home
from nestlab.verbs import leftovers

HOLDS = """
import socket, sys, time
from nestlab.base import temporary
with temporary.folder() as place:
    socket.socket(socket.AF_UNIX).bind(place + "/s")
    print(place, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def top(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files of this test's own, which is short."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as place:
        monkeypatch.setenv("TMPDIR", place)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(place)
    tempfile.tempdir = None
    temporary._swept.cache_clear()


def _other() -> tuple[subprocess.Popen[str], Path]:
    """Another nestlab that has such a directory, with a socket in it."""
    process = subprocess.Popen((sys.executable, "-c", HOLDS), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_its_users_alone_and_goes(top: Path) -> None:
    with temporary.folder() as place:
        assert Path(place).parent == top
        assert Path(place).stat().st_mode & 0o777 == 0o700
        Path(place, "s").touch()
        assert temporary.abandoned() == []
        temporary.sweep()
        assert Path(place, "s").exists()
    assert list(top.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_has_stays(top: Path) -> None:
    killed, left = _other()
    living, used = _other()
    try:
        temporary.sweep()
        assert {left, used} <= set(top.iterdir())
        killed.kill()
        killed.wait()
        assert temporary.abandoned() == [left]
        temporary._swept.cache_clear()
        with temporary.folder() as mine:
            assert set(top.iterdir()) == {used, Path(mine)}
            assert (used / "s").is_socket()
        living.communicate("")
        assert list(top.iterdir()) == []
    finally:
        for each in (killed, living):
            each.kill()
            each.communicate()


def test_gc_tells_of_it_and_removes_it(top: Path) -> None:
    killed, left = _other()
    killed.kill()
    killed.communicate()
    home = Home(top / "state", top / "cache")
    (found,) = [each for each in leftovers.find(home) if each.path == left]
    assert found.what == f"directory {left}"
    leftovers.remove(found)
    assert not left.exists()


def test_nothing_that_is_not_nestlabs_own_is_touched(top: Path) -> None:
    names = {
        "other": "nestlab-xabcdefg",
        "longer": "nestlab-run-abcdefghi",
        "capital": "nestlab-run-ABCDEFGH",
        "open": "nestlab-run-abcdefg0",
        "file": "nestlab-run-abcdefg1",
        "link": "nestlab-run-abcdefg2",
    }
    paths = {key: top / name for key, name in names.items()}
    for key in ("other", "longer", "capital", "open"):
        paths[key].mkdir(mode=0o700)
        (paths[key] / "mine").touch()
    paths["open"].chmod(0o755)
    paths["file"].touch()
    paths["link"].symlink_to(paths["other"])
    before = sorted(top.rglob("*"))
    temporary.sweep()
    assert sorted(top.rglob("*")) == before
    assert temporary.abandoned() == []


def test_what_is_somebody_elses_is_not_touched(top: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    theirs = top / "nestlab-run-abcdefgh"
    theirs.mkdir(mode=0o700)
    (theirs / "mine").touch()
    os.chown(theirs, 12345, 12345)
    temporary.sweep()
    assert (theirs / "mine").exists()


def test_what_is_in_it_is_removed_and_no_link_is_followed(top: Path) -> None:
    victim = top / "victim"
    victim.mkdir()
    (victim / "mine").touch()
    left = top / "nestlab-run-abcdefgh"
    left.mkdir(mode=0o700)
    (left / "link").symlink_to(victim)
    temporary.sweep()
    assert not left.exists()
    assert (victim / "mine").exists()


def test_a_socket_in_it_fits_also_where_temporary_files_are_far_away(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = top / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with temporary.folder() as place, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}/console")
