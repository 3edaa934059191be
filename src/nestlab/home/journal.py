"""The journal of a lab: one file per run, one event per line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from nestlab.base.errors import LabError
from nestlab.base.events import Event, Finished, from_line, to_line
from nestlab.base.files import make_folder, refused, sync_folder
from nestlab.base.frozen import frozen

KEEP = 50
"""Runs whose journals are kept."""


@frozen
class Run:
    """One journaled run. `began` is seconds since the epoch, to the second."""

    path: Path
    verb: str
    began: float


class Journal:
    """The journal of one run, being written. Every event is with the kernel when `write` returns, so it survives the
    end of nestlab by any signal. A journal that cannot be written (disk full) must not end the run: `error` says so.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.error = ""
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def write(self, event: Event) -> None:
        """Append one event."""
        if self.error or self._descriptor < 0:
            return
        try:
            _write_all(self._descriptor, to_line(event).encode(errors="replace") + b"\n")
        except OSError as error:
            self.error = f"The journal {self.path} ends early: {error.strerror}."

    def close(self) -> None:
        """Bring it to the disk, and end it."""
        if self._descriptor < 0:
            return
        try:
            os.fsync(self._descriptor)
            sync_folder(self.path.parent)
        except OSError as error:
            self.error = self.error or f"The journal {self.path} may end early: {error.strerror}."
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def start(directory: Path, verb: str, *, now: float | None = None) -> Journal:
    """A new journal `<UTC timestamp>-<verb>.jsonl` in a directory (made 0700), of which the last 50 are kept.
    LabError if it cannot be made."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() if now is None else now))
    try:
        make_folder(directory)
        path, descriptor = _new(directory, stamp, verb)
        for old in runs(directory)[:-KEEP]:
            old.path.unlink(missing_ok=True)
    except OSError as error:
        raise refused(f"The journal in {directory} cannot be written", error) from error
    return Journal(path, descriptor)


def runs(directory: Path) -> list[Run]:
    """The journaled runs, oldest first; none if there is no such directory."""
    found = []
    for path in directory.glob("*Z*-*.jsonl"):
        stamp, _, verb = path.stem.partition("-")
        time_of_day, _, number = stamp.partition("Z")
        try:
            found.append((_seconds(time_of_day), int(number or 1), Run(path, verb, _seconds(time_of_day))))
        except ValueError:
            continue
    return [run for *_, run in sorted(found, key=lambda each: each[:2])]


def read(path: Path) -> Iterator[Event]:
    """The events of a run, also of one that is going on or was killed: a torn last line is left out.
    LabError when there is no such file or a line of it is not an event."""
    number = 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                if not line.endswith(b"\n"):
                    return
                yield from_line(line.decode())
    except OSError as error:
        raise LabError(f"The journal {path} cannot be read: {error.strerror}.", hint="Name another run.") from error
    except ValueError as error:
        hint = "It was damaged, or a newer nestlab wrote it."
        raise LabError(f"{path}:{number}: {error}.", hint=hint) from error


def last_steps(directory: Path, paths: Iterable[str]) -> dict[str, tuple[str, float]]:
    """By machine: the verb of the step that was done with it last, and when (seconds since the epoch). Journals that
    cannot be read, or mention it no more, say nothing."""
    wanted, found = set(paths), dict[str, tuple[str, float]]()
    for run in reversed(runs(directory)):
        if not wanted - found.keys():
            break
        latest: dict[str, tuple[str, float]] = {}
        with suppress(LabError):
            for event in read(run.path):
                if isinstance(event, Finished) and event.path in wanted - found.keys():
                    latest[event.path] = (event.step.partition(":")[0], event.at)
        found |= latest
    return found


def _new(directory: Path, stamp: str, verb: str) -> tuple[Path, int]:
    number = 1
    while True:
        path = directory / f"{stamp}{'' if number == 1 else number}-{verb}.jsonl"
        try:
            return path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            number += 1


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _seconds(stamp: str) -> float:
    from calendar import timegm

    return float(timegm(time.strptime(stamp, "%Y%m%dT%H%M%S")))
