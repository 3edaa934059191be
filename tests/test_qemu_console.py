"""A console tells early whether a machine is up or never will be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.engines.qemu.console import KEEP, Watch, drawn


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
        (
            b'BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x2,0x0): Access Denied',
            "Secure Boot refuses what is on its disk",
        ),
        (b"  Verification failed: (0x1A) Security Violation  ", "Secure Boot refuses what its boot loader is to start"),
        (b"error: ../../grub-core/kern/efi/sb.c:185:bad shim signature.", "Secure Boot refuses the kernel on its disk"),
        (b"EFI stub: ERROR: Failed to decompress kernel", "cannot start its kernel: Failed to decompress kernel"),
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


BOX = (
    b"BdsDxe: starting Boot0002 from PciRoot(0x0)/Pci(0x3,0x0)\r\n"
    b"\x1b[0m\x1b[37m\x1b[44m\x1b[01;01H\xe2\x94\x8c\xe2\x94\x80"
    b"\x1b[02;01H\xe2\x94\x82        ERROR       \xe2\x94\x82\x1b[03;01H\xe2\x94\x82  Verification failed: (0x1A)"
    b" Security Violation  \xe2\x94\x82\x1b[04;01H\xe2\x94\x82 OK \xe2\x94\x82"
)
"""What shim draws on a serial console, and waits."""


def test_a_box_that_is_drawn_on_the_last_line_is_read() -> None:
    shown = drawn(BOX)
    assert "Secure Boot refuses what its boot loader is to start" in shown.fatal
    assert [*shown.tail] == ["ERROR", "Verification failed: (0x1A) Security Violation", "OK"]
    assert not drawn(BOX + b"\nWelcome to GRUB!").fatal, "it went on"


@given(st.binary(max_size=400))
def test_the_end_of_any_console_is_read_without_an_error(end: bytes) -> None:
    assert len(drawn(end).tail) <= KEEP


def test_a_disk_that_does_not_boot_is_no_end_as_long_as_the_firmware_tries_another() -> None:
    said = b"Booting from Hard Disk...\r\nBoot failed: not a bootable disk\r\n"
    assert not watch(said, b"Booting from ROM...\r\n").fatal
    assert watch(said, b"No bootable device.\r\n").fatal == "nothing on its disk boots"
