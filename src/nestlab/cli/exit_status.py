"""Exit statuses: 0 done, 1 a bug in nestlab, 2 an error that the user can mend, 130 interrupted."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec

from nestlab.base.door import canvas
from nestlab.base.errors import LabError, unwritten
from nestlab.base.paint import Paint
from nestlab.base.wrap import readable
from nestlab.cli.streams import Unwritten

if TYPE_CHECKING:  # its import takes a twentieth of `nestlab doctor`
    import socket
    from pathlib import Path

P = ParamSpec("P")

BUG, MEND, INTERRUPTED = 1, 2, 130


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or a lost terminal ended the work cleanly. `status` is the exit status that says so."""

    def __init__(self, number: int, said: LabError | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        self.said = said
        """What is done and left, where a plan was being made real."""


def guarded(verb: Callable[P, int | None]) -> Callable[P, None]:
    """A command of the command line: the status it returns (None: 0), or the one its error means, ends nestlab."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        status = [0]
        with reporting(status, debug=bool(kwargs.get("debug"))):
            status[0] = verb(*args, **kwargs) or 0
            sys.stdout.flush()
        import typer

        raise typer.Exit(status[0])

    return command


@contextlib.contextmanager
def reporting(status: list[int], *, debug: bool) -> Iterator[None]:
    """Errors are printed and become `status[0]`. `debug`: tracebacks and every command run go to stderr."""
    with tracing() if debug else contextlib.nullcontext():
        try:
            yield
        except LabError as error:
            status[0] = MEND
            say_error(error)
        except Interrupted as interrupted:
            status[0] = interrupted.status
            if interrupted.said is not None:
                say_error(interrupted.said)
        except KeyboardInterrupt:
            status[0] = INTERRUPTED
        except BrokenPipeError:
            status[0] = silence()
        except Unwritten as error:
            status[0] = _unwritten(error)
        except (Exception, BaseExceptionGroup) as error:
            status[0] = _other(error, debug=debug)


def _other(error: BaseException, *, debug: bool) -> int:
    """What came in a group counts as the one error in it; what is no LabError is a bug."""
    if isinstance(error, BaseExceptionGroup):
        # A full stdout is what everything that prints runs into: it is told once, and nothing beside a bug.
        _, others = error.split(Unwritten)
        error = others or _first(error)
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, LabError):
        say_error(error)
        return MEND
    if isinstance(error, BrokenPipeError):
        return silence()
    if isinstance(error, Unwritten):
        return _unwritten(error)
    if isinstance(error, OSError) and (unusable := _unusable(error)):
        say_error(unusable)
        return MEND
    if debug:
        import traceback

        traceback.print_exception(error)
    say(_report(error, debug=debug))
    return BUG


def _unusable(error: OSError) -> LabError | None:
    """The error where what nestlab keeps its own in cannot be used: not a bug, wherever that shows."""
    from pathlib import Path

    from nestlab.home.directories import Home

    home = Home.of(os.environ, Path.home())
    for place, what in ((home.cache, "images: NESTLAB_CACHE"), (home.state, "labs: NESTLAB_HOME")):
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(place)
        if inside and error.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS, errno.ENOSPC, errno.EIO):
            hint = f"{place} is where nestlab keeps its {what} names another place."
            return LabError(f"{error.filename} cannot be used: {error.strerror}.", hint=hint)
    return None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def say_error(error: LabError) -> None:
    """An error, on stderr."""
    from nestlab.show import render

    say(render.error(error, Paint(sys.stderr.isatty())))


def paint(stream: Any = None) -> Paint:
    """Colours where a stream (stdout unless given) is a terminal and nobody set NO_COLOR (no-color.org)."""
    on = (stream or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Paint(bool(on))


def out(text: str, end: str = "\n") -> None:
    """What was asked for, on stdout. Its lines stay as long as they are."""
    sys.stdout.write(text + end)


def bytes_out() -> BinaryIO:
    """stdout for bytes that were asked for as they are. What a terminal makes of them is the user's wish."""
    sys.stdout.flush()
    return sys.stdout.buffer


def untouched(data: bytes) -> None:
    """Bytes that were asked for as they are, on stdout."""
    bytes_out().write(data)


def show(text: str) -> None:
    """What was asked for, for people: on a terminal its lines fit, broken between words."""
    out(readable(text, width(sys.stdout)))


def width(stream: Any) -> int | None:
    """Columns of the terminal that a stream is, or what COLUMNS says of it; None: it is none."""
    try:
        if not stream.isatty():
            return None
        said = os.environ.get("COLUMNS", "")
        return int(said) if said.isdigit() else os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def say(text: str) -> None:
    """Lines on stderr, which fit a terminal; a stderr that is gone is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(readable(text, width(sys.stderr)) + "\n")
        sys.stderr.flush()


def silence() -> int:
    """Nobody reads stdout any more (`nestlab ls | head -1`): the rest goes nowhere, silently, as with SIGPIPE."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def _unwritten(error: OSError) -> int:
    """stdout is full, or closed: that is told, and what is left for it goes nowhere."""
    silence()
    say_error(unwritten(error))
    return MEND


def _report(error: BaseException, *, debug: bool) -> str:
    what = f"error: nestlab failed: {type(error).__name__}: {error}".rstrip(": ")
    ask = "This is a bug in nestlab. Please report it"
    if debug:
        return f"{what}\n{ask}, with the lines above."
    try:
        return f"{what}\n{ask}, with the file {_crash(error)}."
    except OSError:
        return f"{what}\n{ask}, with what the same command prints under --debug."


def _crash(error: BaseException) -> Path:
    """Writes the traceback to a file of its own (0600) in the state directory."""
    import traceback
    from pathlib import Path

    from nestlab import __version__
    from nestlab.home.directories import Home

    state = Home.of(os.environ, Path.home()).state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / f"crash-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.txt"
    head = f"nestlab {__version__}, Python {sys.version.split()[0]}\n{' '.join(sys.argv)}\n\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", errors="replace") as file:
        file.write(head + "".join(traceback.format_exception(error)))
    return path


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Every command run, here and on machines, is shown on stderr."""
    from nestlab.wire import proc, ssh

    def show(line: str) -> None:
        say(f"+ {line}")

    before = proc.trace, ssh.trace
    proc.trace = ssh.trace = show
    try:
        yield
    finally:
        proc.trace, ssh.trace = before


def run(work: Coroutine[Any, Any, int | None], *, quiet: bool = False) -> int | None:
    """The work's result. The first Ctrl-C (or SIGTERM, SIGHUP) cancels it, so that it ends cleanly, and then raises
    Interrupted; the second ends nestlab at once. `quiet`: nobody is told so, for to be ended is its usual end."""
    import asyncio

    with asyncio.Runner() as runner:
        return runner.run(_supervised(work, quiet=quiet))


async def _supervised(work: Coroutine[Any, Any, int | None], *, quiet: bool) -> int | None:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopping: list[int] = []

    def stop(number: int) -> None:
        if stopping:
            _leave(number)
        stopping.append(number)
        if not quiet:
            say("\nstopping; once more ends it at once" if number == signal.SIGINT else "stopping")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and shells for jobs in the background, ignore some
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stopping:
            raise Interrupted(stopping[0]) from None
        raise
    except LabError as error:
        if stopping:
            raise Interrupted(stopping[0], error) from None
        raise


def _leave(number: int) -> None:
    if sys.stderr.isatty():
        canvas(sys.stderr).write("\x1b[?25h\n")  # the live tree hides the cursor
    say("ended at once; the same command goes on from here")
    os._exit(128 + number)


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(yes: bool, question: str, otherwise: str) -> bool:
    """Asks whether to go on: yes with --yes, or if the user at the terminal agrees. No where nobody can be asked: then
    `otherwise` is told, and that --yes agrees."""
    if yes:
        return True
    if not on_terminal():
        say(f"{otherwise}; --yes agrees")
        return False
    return answered(question)


def answered(question: str) -> bool:
    """Asks the user at the terminal a yes-or-no question; no by default. Ctrl-C (also while work is supervised) is
    Interrupted, the end of the input a LabError."""
    import socket

    nothing = LabError("Nothing was changed.", hint="The question was not answered.")
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    woken = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        return _yes_or_no(question, reading)
    except KeyboardInterrupt:
        say("")
        raise Interrupted(signal.SIGINT, nothing) from None
    except EOFError:
        say("")
        raise nothing from None
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGINT, before)
        reading.close()
        writing.close()


def _yes_or_no(question: str, signals: socket.socket) -> bool:
    """What is typed. It is waited for beside signals: the kernel may give one to another thread of this process, which
    ends no read here (seen)."""
    import select

    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        with contextlib.suppress(io.UnsupportedOperation):  # no file of the system's, and so nothing to wait for
            while sys.stdin not in select.select([sys.stdin, signals], [], [])[0]:
                signals.recv(64)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        if (word := line.strip().lower()) in ("", "n", "no", "y", "yes"):
            return word.startswith("y")
        say("Write y or n.")
