"""Shows progress as it comes: a live tree on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TextIO

from nestlab.base.events import Began, Event, to_line
from nestlab.base.paint import Paint
from nestlab.lab.model import Image
from nestlab.show import render

Emit = Callable[[Event], None]

TICK = 0.25
"""Seconds between two pictures of the live tree: elapsed times count up."""


def as_json(stream: TextIO) -> Emit:
    """Events as JSON, one a line."""

    def emit(event: Event) -> None:
        stream.write(to_line(event) + "\n")
        stream.flush()

    return emit


def as_lines(stream: TextIO, images: Mapping[str, Image], width: int, paint: Paint) -> Emit:
    """Events as plain lines, with seconds since the run began."""
    start = [time.time()]

    def emit(event: Event) -> None:
        if isinstance(event, Began):
            start[0] = event.at
        line = render.event(event, start[0], images, width, paint)
        if line:
            stream.write(line + "\n")
            stream.flush()

    return emit


@contextlib.asynccontextmanager
async def as_tree(stream: TextIO, images: Mapping[str, Image]) -> AsyncIterator[Emit]:
    """Events as a tree that is redrawn in place, and is gone when the context is left."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from nestlab.show.progress import Progress

    console = Console(file=stream, highlight=False)
    progress = Progress(images, start=time.time())
    paint = Paint(not console.no_color)

    def picture() -> Text:
        lines = progress.show(time.time(), height=max(2, console.height - 1), width=console.width - 1, paint=paint)
        return Text.from_ansi("\n".join(lines))

    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:

        async def redraw() -> None:
            while True:
                live.update(picture(), refresh=True)
                await asyncio.sleep(TICK)

        drawing = asyncio.create_task(redraw())
        try:
            yield progress.feed
        finally:
            drawing.cancel()
            await asyncio.wait({drawing})
            if not drawing.cancelled():
                drawing.exception()  # a terminal that is gone is no reason to fail


@contextlib.asynccontextmanager
async def showing(
    stream: TextIO, images: Mapping[str, Image], *, width: int, paint: Paint, as_tree_if_terminal: bool = True
) -> AsyncIterator[Emit]:
    """A live tree if `stream` is a terminal that can draw one, else plain lines."""
    import os

    if as_tree_if_terminal and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        async with as_tree(stream, images) as emit:
            yield emit
    else:
        yield as_lines(stream, images, width, paint)
