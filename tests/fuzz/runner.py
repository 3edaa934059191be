"""Starts workers, watches them, counts what came of cases, and stores what was found."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.target import ROOT, WAITED, case_of, counted, load
from waiting import STRETCH

HERE = Path(__file__).parent
FOUND = HERE / "found"

SECONDS = 10.0 * STRETCH
"""What a case may take where nobody says otherwise; NESTLAB_PATIENCE stretches it."""

MORE = 60 * STRETCH
"""Seconds beside twice what a case may take, in which a worker must have done one and made it smaller."""

MEMORY = 1 << 30
"""Bytes that a case may take."""

PLACES = ("/dev/shm", "/tmp")
"""Where cases have their files, the first that is there: in memory they come and go quicker."""

AS_MANY = 30
"""Findings of one target after which it is given up."""


@dataclass
class Finding:
    """What is wrong with one case. `case`: its bytes, shrunk; None where only seed and number are known."""

    number: int
    what: str
    told: str
    case: bytes | None = None


@dataclass
class Sum:
    """What came of the cases of a target. `slowest`: seconds and number; `peak`: bytes, and the case of it."""

    target: str
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    peak: tuple[int, int] = (0, 0)
    findings: dict[str, Finding] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def cases(self) -> int:
        return self.outcomes.total()

    def line(self) -> str:
        """All of it in one line."""
        seconds, slow = self.slowest
        memory, large = self.peak
        found = f"{len(self.findings)} FINDINGS" if self.findings else "nothing found"
        return (
            f"{self.target}: {self.cases} cases, {found}; slowest {seconds:.2f} s (case {slow}),"
            f" peak {memory >> 20} MiB (case {large}); {counted(self.outcomes)}"
        )


def run(target: str, *, seed: int, cases: int, jobs: int, first: int = 0, seconds: float = SECONDS) -> Sum:
    """So many cases of a target, in so many processes at one time; `seconds` is what a case may take."""
    found, row = Sum(target, seed), {"last": first + cases, "step": jobs, "seconds": seconds}
    work = [threading.Thread(target=_row, args=(found, {"first": first + at, **row})) for at in range(jobs)]
    for each in work:
        each.start()
    for each in work:
        each.join()
    return found


def replay(target: str, files: Sequence[Path], *, seconds: float = SECONDS) -> Sum:
    """What comes of stored cases."""
    found, names = Sum(target, 0), [str(file) for file in files]
    _row(found, {"files": names, "first": 0, "last": len(files), "step": 1, "seconds": seconds})
    return found


def _row(found: Sum, row: dict[str, Any]) -> None:
    """One process's share; where it dies a new one goes on with the next case."""
    if row["first"] >= row["last"]:
        return
    with tempfile.TemporaryDirectory(prefix="nlf.", dir=next(filter(os.path.isdir, PLACES))) as place:
        _rows(found, {**row, "place": place})


def _rows(found: Sum, row: dict[str, Any]) -> None:
    last = _batch(found, row)
    while last is not None and len(found.findings) < AS_MANY:
        done = last + row["step"]
        if done >= row["last"]:
            return
        if "files" in row:
            row = {**row, "files": row["files"][done:], "last": row["last"] - done}
        else:
            row = {**row, "first": done}
        last = _batch(found, row)


def _batch(found: Sum, row: dict[str, Any]) -> int | None:
    """Run a worker to its end. The number of the case that it died in, which is a finding; None if it did not."""
    job = {
        "target": found.target,
        "seed": found.seed,
        "memory": MEMORY,
        "shrink": list(found.findings),
        **row,
    }
    environ = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(ROOT.parent)]),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "MALLOC_ARENA_MAX": "2",
    }
    began: int | None = None
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            (sys.executable, "-m", "fuzz.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            text=True,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(job))
        worker.stdin.close()
        watch = _Watch(worker, 2 * WAITED * row["seconds"] + MORE)
        for line in worker.stdout:
            watch.alive()
            said = json.loads(line)
            began = said.get("begin")
            if "end" in said:
                _learn(found, said)
                if len(found.findings) >= AS_MANY:
                    worker.kill()
        status = worker.wait()
        watch.end()
        errors.seek(0)
        told = errors.read().decode(errors="replace")
    if status == 0 or (began is None and len(found.findings) >= AS_MANY):
        return None
    if began is None:
        raise RuntimeError(f"The worker of {found.target} ended with status {status} between cases:\n{told[-4000:]}")
    _died(found, began, status, told, row)
    return began


class _Watch:
    """Ends a worker that says nothing for too long: its own watch over single cases may be stuck with it."""

    def __init__(self, worker: subprocess.Popen[str], seconds: float) -> None:
        self._worker, self._seconds = worker, seconds
        self._timer = threading.Timer(seconds, worker.kill)
        self._timer.start()

    def alive(self) -> None:
        self.end()
        self._timer = threading.Timer(self._seconds, self._worker.kill)
        self._timer.start()

    def end(self) -> None:
        self._timer.cancel()


def _learn(found: Sum, said: dict[str, Any]) -> None:
    number = said["end"]
    with found.lock:
        found.outcomes[said["word"]] += 1
        found.slowest = max(found.slowest, (said["seconds"], number))
        found.peak = max(found.peak, (said.get("peak", 0), number))
        if "finding" in said:
            case = base64.b64decode(said["case"])
            found.findings.setdefault(said["finding"], Finding(number, said["finding"], said["told"], case))


def _died(found: Sum, number: int, status: int, told: str, row: dict[str, Any]) -> None:
    """A worker that ended in the middle of a case."""
    late = "Timeout (" in told or status == -signal.SIGPROF
    inner = re.findall(r'File "[^"]*?/nestlab/([\w/]+)\.py", line \d+ in (\w+)', told)
    at = f" in {inner[0][0].replace('/', '.')}.{inner[0][1]}" if inner else ""
    what = f"over {row['seconds']:g} s{at}" if late else f"the process ended with status {status}"
    case = Path(row["files"][number]).read_bytes() if "files" in row else None
    with found.lock:
        found.outcomes["finding"] += 1
        found.slowest = max(found.slowest, (row["seconds"], number)) if late else found.slowest
        found.findings.setdefault(what, Finding(number, what, told, case))


def store(found: Sum) -> list[Path]:
    """Write what was found to files."""
    paths = []
    for finding in found.findings.values():
        folder = FOUND / found.target
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem(finding.what)}.case"
        case = finding.case
        path.write_bytes(
            case_of(load(found.target), found.target, found.seed, finding.number) if case is None else case
        )
        paths.append(path)
    return paths


def stem(what: str) -> str:
    """What the file of a finding is called."""
    return re.sub(r"[^\w.]+", "-", what).strip("-")[:90]


def stored() -> dict[str, list[Path]]:
    """The cases that were found once, by target."""
    found: dict[str, list[Path]] = {}
    for path in sorted(FOUND.glob("*/*.case")):
        found.setdefault(path.parent.name, []).append(path)
    return found
