"""What a machine may have done to this terminal while it had it, taken back: by sequences of xterm's, which all
terminals of today know or leave alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

SAVE = b"\x1b[22;0t"
"""The title is kept aside."""

RESET = (
    b"\x1b\\"  # a string that was never ended would swallow the rest
    b"\x1b7"  # the cursor stays where it is, whatever of this moves it
    b"\x1b[?1049l"  # the screen that full-screen programs leave
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l"  # the mouse is not reported
    b"\x1b[?1004l\x1b[?2004l\x1b[?2026l"  # nor focus and pastes; what is drawn is shown
    b"\x1b[>4;0m\x1b[=0u"  # keys come as they always did
    b"\x1b[!p\x1b[4l\x1b[?7h\x1b[?69l\x1b[r\x1b[?25h\x1b[0 q\x1b[0m\x1b(B\x0f\x1b>\x1b[?1l"  # modes, margins, letters
    b"\x1b]8;;\x1b\\\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"  # no link, the usual colours
    b"\x1b[23;0t"  # the title that was kept aside
    b"\x1b8"
)
"""What makes a terminal usable again, and leaves what is on it."""


@contextlib.contextmanager
def lent(sink: int) -> Iterator[None]:
    """The terminal `sink` is a machine's until the context is left; then it is as it was. Nothing is written to what is
    no terminal."""
    if not os.isatty(sink):
        yield
        return
    with contextlib.suppress(OSError):
        os.write(sink, SAVE)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.write(sink, RESET)
