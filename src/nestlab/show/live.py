"""Shows progress as it comes: a live tree on a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from nestlab.base.door import Door, canvas
from nestlab.base.events import Began, Event, to_line
from nestlab.base.paint import Paint, inked
from nestlab.lab.model import Image
from nestlab.show import render

if TYPE_CHECKING:
    from rich.console import Console

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

    console = Console(file=canvas(stream), highlight=False)
    progress = Progress(images, start=time.time())
    paint = Paint(not console.no_color)

    def picture() -> Text:
        lines = progress.show(time.time(), height=max(2, console.height - 1), width=console.width - 1, paint=paint)
        return Text.from_ansi(inked("\n".join(lines)))

    live = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        vertical_overflow="crop",
        redirect_stdout=False,  # `_above` does that
        redirect_stderr=False,
    )
    with _above(console, stream), live:

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


@contextlib.contextmanager
def _above(console: Console, *streams: TextIO) -> Iterator[None]:
    """Text that is written meanwhile stands above the tree, line by line."""
    from rich.text import Text

    def write(text: str) -> None:
        *lines, rest[0] = (rest[0] + text).split("\n")
        for line in lines:
            console.print(Text.from_ansi(line), soft_wrap=True)

    rest = [""]
    with contextlib.ExitStack() as stack:
        for each in {*streams, sys.stdout, sys.stderr}:
            if isinstance(each, Door) and each.isatty():
                stack.enter_context(each.instead(write))
        yield
    for each in streams:
        each.write(rest[0])


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
