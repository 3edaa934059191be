"""nestlab as a user runs it: a process, with a home of its own, whose output, status and signals are looked at."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import VERY_LONG

UP_TO = VERY_LONG
"""Seconds after which a command that hangs is a failure."""


def qemus(home: Path) -> list[int]:
    """The processes that belong to the labs of this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(home).encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@dataclass(frozen=True)
class Said:
    """A command that ended."""

    status: int
    text: str

    def __contains__(self, words: str) -> bool:
        return words in self.text


@dataclass
class Cli:
    """The command line with the state directory `home`; `env` is added to the environment."""

    home: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "NESTLAB_HOME": str(self.home), "NO_COLOR": "1", **self.env}

    def __call__(self, *words: str, status: int | None = 0) -> Said:
        """Run it to its end, output and errors together. `status` None: any but a bug's."""
        argv = [sys.executable, "-m", "nestlab", *words]
        done = subprocess.run(argv, env=self.environment, input="", capture_output=True, text=True, timeout=UP_TO)
        text = done.stdout + done.stderr
        assert "Traceback" not in text
        assert "bug in nestlab" not in text, text
        assert done.returncode == status or (status is None and done.returncode != 1), f"{words}\n{text}"
        return Said(done.returncode, text)

    def file(self, text: str, name: str = "lab") -> str:
        """A lab file with this text; its path."""
        path = self.home / f"{name}.yaml"
        path.write_text(text)
        return str(path)

    def states(self, lab: str) -> dict[str, str]:
        return {path: each["state"] for path, each in self.machines(lab).items()}

    def machines(self, lab: str) -> dict[str, dict[str, Any]]:
        data = json.loads(self.plain("status", lab, "--json"))
        return {each["path"]: each for each in data["machines"]}

    def plain(self, *words: str) -> str:
        """What a command that succeeds says on stdout."""
        argv = [sys.executable, "-m", "nestlab", *words]
        done = subprocess.run(argv, env=self.environment, input="", capture_output=True, text=True, timeout=UP_TO)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def steps(self, file: str) -> list[str]:
        """What `up` would do: `boot hv1/web`."""
        return [f"{step['do']} {step['on']}" for step in json.loads(self.plain("plan", file, "--json"))["steps"]]

    @contextmanager
    def running(self, *words: str) -> Iterator[Work]:
        """A command at work, in a session of its own; it is killed when the context is left."""
        work = Work([sys.executable, "-m", "nestlab", *words], self.environment)
        try:
            yield work
        finally:
            work.close()


class Work:
    """A command at work. Signals go to nestlab alone, as they do not from a terminal: it has to end its helpers."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, pattern: str) -> None:
        """Wait until it has said something; AssertionError if it ends before."""
        deadline = time.monotonic() + UP_TO
        while not re.search(pattern, self.text):
            assert self._process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def tell(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> Said:
        """Wait for its end."""
        status = self._process.wait(UP_TO)
        self._reader.join()
        return Said(status, self.text)

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
