"""What commands print, looked at as a terminal and a program would."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fuzz.target import Broken, shown

REPO = Path(__file__).parent.parent.parent


def instead(module: ModuleType, **things: object) -> None:
    """From now on a module of nestlab's has these."""
    for name, thing in things.items():
        assert hasattr(module, name)
        setattr(module, name, thing)


def printed(work: Callable[[], object]) -> str:
    """What a command prints for people: fit for a terminal."""
    text = _captured(work)
    shown(text)
    return text


def printed_json(work: Callable[[], object]) -> None:
    """What a command prints for programs: lines, or all of it, that any reader of JSON takes."""
    text = _captured(work)
    try:
        text.encode()
        if text.strip():
            json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise Broken("this is no JSON for others", str(error)) from error


def _captured(work: Callable[[], object]) -> str:
    into = io.StringIO()
    with contextlib.redirect_stdout(into), contextlib.redirect_stderr(io.StringIO()):
        work()
    return into.getvalue()


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
