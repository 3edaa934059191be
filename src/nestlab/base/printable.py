"""Text from elsewhere, made safe to print on a terminal. Pure, and light to import."""

from __future__ import annotations

import re

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


_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor, and questions that the terminal answers
    r"|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # strings: titles, clipboards
    r"|\x1b[ -/]*[0-~]"
)
"""Control sequences of a terminal (ECMA-48)."""


def console_lines(line: bytes) -> list[str]:
    """One line of what a console said, fit for a terminal: colours and other sequences are left out, other control
    characters shown. Several lines where it was written over (by carriage returns)."""
    text = _SEQUENCES.sub("", line.decode(errors="replace"))
    parts = [part for part in text.split("\r") if part] or [""]
    return [one_line(part).replace("\\x09", "\t") for part in parts]
