"""What may be left behind: by a test in its own process (`none`), and by nestlab in the world (`world`)."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

from waiting import LONG

SETTLE = LONG
"""Seconds that processes which were told to end may still be seen."""


def descriptors() -> dict[str, str]:
    found = {}
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(each.readlink())
            if target != f"/proc/{os.getpid()}/fd":
                found[each.name] = target
    return found


def children() -> set[int]:
    """Of this process, whoever of its threads started them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= set(map(int, (task / "children").read_text().split()))
    return found


@contextlib.contextmanager
def none() -> Iterator[None]:
    """Nothing is left over at the end that was not there at the start."""
    before, had = descriptors(), children()
    yield
    gc.collect()
    after = {number: target for number, target in descriptors().items() if before.get(number) != target}
    assert not after
    assert not children() - had


def processes(*places: Path) -> dict[int, str]:
    """Living processes whose command line or working directory names one of the places, but this one's family."""
    words = [os.fsencode(place) for place in places]
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            where = os.fsencode(os.readlink(entry / "cwd"))  # noqa: PTH115
            if int(entry.name) not in (os.getpid(), os.getppid()) and any(word in line + where for word in words):
                found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def mounts(*places: Path) -> list[str]:
    """What is mounted below the places."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if any(point.startswith(f"{place}/") for place in places)]


def scratch() -> set[str]:
    """Where programs put what they should remove: temporary folders of nestlab's and mmdebstrap's, shared memory, and
    network devices."""
    folders = [
        *Path("/tmp").glob("nestlab-*"),
        *Path("/var/tmp").glob("mmdebstrap*"),
        *Path("/tmp").glob("mmdebstrap*"),
    ]
    own = [folder for folder in folders if folder.exists() and folder.stat().st_uid == os.geteuid()]
    return {str(each) for each in (*own, *Path("/dev/shm").iterdir(), *Path("/sys/class/net").iterdir())}


@contextlib.contextmanager
def world(*places: Path) -> Iterator[None]:
    """At the end no process works in the places, nothing is mounted there, and no scratch is left. What tests of
    another worker have just now goes meanwhile."""
    before = scratch()
    yield
    until = time.monotonic() + SETTLE
    while processes(*places) and time.monotonic() < until:
        time.sleep(0.2)
    assert processes(*places) == {}
    assert mounts(*places) == []
    new = scratch() - before
    until = time.monotonic() + LONG
    while (left := {each for each in new if Path(each).exists()}) and time.monotonic() < until:
        time.sleep(0.5)
    assert not left
