"""Lets machines go on that were paused for a snapshot, whatever became of who paused them. Light: it is a program, too.

As a program it stands by while they are paused: it reads its stdin, which ends when nestlab does. Its arguments are the
sockets of monitors. nestlab writes a line when the machines run again, and then nothing is left to do.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from nestlab.base.errors import LabError
from nestlab.wire import qmp

TURNS = 600
"""Looks at a migration that is being ended, before it is left."""

TURN = 0.1
"""Seconds between two."""

TIMEOUT = 10.0
"""Seconds in which a QEMU answers."""

BUSY = ("setup", "active", "device", "pre-switchover", "cancelling", "wait-unplug")
"""States of a migration that is at work."""

STOPPED = ("paused", "postmigrate", "finish-migrate", "save-vm")
"""Run states of a QEMU that was paused for a snapshot."""


def next_command(state: str, migration: str) -> str:
    """What a QEMU is told next so that its machine goes on; "": nothing, it runs, or never will."""
    if migration in BUSY:
        return "migrate_cancel"
    return "cont" if state in STOPPED else ""


def let_go(socket: str, where: str = "") -> bool:
    """Let a machine go on. Whether it runs then; LabError where its QEMU does not answer."""
    for _ in range(TURNS):
        state, migration = _asked(socket, where)
        command = next_command(state, migration)
        if not command:
            return state == "running"
        with contextlib.suppress(LabError):  # it still ends its migration
            qmp.ask(socket, (command,), timeout=TIMEOUT, where=where)
        time.sleep(TURN)  # nothing tells when a migration that was cancelled is over
    return False


def _asked(socket: str, where: str) -> tuple[str, str]:
    answers: list[Any] = qmp.ask(socket, ("query-status", "query-migrate"), timeout=TIMEOUT, where=where)
    return str(answers[0]["status"]), str(answers[1].get("status", ""))


def main() -> None:
    """See above."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if sys.stdin.readline():
        return
    for socket in sys.argv[1:]:
        with contextlib.suppress(LabError):
            let_go(socket)


if __name__ == "__main__":
    main()
