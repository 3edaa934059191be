"""Text from elsewhere, made safe to print on a terminal. Pure, and light to import."""

from __future__ import annotations

_HIDDEN = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x61C, 0x200E, 0x200F),  # they and some of these turn the direction of what follows
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HIDDEN}
_IN_LINES = {code: shown for code, shown in _SHOWN.items() if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """The text, in which control characters are shown (`\\x1b`) and do nothing; newlines and tabs stay."""
    return text if text.isprintable() else text.translate(_IN_LINES)


def one_line(text: str) -> str:
    """The same, in which newlines and tabs are shown as well."""
    return text if text.isprintable() else text.translate(_SHOWN)
