"""Results of commands, wherever they ran, and the error of one that failed."""

from __future__ import annotations

import shlex
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.base.frozen import frozen

TAIL = 2000
"""Characters of a failed command's stderr that its error carries."""

LINE = 4 << 20
"""Bytes of a line that are waited for its end."""

SHOWN = 160
"""Characters of a command line that an error shows."""


@frozen
class Result:
    """The result of a command. `status` is its exit status, 128+N when signal N ended it."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class Running(Protocol):
    """A command at work: its stdin to write, its stdout to read. One reader, one writer."""

    @property
    def over(self) -> bool:
        """It has ended, or its host was lost."""

    async def write(self, data: bytes) -> None:
        """Write to its stdin; returns when more may follow. What it no longer reads is dropped."""

    def close_input(self) -> None:
        """End its stdin. Nothing may be written after."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Its stdout as it comes, to the end."""

    async def result(self, input: bytes | None = None) -> Result:
        """Give it `input`, close its stdin and wait for its end; `stdout` is what `chunks` has not taken.
        Unreachable when its host is lost before."""


async def lines_of(running: Running, where: str) -> AsyncIterator[bytes]:
    """The lines of a command's stdout without their newline; the last one may have had none, and one that is longer
    than LINE comes in pieces. LabError after them if the command failed."""
    rest = b""
    async for chunk in running.chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > LINE:
            yield rest
            rest = b""
    if rest:
        yield rest
    result = await running.result()
    if result.status != 0:
        raise failure(result, where)


def status_of(returncode: int) -> int:
    """The status of a command as a shell tells it; a negative return code is a signal's number."""
    return returncode if returncode >= 0 else 128 - returncode


def show(argv: Sequence[str]) -> str:
    """A command line for people, shortened: of an argument of several lines (a script) only the first that says
    something."""
    line = shlex.join(_first_line(word) for word in argv)
    return line if len(line) <= SHOWN else line[:SHOWN] + " …"


def _first_line(word: str) -> str:
    lines = [line.strip() for line in word.splitlines() if line.strip()]
    if len(lines) < 2:
        return word
    return next((line for line in lines if not line.startswith("#")), lines[0]) + " …"


def tail(data: bytes) -> str:
    """The end of what a command said, from the start of a line."""
    text = data.decode(errors="replace").rstrip()
    if len(text) <= TAIL:
        return text
    return text[-TAIL:].partition("\n")[2] or text[-TAIL:]


def failure(result: Result, where: str) -> LabError:
    """The error for a command that ended with another status than 0."""
    program = result.argv[0]
    what = f"`{show(result.argv)}` failed{where} ({_ending(result.status)})."
    said = _said(result)
    hint = f"{'See what it said, below' if said else 'It said nothing'}; nestlab --debug shows every command."
    if result.status == 127:
        hint = f"The program {program} is probably not installed there."
    elif said:
        from nestlab.explain.explain import with_advice

        hint = with_advice(hint, said)
    return LabError(what, hint=hint, detail=said)


def deaf(result: Result, user: str, where: str) -> LabError:
    """The error for a command that was never begun: the login shell of `user` ended before it."""
    who = where if where.startswith(f"{user}@") else f"{user}@{where}"
    what = f"The login shell of {who} runs no commands ({_ending(result.status)})."
    shell = f"`chsh -s /bin/sh {user}` there, and no `exit` in what it reads at its start"
    hint = f"It has to be a POSIX shell that runs them: {shell}. Or go there as another user."
    return LabError(what, hint=hint, detail=_said(result))


def _ending(status: int) -> str:
    if status > 128 and status - 128 in set(signal.Signals):
        return f"killed by {signal.Signals(status - 128).name}"
    return f"status {status}"


def _said(result: Result) -> str:
    return tail(result.stderr) or tail(result.stdout)


def too_much(argv: Sequence[str], where: str, limit: int) -> LabError:
    """The error for a command that was ended because it said more than is kept of one."""
    what = f"`{show(argv)}` said more than {limit >> 20} MiB{where}, and was ended."
    return LabError(what, hint="Write it to a file there, and copy that: nestlab cp.")


def too_slow(argv: Sequence[str], where: str, timeout: float) -> Overdue:
    """The error for a command that was ended because it took too long."""
    what = f"`{show(argv)}` did not end within {patience.said(timeout)}{where}, and was ended."
    return Overdue(what, hint=patience.LONGER)
