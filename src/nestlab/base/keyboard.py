"""Keys of a keyboard by QEMU's names (QKeyCode in qapi/ui.json), and texts as keys of a US layout. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nestlab.base.did_you_mean import meant
from nestlab.base.errors import LabError
from nestlab.base.printable import one_line

Chord = tuple[str, ...]
"""Keys that are pressed together, in this order."""

LONGEST = 4096
"""Characters of a text, or keys, that are typed at once."""

_NAMES = """
shift shift_r alt alt_r ctrl ctrl_r meta_l meta_r menu compose esc tab ret spc backspace caps_lock
1 2 3 4 5 6 7 8 9 0 a b c d e f g h i j k l m n o p q r s t u v w x y z
minus equal bracket_left bracket_right semicolon apostrophe grave_accent backslash comma dot slash asterisk less
f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 print sysrq scroll_lock pause
insert delete home end pgup pgdn up down left right num_lock
kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9
kp_add kp_subtract kp_multiply kp_divide kp_decimal kp_enter
"""
KEYS = frozenset(_NAMES.split())

ALIASES = {
    "enter": "ret",
    "return": "ret",
    "space": "spc",
    "escape": "esc",
    "del": "delete",
    "ins": "insert",
    "control": "ctrl",
    "altgr": "alt_r",
    "win": "meta_l",
    "super": "meta_l",
    "meta": "meta_l",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "period": "dot",
    "printscreen": "print",
}
"""What keys are called besides."""

_PLAIN = {
    " ": "spc",
    "\n": "ret",
    "\t": "tab",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    "\\": "backslash",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED = dict(zip('!@#$%^&*()_+{}|:"~<>?', "1234567890-=[]\\;'`,./", strict=True))


def chord(word: str) -> Chord:
    """The keys of a word such as `ctrl-alt-f2` or `a`. LabError for a key that is none."""
    keys = tuple(ALIASES.get(key, key) for key in word.lower().split("-"))
    for key in keys:
        if key not in KEYS:
            name = one_line(key)[:40]
            near = meant(name, sorted(KEYS | set(ALIASES)))
            hint = near or "Such as ctrl-alt-f2, ret, esc, f12, down or a; docs/screens.md lists them."
            raise LabError(f"{name or 'Nothing'} is no key of a keyboard.", hint=hint)
    return keys


def chords(words: Iterable[str]) -> tuple[Chord, ...]:
    """Each word's. LabError as of `chord`, and for more than LONGEST."""
    found = tuple(chord(word) for word in words)
    _check(len(found))
    return found


def typed(text: str) -> tuple[Chord, ...]:
    """The keys that type a text on a US keyboard. LabError for a text that cannot be typed whole, or is too long."""
    _check(len(text))
    found = []
    for at, letter in enumerate(text, 1):
        keys = _letter(letter)
        if keys is None:
            shown = one_line(letter.encode(errors="replace").decode())
            what = f"{shown!r}, character {at} of the text, cannot be typed on a US keyboard."
            raise LabError(what, hint="Nothing was typed. Only ASCII can be; `nestlab cp` brings any text in a file.")
        found.append(keys)
    return tuple(found)


def _check(count: int) -> None:
    if count > LONGEST:
        what = f"That is {count} keys, and at most {LONGEST} are typed at once."
        raise LabError(what, hint="`nestlab cp` brings long texts in a file.")


def _letter(letter: str) -> Chord | None:
    if re.fullmatch("[a-z0-9]", letter):
        return (letter,)
    if re.fullmatch("[A-Z]", letter):
        return ("shift", letter.lower())
    if letter in _SHIFTED:
        plain = _letter(_SHIFTED[letter])
        return ("shift", *plain) if plain else None
    return (_PLAIN[letter],) if letter in _PLAIN else None
