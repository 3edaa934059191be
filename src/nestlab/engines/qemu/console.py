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

_TIMER_LOST = re.compile(rb"rcu: .*Possible timer handling issue on cpu=(\d{1,4}) timer-softirq=(\d{1,10})")
"""Linux, kernel/rcu/tree_stall.h: a thread's timer on that CPU should have ended long ago. The second number counts
what the CPU's timers have done since its start."""

KEEP = 25
"""Lines of the end of a console that an error shows."""


@dataclass
class Watch:
    """Fed with the lines of a console; remembers the end, and what it means."""

    ready: bool = False
    fatal: str = ""
    stuck: str = ""
    """Why it goes nowhere, and starting it again may help."""
    _timers: dict[int, int] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=KEEP))

    def feed(self, line: bytes) -> None:
        clean = ESCAPES.sub(b"", line).rstrip()
        if clean:
            self.tail.append(one_line(clean.decode(errors="replace")))
        if clean.endswith(READY) or clean.startswith(READY):
            self.ready = True
        lost = _TIMER_LOST.search(clean)
        if lost:
            # Between two such lines are 21 s. A CPU that waits for its turn for so long is rare; one whose timer was
            # lost has the same count each time.
            cpu, count = int(lost[1]), int(lost[2])
            if self._timers.get(cpu) == count:
                self.stuck = f"its CPU {cpu} lost its timer"
            self._timers[cpu] = count
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
