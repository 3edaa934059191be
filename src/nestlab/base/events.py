"""Events of a run, as data: the live tree, plain lines, `--json` and the journal are views of one stream. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, field
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.printable import to_json
from nestlab.base.typed import check, parsed

Say = Callable[[str], None]
"""Reports a phase of the step at work, in a few words."""


@frozen
class Event:
    """`at`: seconds since the epoch. `step`: a plan step's id, "" for the run as a whole."""

    at: float
    step: str = ""
    path: str = ""

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()


@frozen
class Began(Event):
    """A run began: which verb on which lab, with the ids of its steps."""

    verb: str = ""
    lab: str = ""
    steps: tuple[str, ...] = ()


@frozen
class Started(Event):
    """A step started, and why it is done."""

    why: str = ""


@frozen
class Said(Event):
    """A step reports its phase (`unpacking`, `waiting for ssh`)."""

    text: str = ""


@frozen
class Finished(Event):
    """A step succeeded. `seconds` is its duration; `note`: what to know of how it was done (`ended by force …`)."""

    seconds: float = 0.0
    note: str = ""


@frozen
class Failed(Event):
    """A step failed."""

    what: str = ""
    hint: str = ""
    detail: str = ""


@frozen
class Ended(Event):
    """The run ended. `left`: ids of steps that were not done."""

    ok: bool = True
    seconds: float = 0.0
    left: tuple[str, ...] = field(default=())


KINDS: dict[str, type[Event]] = {cls.__name__.lower(): cls for cls in (Began, Started, Said, Finished, Failed, Ended)}


def to_line(event: Event) -> str:
    """One line of JSON, without the newline."""
    return to_json({"event": event.kind, **asdict(event)}, separators=(",", ":"))


def from_line(line: str) -> Event:
    """The event of a line that `to_line` wrote. ValueError for anything else."""
    data: dict[str, Any] = parsed(line)
    cls = KINDS.get(str(data.pop("event", ""))) if isinstance(data, dict) else None
    if cls is None or not isinstance(data.get("at"), int | float):
        raise ValueError(f"not an event: {line[:80]!r}")
    known: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each
        for name, each in data.items()
        if name in cls.__dataclass_fields__
    }
    found = cls(**known)
    check(found, cls, "the event")
    return found
