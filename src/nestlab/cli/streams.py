"""stdin, stdout and stderr as nestlab needs them, however it was started."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from nestlab.base.door import Door


class Unwritten(OSError):
    """stdout takes no more, and why."""


class _Stdout(io.FileIO):
    """Its errors can be told from those of all other files."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritten(error.errno, error.strerror) from error


class _Stderr(io.FileIO):
    """What it does not take is lost: that is no reason to fail."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def settle() -> None:
    """Make the three such that all of nestlab can use them. One that is closed gets its descriptor, lest that become
    another file's: then stdin is empty, stdout cannot be written, and stderr takes all."""
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(_null(os.O_RDONLY), closefd=False))
    sys.stdout = _settled(sys.stdout, _Stdout, os.O_RDONLY)
    sys.stderr = _settled(sys.stderr, _Stderr, os.O_WRONLY)


def _settled(stream: Any, kind: type[io.FileIO], otherwise: int) -> Any:
    """A stream like this one, whose errors are those of `kind`, and through which only what is harmless passes. (One in
    memory stays.)"""
    if stream is None:
        raw = kind(_null(otherwise), "w", closefd=False)
        return Door(io.BufferedWriter(raw), errors="replace")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a locale that cannot show a letter must not end nestlab
    below = getattr(stream, "buffer", None)
    if type(getattr(below, "raw", below)) is not io.FileIO:
        return stream
    raw = kind(stream.fileno(), "w", closefd=False)
    buffer: Any = raw if isinstance(below, io.FileIO) else io.BufferedWriter(raw)
    lines, through = stream.line_buffering, stream.write_through
    return Door(buffer, stream.encoding, "replace", line_buffering=lines, write_through=through)


def _null(flags: int) -> int:
    """/dev/null as the first free descriptor, which those that nestlab starts inherit."""
    descriptor = os.open(os.devnull, flags)
    os.set_inheritable(descriptor, True)
    return descriptor
