"""What a command begins before it has imported all that it needs: this machine is asked by a process of its own, which
is done, or nearly, by the time that somebody wants the answer.

(By posix_spawn: subprocess takes longer to import than to use.)
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs its import
PROBE = f"{HERE}/probe.py"
SCRIPT = f"{os.path.dirname(HERE)}/doctor/gather.sh"  # noqa: PTH120


class Asked:
    """A program that was started, by its path or name, with a file as its stdin; its stdout is kept. OSError if it
    cannot be started."""

    def __init__(self, argv: list[str], stdin: str = os.devnull) -> None:
        self._read, write = os.pipe()
        try:
            files = [
                (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, write, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ]
            self._pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files)
        except OSError:
            os.close(self._read)
            raise
        finally:
            os.close(write)

    def told(self, timeout: float) -> tuple[int, str]:
        """Its exit status (negative: the signal that ended it), and what it printed. TimeoutError after so many
        seconds, and it is killed."""
        deadline, said = time.monotonic() + timeout, b""
        poll = select.poll()
        poll.register(self._read)
        try:
            while True:
                if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                    os.kill(self._pid, signal.SIGKILL)
                    raise TimeoutError(f"it did not answer within {timeout:g} s")
                if not (data := os.read(self._read, 1 << 16)):
                    break
                said += data
        finally:
            os.close(self._read)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status), said.decode(errors="replace")


_probing: list[Asked] = []
_examining: list[Asked | OSError] = []


def command() -> list[str]:
    """What asks for the facts that every command needs."""
    return [sys.executable, "-ISE", PROBE]


def begin() -> None:
    """Start asking for those. Where that fails, whoever wants them asks again, and tells why that fails."""
    try:
        _probing.append(Asked(command()))
    except OSError:
        return


def said(timeout: float) -> str:
    """What the probe printed, once, waiting up to so many seconds; "" if none was begun, or it failed."""
    try:
        status, text = _probing.pop().told(timeout) if _probing else (0, "")
    except TimeoutError:
        return ""
    return text if status == 0 else ""


def examine() -> None:
    """Start asking all that the doctor wants to know. The script of `doctor.gather` stands in a file for this: making
    it takes as long as half the answer."""
    with open(SCRIPT, encoding="utf-8") as file:  # noqa: PTH123
        script = file.read()
    try:
        _examining.append(Asked(["sh", "-c", script], PROBE))
    except OSError as error:
        _examining.append(error)


def examined(timeout: float) -> str:
    """What that printed. OSError where it could not be started, or did not end within so many seconds."""
    asked = _examining.pop()
    if isinstance(asked, OSError):
        raise asked
    return asked.told(timeout)[1]
