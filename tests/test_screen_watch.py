"""A machine that is waited for is given up by what its screen shows: real QEMUs, with boot sectors for systems."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

import boot_sector
from blueprints import draft, guest
from nestlab.base.errors import LabError
from nestlab.engines.qemu import screen_watch
from nestlab.engines.qemu.argv import Launch
from nestlab.engines.qemu.screen_watch import Ended, Screen
from nestlab.engines.qemu.wait import Wait
from nestlab.home.paths import MachinePaths
from nestlab.hosts.local import LocalHost
from test_qemu_console import BOX
from test_screen_pictures import blank, dotted, written
from test_screen_qemu import Start, sector, start  # noqa: F401 - a fixture
from waiting import LONG

RESCUE = boot_sector.shows(b"grub rescue> ")


@dataclass
class Deadline:
    """Never over."""

    passed: list[float] = field(default_factory=list)

    def expired(self) -> bool:
        return False

    def reschedule(self, when: float | None) -> None:
        self.passed.append(when or 0.0)


def launched(folder: Path) -> Launch:
    spec = draft("x", guest("m"))["m"]
    return Launch("x", spec, MachinePaths(str(folder)), "tcg", 0, "52:54:00:00:00:01")


def watched(folder: Path) -> Screen:
    """Of a machine whose monitor is `q`, in that folder."""
    screen = Screen(LocalHost(), launched(folder), 1.0)
    (folder / "qmp").symlink_to("q")
    return screen


@pytest.mark.guest
async def test_a_screen_of_death_ends_the_wait_and_is_kept(
    start: Start,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screen_watch, "LOOK", 0.3)
    start("-vga", "std", "-drive", sector(tmp_path, RESCUE))
    screen = watched(tmp_path)
    async with asyncio.timeout(LONG):
        with pytest.raises(Ended, match="its boot loader found no system"):
            await screen.unless_ended(asyncio.sleep(1000), Wait(Deadline(), lambda: 1000.0))
    error = await screen.kept(LabError("m did not come up.", hint="See the log."))
    assert f"See the log. Its last screen is in {tmp_path}/screen.png." == error.hint
    assert "# grub rescue>" in error.detail
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")


async def test_work_that_is_done_ends_the_watch(tmp_path: Path) -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    await watched(tmp_path).unless_ended(work(), Wait(Deadline(), lambda: 1000.0))
    assert done
    with pytest.raises(LabError, match="broken"):
        await watched_again(tmp_path).unless_ended(fail(), Wait(Deadline(), lambda: 1000.0))


def watched_again(folder: Path) -> Screen:
    return Screen(LocalHost(), launched(folder), 1.0)


async def fail() -> None:
    raise LabError("broken")


async def test_an_error_of_a_machine_whose_qemu_has_gone_stays_as_it_is(tmp_path: Path) -> None:
    error = await watched(tmp_path).kept(LabError("m did not come up.", hint="See the log."))
    assert (error.hint, error.detail) == ("See the log.", "")


async def test_what_a_boot_loader_draws_on_the_console_and_never_ends_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_watch, "LOOK", 0.1)
    screen = Screen(LocalHost(), launched(tmp_path), 1.0)
    Path(screen.launch.paths.log).write_bytes(BOX)
    async with asyncio.timeout(LONG):
        with pytest.raises(Ended, match="not signed by its distribution") as found:
            await screen.unless_ended(asyncio.sleep(1000), Wait(Deadline(), lambda: 1000.0))
    assert "Verification failed: (0x1A) Security Violation" in found.value.lines


# -- what counts as still


def judged(*seen: tuple[Any, float], spent: float | None = 0.0, heard: float = 0.0) -> str:
    """Why the wait ended; pictures with the times at which they were seen."""
    screen = Screen(LocalHost(), cast(Launch, None), 1.0)
    wait = cast(Wait, type("Seen", (), {"spent": spent, "heard": heard}))
    try:
        for picture, now in seen:
            screen._judge(picture, wait, now)
    except Ended as end:
        return str(end)
    return ""


def test_a_screen_that_stays_as_it_is_ends_the_wait_though_a_cursor_blinks() -> None:
    here = blank()
    looks = [(dotted(here, (9, 9)) if now % 2 else here, float(20 * now)) for now in range(7)]
    assert "has not changed for" in judged(*looks)
    assert judged(*looks[:4]) == ""


@pytest.mark.parametrize(("spent", "heard"), [(0.9, 0.0), (None, 0.0), (0.0, 100.0)])
def test_it_does_not_while_the_machine_computes_or_speaks(spent: float | None, heard: float) -> None:
    looks = [(blank(), float(20 * now)) for now in range(7)]
    assert judged(*looks, spent=spent, heard=heard) == ""


def test_it_does_not_while_something_else_is_shown() -> None:
    looks = [(dotted(blank(), (9, 9), (9 * now, 99)), float(20 * now)) for now in range(1, 12)]
    assert judged(*looks) == ""


def test_a_known_end_counts_when_it_is_seen_twice() -> None:
    assert judged((written("No bootable device."), 0.0)) == ""
    assert judged((written("No bootable device."), 0.0), (written("Loading"), 1.0)) == ""
    ends = [(written("No bootable device."), 0.0), (written("No bootable device."), 1.0)]
    assert judged(*ends) == "by its screen, nothing on its disks boots"


async def test_a_screen_that_is_waited_for_until_it_stands_still_is_no_end() -> None:
    screen = Screen(LocalHost(), cast(Launch, None), 1.0, stillness=True)
    wait = cast(Wait, type("Seen", (), {"spent": 0.0, "heard": 0.0}))
    for now in range(9):
        screen._judge(blank(), wait, float(20 * now))
