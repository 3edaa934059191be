"""A run as it stands, folded from its events. Pure.

One line per thing at work or failed, and sums for all others, so that a thousand machines fit on a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nestlab.base.events import Began, Ended, Event, Failed, Finished, Said, Started
from nestlab.base.paint import PLAIN, Paint, Style, columns, elapsed
from nestlab.base.printable import brief
from nestlab.lab.model import Image, level_of
from nestlab.show.render import named

Phase = Literal["at work", "done", "failed"]

_MARK: Mapping[Phase, tuple[str, Style]] = {"at work": ("▸", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}


@dataclass
class Line:
    """A machine, image or segment. `since`: when its present step started, seconds since the epoch."""

    name: str
    level: int
    phase: Phase = "at work"
    verb: str = ""
    text: str = ""
    since: float = 0.0
    until: float | None = None


@dataclass
class Progress:
    """Fed with events in the order in which they happened."""

    images: Mapping[str, Image] = field(default_factory=dict)
    start: float = 0.0
    waiting: set[str] = field(default_factory=set)
    done: int = 0
    lines: dict[str, Line] = field(default_factory=dict)

    def feed(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, Began):
            self.start, self.waiting = event.at, set(event.steps)
        elif isinstance(event, Ended) or not event.step:
            return
        elif isinstance(event, Started):
            self._start(event)
        elif event.step.partition(":")[2] in self.lines:
            self._go_on(self.lines[event.step.partition(":")[2]], event)

    def _start(self, event: Started) -> None:
        verb, _, subject = event.step.partition(":")
        self.waiting.discard(event.step)
        line = self.lines.setdefault(subject, Line(named(event, self.images), max(1, level_of(event.path))))
        line.phase, line.verb, line.text, line.since, line.until = "at work", verb, event.why, event.at, None

    def _go_on(self, line: Line, event: Event) -> None:
        if isinstance(event, Said):
            line.text = event.text
        elif isinstance(event, Finished):
            line.phase, line.until, line.text, self.done = "done", event.at, event.note, self.done + 1
        elif isinstance(event, Failed):
            line.phase, line.until, line.text = "failed", event.at, event.what.partition("\n")[0]

    def show(self, now: float, *, height: int, width: int, paint: Paint = PLAIN) -> list[str]:
        """At most `height` lines of at most `width` characters: failures and work first, then what is done."""
        cells, styles = [], list[list[Style | None]]()
        for line in self._most_important(max(1, height - 1)):
            mark, style = _MARK[line.phase]
            spent = elapsed((now if line.until is None else line.until) - line.since)
            texts = [brief(line.name), line.verb, spent, brief(line.text)]
            cells.append([mark, "  " * (line.level - 1) + texts[0], *texts[1:]])
            styles.append([style, "bold", None, "dim", None])
        return [*columns(_fitted(cells, width), styles, paint), self._sum(now)[:width]]

    def _most_important(self, room: int) -> list[Line]:
        rank: Mapping[Phase, int] = {"failed": 0, "at work": 1, "done": 2}
        everything = list(self.lines.values())
        kept = {id(line) for line in sorted(everything, key=lambda line: (rank[line.phase], -line.since))[:room]}
        return [line for line in everything if id(line) in kept]

    def _sum(self, now: float) -> str:
        at_work = sum(line.phase == "at work" for line in self.lines.values())
        failed = sum(line.phase == "failed" for line in self.lines.values())
        parts = [f"{self.done} done", f"{at_work} at work", f"{len(self.waiting)} waiting"]
        return f"{elapsed(now - self.start)}: " + ", ".join([*parts, *([f"{failed} failed"] if failed else [])])


def _fitted(cells: list[list[str]], width: int) -> list[list[str]]:
    """The rows with their texts, which stand last, cut to what a line of `width` has left."""
    taken = sum(max((len(row[at]) for row in cells), default=0) + 2 for at in range(4))
    return [[*row[:4], row[4][: max(0, width - taken)]] for row in cells]
