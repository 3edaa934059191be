"""What `nestlab doctor` begins before it has imported all that it needs: a process of its own asks this machine, and is
done, or nearly, by the time that the doctor can read the answer. It saves a fifth of the command.

(By posix_spawn: subprocess takes longer to import than to use.)
"""

from __future__ import annotations

import os
import select
import signal
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs its import
PROBE = f"{ROOT}/hosts/probe.py"
SCRIPT = f"{ROOT}/doctor/gather.sh"
SPEED = f"{ROOT}/hosts/speed.sh"


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


_examining: list[Asked | OSError] = []
_measuring: list[Asked] = []


def examine() -> None:
    """Start asking all that the doctor wants to know, unless that is done. The script of `doctor.gather` stands in a
    file for this: making it takes as long as half the answer."""
    if _examining:
        return
    with open(SCRIPT, encoding="utf-8") as file:  # noqa: PTH123
        script = file.read()
    try:
        _examining.append(Asked(["sh", "-c", script], PROBE))
        _measuring.append(Asked(["sh", SPEED, "1"]))
    except OSError as error:
        _examining.append(error)


def examined(timeout: float) -> str:
    """The output of that process. OSError if it could not be started, or did not end within so many seconds."""
    asked = _examining.pop(0)
    if isinstance(asked, OSError):
        raise asked
    return asked.told(timeout)[1]


def measured(timeout: float) -> str:
    """What measuring its speed printed; "" where that failed, or did not end within so many seconds."""
    try:
        return _measuring.pop(0).told(timeout)[1] if _measuring else ""
    except (OSError, TimeoutError):
        return ""
