"""Progress on a terminal and elsewhere."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import time
from collections.abc import Mapping

from nestlab.base.events import Began, Event, Finished, Said, Started
from nestlab.base.paint import PLAIN
from nestlab.lab.model import Image
from nestlab.show import live

IMAGES: Mapping[str, Image] = {"k": Image("kvm")}


def happened() -> list[Event]:
    now = time.time()
    return [
        Began(now, verb="up", lab="pair", steps=("build:k", "boot:hv1")),
        Started(now, "build:k", why="hv1 needs it"),
        Said(now + 1, "build:k", text="installing"),
        Finished(now + 2, "build:k", seconds=2.0),
        Started(now + 2, "boot:hv1", "hv1", why="not there yet"),
    ]


def test_without_a_terminal_events_are_plain_lines() -> None:
    stream = io.StringIO()
    emit = live.as_lines(stream, IMAGES, 9, PLAIN)
    for event in happened():
        emit(event)
    assert stream.getvalue().splitlines() == [
        "    0.0s  image kvm  build: hv1 needs it",
        "    1.0s  image kvm  build: installing",
        "    2.0s  image kvm  build: done in 2.0s",
        "    2.0s  hv1        boot: not there yet",
    ]


def test_as_json_every_event_is_a_line() -> None:
    stream = io.StringIO()
    emit = live.as_json(stream)
    for event in happened():
        emit(event)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "began",
        "started",
        "said",
        "finished",
        "started",
    ]


async def test_on_a_terminal_the_tree_is_drawn_and_is_gone_afterwards() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        os.environ.setdefault("TERM", "xterm")
        async with live.as_tree(stream, IMAGES) as emit:
            for event in happened():
                emit(event)
            await asyncio.sleep(0)  # lets it draw
        drawn = b""
        while b"\x1b[?25h" not in drawn:  # the cursor is shown again: the last thing that is drawn
            drawn += os.read(ours, 1 << 16)
    os.close(ours)
    assert drawn.startswith(b"\x1b[?25l")
    assert b"hv1" in drawn


async def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    stream = io.StringIO()
    async with live.showing(stream, IMAGES, width=9, paint=PLAIN) as emit:
        emit(happened()[1])
    assert "build: hv1 needs it" in stream.getvalue()
