"""Text from elsewhere, made safe to print on a terminal. Pure, and light to import.

Shown as escapes (`\\x1b`, `\\u202e`) are all that acts on a terminal or hides: controls of 7 and 8 bits, what turns
the direction of a text, letters without width, tags, halves of surrogate pairs, and what this Python's Unicode has no
letter for. Blanks of every width stay.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import Any

_UNSEEN = frozenset(
    (
        *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2028, 0x2029, 0x3164, 0xFFA0),
        *range(0xFE00, 0xFE0E),  # U+FE0E and U+FE0F say whether a sign is drawn as text or as a picture
        *range(0xE0100, 0xE01F0),
    )
)
"""Letters and marks to Unicode, but invisible: fillers and selectors, in which a text can be hidden. And line ends."""

LONGEST = 1000
"""Characters of a value in one line that are shown."""


def hidden(letter: str) -> bool:
    """Whether a character acts on a terminal, or cannot be seen."""
    if letter == " " or (letter.isprintable() and ord(letter) not in _UNSEEN):
        return False
    # Blanks that are wider or narrower than the usual one are no more than that.
    return not letter.isspace() or ord(letter) <= 0x85 or ord(letter) in _UNSEEN


def escaped(letter: str) -> str:
    """A character as Python and YAML write it: `\\x1b`, `\\u202e`, `\\U000e0041`."""
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(letter: str) -> str:
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD800 + (code - 0x10000 >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


class _Letters(dict[int, str]):
    """For `str.translate`: every character, as it is or escaped, found once, but for those that are rare."""

    def __init__(self, escape: Callable[[str], str], stay: str) -> None:
        super().__init__()
        self._escape, self._stay = escape, stay

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        shown = self._escape(letter) if hidden(letter) and letter not in self._stay else letter
        if code < 0x2800:
            self[code] = shown
        return shown


_IN_LINES, _IN_ONE, _IN_JSON = _Letters(escaped, "\n\t"), _Letters(escaped, ""), _Letters(_json_escaped, "\n")


def printable(text: str) -> str:
    """The text, in which what acts on a terminal or hides is shown (`\\x1b`); newlines and tabs stay."""
    return text if _plain(text) else text.translate(_IN_LINES)


def one_line(text: str) -> str:
    """The same, in which newlines and tabs are shown as well."""
    return text if _plain(text) else text.translate(_IN_ONE)


def brief(text: str) -> str:
    """The same, of which no more than `LONGEST` characters are shown: a value of one line, however it came."""
    return one_line(text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text) - LONGEST} more characters)")


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def to_json(document: Any, *, ensure_ascii: bool = False, **how: Any) -> str:
    """JSON in which what would act on a terminal is escaped (`\\u202e`): the same data, wherever it is read. Other
    letters stay as they are."""
    import json

    return json.dumps(document, ensure_ascii=ensure_ascii, **how).translate(_IN_JSON)


_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor, and questions that the terminal answers
    r"|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"  # strings: titles
    r"|\x1b[ -/]*[0-~]"
)
"""Control sequences of a terminal (ECMA-48)."""


def console_lines(line: bytes) -> list[str]:
    """One line of what a console said, fit for a terminal: colours and other sequences are left out, other control
    characters shown. Several lines where it was written over (by carriage returns)."""
    text = _SEQUENCES.sub("", line.decode(errors="replace"))
    parts = [part for part in text.split("\r") if part] or [""]
    return [printable(part).replace("\n", "\\x0a") for part in parts]


class Passing:
    """What a program prints, as it comes, fit for a terminal: control characters are shown, and a line that is written
    over (by a carriage return) becomes several."""

    def __init__(self) -> None:
        letters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._decoder = io.IncrementalNewlineDecoder(letters, translate=True)

    def __call__(self, data: bytes, *, last: bool = False) -> bytes:
        """What of it can be shown now; `last`: all."""
        return printable(self._decoder.decode(data, last)).encode()
