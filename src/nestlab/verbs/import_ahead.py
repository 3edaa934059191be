"""Imports what a run will need, while its machines boot."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading

LULL = 0.5
"""Seconds after which an `up` has started what it can and waits: time to import what it will need."""


def start() -> None:
    """Libraries that take a fifth of a second to import, while machines boot rather than when they are there."""
    names = ("asyncssh", "nestlab.wire.ssh", "nestlab.wire.qmp", "nestlab.verbs.verify")

    def work() -> None:
        with contextlib.suppress(OSError):  # booting machines need the CPUs more
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        for name in names:
            importlib.import_module(name)

    threading.Thread(target=work, daemon=True).start()
