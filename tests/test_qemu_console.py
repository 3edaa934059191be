"""A console tells early whether a machine is up or never will be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.engines.qemu.console import KEEP, Watch


def watch(*lines: bytes) -> Watch:
    seen = Watch()
    for line in lines:
        seen.feed(line)
    return seen


def test_the_ready_line_means_ready() -> None:
    assert watch(b"[    1.0] boot\n", b"nestlab: ready\r\n").ready


def test_the_ready_line_behind_escape_sequences_means_ready() -> None:
    assert watch(b"\x1b[0m\x1b[?7lnestlab: ready\n").ready


def test_a_line_that_only_mentions_it_does_not() -> None:
    assert not watch(b"echo nestlab: ready soon\n").ready


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (b"[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs", "its kernel panicked: VFS: Unable"),
        (b"[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", "Attempted to kill init"),
        (b"nestlab: cannot boot: no drive has the serial root", "start-up failed: no drive has the serial root"),
        (b"No bootable device.", "nothing on its disk boots"),
        (b"You are in emergency mode. After logging in", "emergency mode"),
    ],
)
def test_a_hopeless_console_is_recognised(line: bytes, meaning: str) -> None:
    assert meaning in watch(b"Booting\n", line + b"\r\n", b"---[ end ]---\n").fatal


def test_the_end_of_the_console_is_kept_and_bounded() -> None:
    seen = watch(*(b"line %d\n" % number for number in range(100)))
    assert len(seen.end.splitlines()) == KEEP
    assert seen.end.endswith("line 99")


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_any_bytes_are_read_without_an_error(lines: list[bytes]) -> None:
    assert len(watch(*lines).end.splitlines()) >= 0
