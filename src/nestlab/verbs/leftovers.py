"""Leftovers that no lab uses any more: directories, half-written files, and processes whose lab is gone.

A process is only taken for nestlab's by its own command line (`nestlab:LAB:PATH`, `nestlab-switch:LAB`), and for a
leftover because the directory that it names there is gone; so labs of another NESTLAB_HOME are safe.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from nestlab.base import temporary
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.home import lock
from nestlab.home.directories import Home, LabHome

SETTLED = 600.0
"""Seconds after which a half-written file belongs to nobody who still writes it."""

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_HALF_WRITTEN = (".lab.json.*", ".applied.json.*", ".*.tmp", ".*.new", "*.tmp", "*.new")


@frozen
class Leftover:
    """One thing nobody uses: a `path`, or a process (`pid`, with its start time, by which it is known again)."""

    what: str
    why: str
    path: Path | None = None
    pid: int = 0
    started: str = ""


def find(home: Home, *, now: float | None = None) -> list[Leftover]:
    """Everything of this user that is left over. Looks only."""
    return [*_directories(home), *_temporary(), *_files(home, time.time() if now is None else now), *_processes()]


def remove(each: Leftover) -> None:
    """Take one away; one that is gone meanwhile is fine."""
    if each.pid:
        _end(each)
    elif each.path is not None and each.path.is_dir() and not each.path.is_symlink():
        shutil.rmtree(each.path, ignore_errors=True)
    elif each.path is not None:
        each.path.unlink(missing_ok=True)


def _directories(home: Home) -> Iterator[Leftover]:
    for path in sorted((home.state / "labs").glob(".*.removed")):
        yield Leftover(f"directory {path}", "a lab whose removal was interrupted", path)
    for name in home.labs():
        with contextlib.suppress(LabError):
            place = home.existing(name)
            if place is not None and _dead(place):
                yield Leftover(f"directory {place.root}", "no lab was ever made in it", place.root)


def _temporary() -> Iterator[Leftover]:
    for path in temporary.abandoned():
        yield Leftover(f"directory {path}", "the nestlab that made it for sockets and such was killed", path)


def _dead(place: LabHome) -> bool:
    from nestlab.engines.qemu import quick_status
    from nestlab.home.paths import Place

    if place.blueprint.exists() or lock.holder(place.lock) is not None:
        return False
    machines = quick_status.status(Place(str(place.root)), place.name, frozenset()).machines
    return not any(seen.pid for seen in machines.values())


def _files(home: Home, now: float) -> Iterator[Leftover]:
    for name in home.labs():
        root = home.state / "labs" / name
        for pattern in _HALF_WRITTEN:
            for path in sorted(root.glob(pattern)):
                with contextlib.suppress(OSError):
                    if path.is_file() and now - path.stat().st_mtime > SETTLED:
                        yield Leftover(f"file {path}", "it was only half written", path)


def _processes() -> Iterator[Leftover]:
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        try:
            if folder.stat().st_uid != os.geteuid():
                continue
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        named = owner(words)
        if named is not None and not named[1].exists():
            what, directory = named
            started = _started(int(folder.name))
            yield Leftover(
                f"process {folder.name}, {what}", f"{directory} is gone", pid=int(folder.name), started=started
            )


def owner(words: list[str]) -> tuple[str, Path] | None:
    """Of a command line: what process of nestlab's it is, and the directory that it works in. None if it is none."""
    for at, word in enumerate(words[:-1]):
        if word.startswith("nestlab-switch:"):
            return f"the switch of lab {word.partition(':')[2]}", Path(words[at + 1])
        if word.startswith("nestlab-netboot:"):
            return f"what serves a segment of lab {word.partition(':')[2]}", Path(words[at + 1])
        if word == "-name" and words[at + 1].startswith("nestlab:"):
            _, lab, path = words[at + 1].partition(",")[0].split(":", 2)
            pids = [Path(words[i + 1]) for i, each in enumerate(words[:-1]) if each == "-pidfile"]
            return (f"QEMU of {path} in lab {lab}", pids[0].parent) if pids else None
    return None


def _started(pid: int) -> str:
    """When a process started, as the kernel counts: with it a pid that was given again is not taken for the old one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _end(each: Leftover) -> None:
    try:
        descriptor = os.pidfd_open(each.pid)
    except ProcessLookupError:
        return
    try:
        if _started(each.pid) != each.started:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not _gone(descriptor):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _gone(descriptor: int) -> bool:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(GRACE * 1000))
