"""Reads a console as it comes: is the machine ready, or lost? Pure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

from nestlab.base.printable import one_line

READY = b"nestlab: ready"
"""What nestlab's own images write once sshd listens."""

FATAL: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"Kernel panic - not syncing: (.*)"), "its kernel panicked: {}"),
    (re.compile(rb"nestlab: cannot boot: (.*)"), "its start-up failed: {}"),
    (re.compile(rb"No bootable device|Boot failed: not a bootable disk"), "nothing on its disk boots"),
    (re.compile(rb"error: no such device|grub rescue>|Entering rescue mode"), "its boot loader found no system"),
    (re.compile(rb"You are in emergency mode|Entering emergency mode"), "its system fell into emergency mode"),
)

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;?!=]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][A-Z0-9]|[=>])|[\x00-\x08\x0b-\x1f\x7f]"
)
KEEP = 25
"""Lines of the end of a console that an error shows."""


@dataclass
class Watch:
    """Fed with the lines of a console; remembers the end, and what it means."""

    ready: bool = False
    fatal: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=KEEP))

    def feed(self, line: bytes) -> None:
        clean = _ESCAPES.sub(b"", line).rstrip()
        if clean:
            self.tail.append(one_line(clean.decode(errors="replace")))
        if clean.endswith(READY) or clean.startswith(READY):
            self.ready = True
        for pattern, meaning in FATAL:
            match = pattern.search(clean)
            if match and not self.fatal:
                said = one_line(match.group(1).decode(errors="replace").strip()) if match.groups() else ""
                self.fatal = meaning.format(said).rstrip(": ")

    @property
    def end(self) -> str:
        return "\n".join(f"  | {line}" for line in self.tail)
