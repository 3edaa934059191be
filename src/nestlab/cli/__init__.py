"""The command line: it parses, prints and exits. Everything else is in `nestlab.verbs` and below."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def main() -> None:
    """The program `nestlab`."""
    gc.disable()  # nothing that imports make is garbage, and looking for it takes a tenth of the quickest commands
    words = sys.argv[1:]
    if None not in (sys.stdin, sys.stdout, sys.stderr):  # else a pipe would be taken for the one that is closed
        _begin(words)
    from nestlab.cli import streams

    streams.settle()
    try:
        _main(words)
    except KeyboardInterrupt:
        os._exit(130)
    except streams.Unwritten as error:  # in what typer prints itself
        _end(0, error)
    except SystemExit as end:
        if isinstance(end.code, int):
            _end(end.code)
        raise


def _end(code: int, unwritten: OSError | None = None) -> NoReturn:
    """Everything is closed, and written now: taking the interpreter apart would only take time."""
    from nestlab.cli.exit_status import reporting

    status = [code]
    with reporting(status, debug=False):
        if unwritten is not None:
            raise unwritten
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status[0])


def _main(words: list[str]) -> None:
    if "_NESTLAB_COMPLETE" not in os.environ:
        words = _patient(words)
        _begin(words)
    quick = _quick(words) if "_NESTLAB_COMPLETE" not in os.environ else None
    if quick is not None:
        from nestlab.cli.exit_status import reporting

        status = [0]
        with reporting(status, debug=False):
            status[0] = quick(words) or 0
            sys.stdout.flush()
        raise SystemExit(status[0])
    from nestlab.cli.app import app

    gc.freeze()
    gc.enable()
    app(words)


def _begin(words: list[str]) -> None:
    """Begin what the doctor of this machine asks, if it is wanted and not begun: before all else, for the machine
    answers while the rest is imported."""
    if _doctor_here(words) and "_NESTLAB_COMPLETE" not in os.environ:
        from nestlab.cli import doctor_begin

        doctor_begin.examine()


def _patient(words: list[str]) -> list[str]:
    """The words without `--patience N`, which all verbs take: anywhere before `--`, but before the verb where what
    follows may be a command of the user's. What all waits are multiplied by is settled."""
    from nestlab.base import patience
    from nestlab.cli.exit_status import reporting

    at, value, rest = 0, None, list(words)
    while at < len(rest) and rest[at] != "--" and rest[at] not in ("exec", "ssh"):
        name, given, inline = rest[at].partition("=")
        if name == patience.OPTION:
            value = inline if given else rest[at + 1] if at + 1 < len(rest) else ""
            del rest[at : at + (1 if given else 2)]
        else:
            at += 1
    status = [0]
    with reporting(status, debug=False):
        patience.settle(value, os.environ)
    if status[0]:
        raise SystemExit(status[0])
    return rest


def _quick(words: list[str]) -> Callable[[list[str]], int | None] | None:
    """What needs no typer, whose import takes longer than these commands may."""
    if words[:1] == ["status"]:
        from nestlab.cli import light_status

        return light_status.read if light_status.wanted(words) else None
    return _doctor if _doctor_here(words) else None


def _doctor_here(words: list[str]) -> bool:
    """Whether the words ask for the doctor of this machine, as `doctor_here` serves it."""
    return words[:1] == ["doctor"] and all(word in ("--json", "--facts") for word in words[1:])


def _doctor(words: list[str]) -> int:
    from nestlab.cli import doctor_here

    return doctor_here.doctor(words)
