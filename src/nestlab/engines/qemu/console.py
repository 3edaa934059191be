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
    (re.compile(rb"No bootable device"), "nothing on its disk boots"),
    (
        re.compile(rb"BdsDxe: failed to (?:load|start) .*: Access Denied"),
        "Secure Boot refuses what is on its disk, which is not signed with a key that its firmware knows",
    ),
    (
        re.compile(rb"Verification failed: \(0x1A\) Security Violation"),
        "Secure Boot refuses what its boot loader is to start, which is not signed by its distribution",
    ),
    (
        re.compile(rb"error: .*bad shim signature"),
        "Secure Boot refuses the kernel on its disk, which is not signed by its distribution",
    ),
    (re.compile(rb"EFI stub: ERROR: (.*)"), "its UEFI cannot start its kernel: {}"),
    (re.compile(rb"error: no such device|grub rescue>|Entering rescue mode"), "its boot loader found no system"),
    (re.compile(rb"You are in emergency mode|Entering emergency mode"), "its system fell into emergency mode"),
)

ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;?!=]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][A-Z0-9]|[=>])|[\x00-\x08\x0b-\x1f\x7f]"
)
"""What moves the cursor, and control characters."""

_ELSEWHERE = re.compile(rb"\x1b\[\d{1,3};\d{1,3}H")
"""The cursor goes to another place: what is drawn there is another line."""

_FRAME = "│┃║─━═┌┐└┘╔╗╚╝ "

KEEP = 25
"""Lines of the end of a console that an error shows."""


@dataclass
class Watch:
    """Fed with the lines of a console; remembers the end, and what it means."""

    ready: bool = False
    fatal: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=KEEP))

    def feed(self, line: bytes) -> None:
        clean = ESCAPES.sub(b"", line).rstrip()
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


def drawn(end: bytes) -> Watch:
    """What a console shows without ending its line, as programs that draw boxes do and wait for a key. `end`: the last
    bytes of it."""
    watch = Watch()
    for piece in _ELSEWHERE.split(end.rpartition(b"\n")[2]):
        watch.feed(piece.decode(errors="replace").strip(_FRAME).encode())
    return watch
