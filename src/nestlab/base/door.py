"""The one door through which text goes to people: stdout and stderr as nestlab has them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from nestlab.base.paint import inked


class Door(io.TextIOWrapper):
    """A text stream that lets nothing pass which acts on a terminal or hides, but nestlab's own colours (`Paint`).

    It does so for all that writes text: nestlab's own lines, typer's, warnings and tracebacks. Two things go past it,
    each by a name of its own: bytes that were asked for as they are (`buffer`), and what nestlab draws in place
    (`canvas`)."""

    _instead: Callable[[str], object] | None = None

    def write(self, text: str, /) -> int:
        shown = inked(text)
        if self._instead is not None:
            self._instead(shown)
        else:
            super().write(shown)
        return len(text)

    def draw(self, text: str) -> None:
        """Write sequences of nestlab's own, in which all from elsewhere is harmless."""
        super().write(text)

    @contextlib.contextmanager
    def instead(self, write: Callable[[str], object]) -> Iterator[None]:
        """Until the context is left, what is written goes there, harmless as ever."""
        before, self._instead = self._instead, write
        try:
            yield
        finally:
            self._instead = before


class _Canvas:
    """A door's stream for a program that draws on it."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def write(self, text: str) -> int:
        self._door.draw(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._door, name)


def canvas(stream: TextIO) -> TextIO:
    """The stream for what nestlab draws itself, with sequences of its own. One that is no door is that already."""
    return cast(TextIO, _Canvas(stream)) if isinstance(stream, Door) else stream
