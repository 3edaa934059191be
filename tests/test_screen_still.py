"""A machine that is up by its screen: what counts as standing still, and what never does. Pure."""

from __future__ import annotations

import pytest

from nestlab.base.picture import Picture
from nestlab.explain.stillness import Stillness, early
from test_screen_pictures import blank, dotted, written


def still(*shown: Picture, seconds: float = 3.0) -> list[bool]:
    """Of pictures, one a second."""
    screen = Stillness(seconds)
    return [screen.look(picture, float(now)) for now, picture in enumerate(shown)]


def test_it_is_up_once_its_screen_stood_still_for_its_time() -> None:
    here = written("login:")
    assert still(*[here] * 5) == [False, False, False, True, True]


def test_a_cursor_may_blink_meanwhile() -> None:
    here = written("login: ")
    assert still(*[here, dotted(here, (70, 14))] * 3)[-1]


def test_a_clock_may_go_on_meanwhile_and_what_counts_or_turns_is_not_still() -> None:
    hours = [written(f"12:{at:02}") for at in range(9)]
    slow = Stillness(120.0)
    assert [slow.look(hours[now // 60], float(now)) for now in range(0, 181, 10)][-1]
    assert not any(still(*hours))


def test_whatever_changes_begins_its_time_anew() -> None:
    here, there = written("starting"), written("login:")
    assert still(here, here, there, there, there, there) == [False] * 5 + [True]
    assert not any(still(*(written(f"{at} %") for at in range(20))))


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("SeaBIOS (version 1.16.3-debian)",),
        ("SeaBIOS (version 1.16.3)", "", "iPXE (https://ipxe.org) 00:02.0", "Booting from Hard Disk..."),
        ("Booting from DVD/CD...", "Boot failed: not a bootable disk", "No bootable device."),
        ("      GNU GRUB  version 2.12", " *Debian GNU/Linux", "", "The highlighted entry will be executed"),
        ("ISOLINUX 6.04 20200816", "boot:"),
        ("Guest has not initialized the display (yet).",),
        ("[ 1.0] Kernel panic - not syncing: VFS",),
        ("Press any key to boot from CD or DVD......",),
        ("GRUB loading.",),
    ],
)
def test_what_is_no_systems_never_counts(lines: tuple[str, ...]) -> None:
    assert not any(still(*[written(*lines)] * 9))


def test_what_a_firmware_left_above_does_not_count_against_a_system() -> None:
    assert still(*[written("SeaBIOS (version 1.16.3)", "Booting from Hard Disk...", "FreeDOS", "C:\\>")] * 5)[-1]


def test_a_picture_that_cannot_be_read_counts_and_an_empty_one_does_not() -> None:
    desktop = Picture(640, 480, bytes((at * at >> 5) & 255 for at in range(3 * 640 * 480)))
    assert not early(desktop)
    assert still(*[desktop] * 5)[-1]
    assert early(blank(640, 480, b"\x10\x20\x30"))
    assert early(dotted(blank(), (100, 30), (110, 40)))


def test_a_screen_of_another_size_is_another_screen() -> None:
    assert not any(still(written("a"), written("a", width=640, height=480, cell=8), written("a")))
