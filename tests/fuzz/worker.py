"""Runs a row of cases of one target in this process, which has so much memory, and so long for each case.

That this computer is busy with something else is no fault of a case: what counts is the time that a processor worked on
it, and the time that it waited without one to be free for it.

python -m fuzz.worker: a job as JSON on stdin; a line of JSON for each case's begin and outcome on stdout.
"""

from __future__ import annotations

import base64
import contextlib
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fuzz import clock
from fuzz.shrink import shrunk
from fuzz.target import WAITED, Outcome, Target, case_of, load, outcome

_STARVED = Path("/proc/self/schedstat")
"""Its second number: nanoseconds for which this process could run, and no processor was free."""


def main() -> None:
    job = json.load(sys.stdin)
    told = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - what nestlab prints is looked at by targets
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # it tells where it was, and ends this process
    clock.install()
    target = load(job["target"])
    _limit(job["memory"])
    try:
        _work(job, target, told)
    finally:
        target.close()


def _limit(memory: int) -> None:
    """No more memory than that, beside what libraries take already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(job: dict[str, Any], target: Target, told: IO[str]) -> None:
    shrinking = set(job["shrink"])
    for number, case in _cases(job, target):
        told.write(json.dumps({"begin": number}) + "\n")
        before, began = peak(), _now()
        with place(job["place"]) as folder, _watched(job["seconds"]):
            found = outcome(target, case, folder)
        took = _now() - began
        line: dict[str, Any] = {"end": number, "word": found.word, "seconds": took}
        if (after := peak()) > before:
            line["peak"] = after
        if found.finding:
            if found.finding not in shrinking:
                shrinking.add(found.finding)
                case, found = _smaller(target, case, found, job)
            line |= {"finding": found.finding, "told": found.told, "case": base64.b64encode(case).decode()}
        told.write(json.dumps(line) + "\n")


def _cases(job: dict[str, Any], target: Target) -> Iterator[tuple[int, bytes]]:
    if "files" in job:
        for number, file in enumerate(job["files"]):
            yield number, Path(file).read_bytes()
        return
    for number in range(job["first"], job["last"], job["step"]):
        yield number, case_of(target, job["target"], job["seed"], number)


def peak() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def place(inside: str) -> Iterator[Path]:
    """A new directory, deep enough that `..` leads to nothing of others. Its path is short: sockets are made in it."""
    top = tempfile.mkdtemp(prefix="", dir=inside)
    folder = Path(top, "a", "b", "c")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _now() -> float:
    """Seconds, less those for which no processor was free."""
    try:
        starved = int(_STARVED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        starved = 0.0
    return time.perf_counter() - starved


@contextlib.contextmanager
def _watched(seconds: float) -> Iterator[None]:
    """A case on which a processor works for longer, or that waits for far longer, ends the process, which tells on
    stderr where it was."""
    faulthandler.dump_traceback_later(WAITED * seconds, exit=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        faulthandler.cancel_dump_traceback_later()


def _smaller(target: Target, case: bytes, found: Outcome, job: dict[str, Any]) -> tuple[bytes, Outcome]:
    """The smallest case that was found with the same finding."""
    best = [found]

    def same(candidate: bytes) -> bool:
        with place(job["place"]) as folder, _watched(job["seconds"]):
            got = outcome(target, candidate, folder)
        if got.finding == found.finding:
            best[0] = got
            return True
        return False

    return shrunk(case, same), best[0]


if __name__ == "__main__":
    main()
