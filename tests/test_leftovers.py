"""What no lab uses any more: real directories, real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nestlab.engines.qemu import quick_status
from nestlab.home import lock
from nestlab.home.directories import Home
from nestlab.images import inventory
from nestlab.verbs import leftovers
from nestlab.wire import qga
from waiting import LONG

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "state", tmp_path / "cache")
    place = made.lab("pair")
    place.blueprint.write_text("{}")
    return made


def mine(home: Home) -> list[leftovers.Leftover]:
    """Those in this home; other tests of this user may run beside this one."""
    found = leftovers.find(home)
    return [each for each in found if str(home.state) in each.what + each.why]


def test_a_lab_that_was_made_is_no_leftover(home: Home) -> None:
    assert mine(home) == []


def test_directories_in_which_nothing_was_made_are_found_and_removed(home: Home) -> None:
    never = home.lab("never")
    removed = home.state / "labs" / ".gone.removed"
    removed.mkdir()
    (removed / "id_ed25519").touch()
    found = mine(home)
    assert {each.path for each in found} == {never.root, removed}
    for each in found:
        leftovers.remove(each)
    assert home.labs() == ["pair"]
    assert not removed.exists()


async def test_a_lab_that_somebody_is_making_is_no_leftover(home: Home) -> None:
    place = home.lab("soon")
    async with lock.held(place.lock, "soon", "up"):
        assert mine(home) == []


def test_half_written_files_are_found_once_nobody_writes_them(home: Home) -> None:
    half = home.lab("pair").root / ".lab.json.abc"
    half.touch()
    assert mine(home) == []
    old = time.time() - leftovers.SETTLED - 1
    os.utime(half, (old, old))
    (found,) = mine(home)
    leftovers.remove(found)
    assert not half.exists()


def test_a_process_whose_directory_is_gone_is_found_and_ended(home: Home) -> None:
    gone, there = home.state / "labs" / "old" / "switch", home.lab("pair").root
    argv = [*SLEEP, "nestlab-switch:old", str(gone)]
    kept = [*SLEEP, "-name", "nestlab:pair:hv1,debug-threads=on", "-pidfile", str(there / "pid")]
    with subprocess.Popen(argv) as stale, subprocess.Popen(kept) as used:
        try:
            while not Path(f"/proc/{stale.pid}/cmdline").read_bytes():
                time.sleep(0.01)  # the kernel shows a command line a moment after it closed what tells of the exec
            (found,) = mine(home)
            assert (found.pid, found.why) == (stale.pid, f"{gone} is gone")
            leftovers.remove(found)
            stale.wait(timeout=LONG)
            assert used.poll() is None
        finally:
            stale.kill()
            used.kill()


def test_gc_asks_no_machine_anything(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """So none of them keeps it waiting, whatever it is."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a machine is asked")

    for module, name in ((quick_status, "_ask"), (quick_status, "_inside"), (qga, "look")):
        monkeypatch.setattr(module, name, asked)
    never = home.lab("never")
    assert [each.path for each in mine(home)] == [never.root]
    home.existing("pair").blueprint.unlink()  # type: ignore[union-attr]
    assert inventory.unused(home) == ()


def test_a_pid_that_was_given_again_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as process:
        try:
            leftovers.remove(leftovers.Leftover("process", "", pid=process.pid, started="1"))
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["python", "-m", "nestlab.network.switch", "nestlab-switch:pair", "/s", "wire"],
            ("the switch of lab pair", Path("/s")),
        ),
        (
            ["qemu", "-name", "nestlab:pair:hv1/web,debug-threads=on", "-pidfile", "/m/1/pid"],
            ("QEMU of hv1/web in lab pair", Path("/m/1")),
        ),
        (["qemu", "-name", "other", "-pidfile", "/m/1/pid"], None),
        (["qemu", "-name", "nestlab:pair:hv1"], None),
        (["grep", "nestlab-switch:pair"], None),
    ],
)
def test_processes_are_known_by_their_own_words(words: list[str], expected: object) -> None:
    assert leftovers.owner(words) == expected
