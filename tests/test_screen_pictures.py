"""Pictures of screens: from QEMU's PPM to a PNG, to text, and to what it means."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.base.picture import HIGHEST, WIDEST, Picture, alike, of_ppm
from nestlab.explain import screen, screen_font

BLACK, WHITE, BLUE = b"\0\0\0", b"\xaa\xaa\xaa", b"\x00\x78\xd7"


def blank(width: int = 720, height: int = 400, colour: bytes = BLACK) -> Picture:
    return Picture(width, height, colour * (width * height))


def written(*lines: str, width: int = 720, height: int = 400, cell: int = 9, ink: bytes = WHITE) -> Picture:
    """A screen with lines on it, drawn with the shapes."""
    shape = {code: bits for bits, code in screen_font.shapes().items()}
    pixels = bytearray(3 * width * height)
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            bits = shape.get(letter.encode("cp437")[0], 0)
            for at in range(128):
                if bits >> (127 - at) & 1:
                    place = 3 * ((16 * row + at // 8) * width + cell * column + at % 8)
                    pixels[place : place + 3] = ink
    return Picture(width, height, bytes(pixels))


def dotted(picture: Picture, *places: tuple[int, int], ink: bytes = b"\xff\xff\xff") -> Picture:
    pixels = bytearray(picture.pixels)
    for x, y in places:
        at = 3 * (y * picture.width + x)
        pixels[at : at + 3] = ink
    return Picture(picture.width, picture.height, bytes(pixels))


def of_png(data: bytes) -> Picture:
    """A reader of its own for the PNGs that are written, all of whose rows say "as above, and so much more"."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, body, size = 8, b"", (0, 0)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + content)
        if kind == b"IHDR":
            size = struct.unpack(">II", content[:8])
            assert content[8:] == b"\x08\x02\0\0\0"
        body += content if kind == b"IDAT" else b""
        at += 12 + length
    rows, before = zlib.decompress(body), bytes(3 * size[0])
    pixels = b""
    for start in range(0, len(rows), 3 * size[0] + 1):
        assert rows[start] == 2
        before = bytes((a + b) & 255 for a, b in zip(rows[start + 1 : start + 1 + 3 * size[0]], before, strict=True))
        pixels += before
    return Picture(*size, pixels)


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_png_holds_what_the_ppm_held(width: int, height: int, chance: object) -> None:
    pixels = bytes(chance.randrange(256) for _ in range(3 * width * height))  # type: ignore[attr-defined]
    picture = of_ppm(b"P6\n%d %d\n255\n" % (width, height) + pixels)
    assert picture == Picture(width, height, pixels)
    assert of_png(picture.png) == picture


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P5\n1 1\n255\n\0",
        b"P6\n2 2\n255\nshort",
        b"P6\n0 9\n255\n",
        b"P6\n%d 1\n255\n" % (WIDEST + 1),
        b"P6\n1 %d\n255\n" % (HIGHEST + 1),
        b"P6\n7680 4320\n255\n",
        b"P6\n99999999999 1\n255\n",
    ],
)
def test_what_is_no_picture_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="picture"):
        of_ppm(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_picture_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert of_ppm(b"P6\n" + data).width > 0


# -- still


def test_a_screen_is_still_though_its_cursor_blinks() -> None:
    here = blank()
    assert alike(here, blank())
    assert alike(here, dotted(here, (100, 30), (108, 31)))
    assert alike(dotted(here, (719, 399)), here)


def test_a_screen_that_shows_something_else_is_not_still() -> None:
    here = blank()
    assert not alike(here, dotted(here, (100, 30), (100, 90)))
    assert not alike(here, dotted(here, (100, 30), (300, 30)))
    assert not alike(here, blank(640, 480))


# -- text


@pytest.mark.parametrize(("width", "height", "cell"), [(720, 400, 9), (640, 480, 8), (1024, 768, 8), (1280, 800, 8)])
def test_the_text_of_a_screen_is_read(width: int, height: int, cell: int) -> None:
    lines = ("SeaBIOS (version 1.16.3)", "", "  login: ~{[|]}", "░▒▓│┤")
    assert screen.text(written(*lines, width=width, height=height, cell=cell)) == lines


def test_a_cursor_hides_neither_a_letter_nor_a_blank() -> None:
    picture = written("login: _")
    under = [(9 * 1 + at, row) for at in range(8) for row in (13, 14)]
    after = [(9 * 10 + at, row) for at in range(8) for row in (13, 14)]
    assert screen.text(dotted(picture, *after, ink=WHITE)) == ("login: _",)
    assert screen.text(dotted(picture, *under, ink=WHITE)) == ("login: _",)


def test_a_picture_has_no_text() -> None:
    assert screen.text(blank()) == ()
    noise = Picture(720, 400, bytes((at * at >> 5) & 255 for at in range(3 * 720 * 400)))
    assert screen.text(noise) == ()


# -- the end


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("No bootable device.", "nothing on its disks boots"),
        ("[ 1.0] Kernel panic - not syncing: VFS: cannot mount", "its kernel panicked: VFS: cannot mount"),
        ("grub rescue>", "its boot loader found no system"),
        ("An operating system was not found", ""),
    ],
)
def test_screens_after_which_nothing_comes_are_known(line: str, meaning: str) -> None:
    assert screen.end(written("Booting", line)) == meaning


def test_a_blue_screen_with_white_on_it_is_the_end_and_a_blue_desktop_is_not() -> None:
    blue = blank(1024, 768, BLUE)
    sad = bytearray(blue.pixels)
    for row in range(100, 300):
        sad[3 * 1024 * row + 300 : 3 * 1024 * row + 600] = b"\xff" * 300
    assert "blue screen" in screen.end(Picture(1024, 768, bytes(sad)))
    assert screen.end(blue) == ""
    assert screen.end(blank(1024, 768)) == ""
