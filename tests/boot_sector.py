"""A system of somebody else's, as small as one can be: a boot sector that says something on the serial port, and no
more."""

from __future__ import annotations

from pathlib import Path

PROMPT = "box login: "

_CODE = bytes.fromhex("fa 31c0 8ed8 be177c fc ac 84c0 7406 baf803 ee ebf5 f4 ebfd")
"""cli; xor ax, ax; mov ds, ax; mov si, text; cld; each: lodsb; test al, al; jz end; mov dx, COM1; out dx, al; jmp each;
end: hlt; jmp end. The text follows, at 0x7c17. No interrupts: SeaBIOS writes to the port too, by its timer."""

_SHOWS = bytes.fromhex("b80300cd10 b800b88ec0 31ff be237c b90000 ac aa b007 aa e2f9 f4 ebfd").ljust(0x23, b"\x90")
"""mov ax, 3; int 10h (a text screen, empty); mov ax, 0xb800; mov es, ax; xor di, di; mov si, text; mov cx, LENGTH;
each: lodsb; stosb; mov al, 7; stosb; loop each; end: hlt; jmp end. The text follows, at 0x7c23. It goes past the
firmware, and so past the serial port."""


def shows(says: bytes) -> bytes:
    """A boot sector without its last two bytes that shows a line on the screen, and halts."""
    return _SHOWS.replace(b"\xb9\0\0", b"\xb9" + len(says).to_bytes(2, "little")) + says


def screen_disk(file: Path, says: bytes) -> Path:
    """A raw disk of 1 MiB that boots by BIOS and shows a line."""
    file.write_bytes((shows(says).ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    return file


def disk(file: Path, says: str = f"\r\nstarting\r\n{PROMPT}") -> Path:
    """A raw disk of 1 MiB that boots by BIOS."""
    sector = (_CODE + says.encode() + b"\0").ljust(510, b"\0")
    assert len(sector) == 510
    file.write_bytes((sector + b"\x55\xaa").ljust(1 << 20, b"\0"))
    return file
