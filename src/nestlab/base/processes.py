"""Names for processes that last: a pid is given again, at the latest after the next boot."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

LONGEST = 10
"""Digits of a pid, at most: a kernel's has 7 (PID_MAX_LIMIT)."""


def mark(pid: int | None = None) -> str:
    """A word for a process (this one): its pid, when it started (ticks after the boot), and 8 hex digits of the boot's
    id. A process that is gone has no more than its pid."""
    number = os.getpid() if pid is None else pid
    started = _started(number)
    return f"{number}.{started}.{_boot()}" if started else f"{number}"


def lives(word: str) -> bool:
    """Whether the very process of a mark lives; of a pid alone, whether there is such a process."""
    pid, _, rest = word.partition(".")
    if not pid.isascii() or not pid.isdigit() or len(pid) > LONGEST or not Path("/proc", pid).exists():
        return False
    return not rest or mark(int(pid)) == word


def _started(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc(5)), after the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:8]
    except OSError:
        return ""
