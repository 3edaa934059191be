"""A process of its own that unpacks a stream from elsewhere: bounded memory, bounded output, holes for zeros.

It is run as a file, without nestlab, within the bounds of `confined`: `python -I -S unpack.py COMPRESSION SOURCE TARGET
LIMIT`. It prints how many bytes are written, now and then. Exit status: 0 done, 3 more than LIMIT bytes, 4 damaged,
5 no room, 6 no program for zst.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

TOO_LARGE, DAMAGED, NO_ROOM, NO_PROGRAM = 3, 4, 5, 6

MEMORY = 1 << 30
"""Bytes of address space: xz -9 needs 65 MiB, zstd with the longest window that is taken (512 MiB) a little more."""

PIECE = 1 << 20
HOLE = 1 << 16
"""Bytes of zeros that become a hole."""

TICK = 0.5
"""Seconds between two figures."""


def main(words: list[str]) -> int:
    """Unpack; the exit status."""
    compression, source, target, limit = words
    try:
        with open(source, "rb") as packed:  # noqa: PTH123
            return _write(_pieces(compression, packed.fileno()), target, int(limit))
    except FileNotFoundError as error:
        sys.stderr.write(str(error))
        return NO_PROGRAM
    except OSError as error:
        sys.stderr.write(str(error))
        return NO_ROOM if error.errno in (27, 28, 122) else DAMAGED
    except MemoryError:
        sys.stderr.write("it takes too much memory to unpack")
        return DAMAGED
    except Exception as error:
        sys.stderr.write(str(error))
        return DAMAGED


def _write(pieces: Iterator[bytes], target: str, limit: int) -> int:
    size, shown = 0, time.monotonic()
    zeros = bytes(HOLE)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            if size + len(piece) > limit:
                return TOO_LARGE
            for at in range(0, len(piece), HOLE):
                block = piece[at : at + HOLE]
                if block != zeros[: len(block)]:
                    place, data = size + at, memoryview(block)
                    while data:
                        written = os.pwrite(descriptor, data, place)
                        place, data = place + written, data[written:]
            size += len(piece)
            if time.monotonic() - shown > TICK:
                shown = time.monotonic()
                sys.stdout.write(f"{size}\n")
                sys.stdout.flush()
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    return 0


def _pieces(compression: str, packed: int) -> Iterator[bytes]:
    if compression == "zst":
        return _zstd(packed)
    return _inflated(compression, packed)


def _inflated(compression: str, packed: int) -> Iterator[bytes]:
    """Several streams may follow each other, as pixz, pigz and pbzip2 write them; xz pads them with zeros."""
    made = _decompressor(compression)
    data, begun = b"", False
    while True:
        if not data:
            data = os.read(packed, PIECE)
        if not data:
            if begun:
                raise ValueError("it breaks off")
            return
        if not begun and compression in ("xz", "gz") and not data.strip(b"\0"):
            data = b""
            continue
        if not begun and compression == "xz":
            data = data.lstrip(b"\0")
        begun = True
        yield from _all_of(made, data, compression)
        data = b""
        if made.eof:
            data, begun = made.unused_data, False
            made = _decompressor(compression)


def _all_of(made: object, data: bytes, compression: str) -> Iterator[bytes]:
    """What comes of some packed bytes, a piece at a time."""
    step = made.decompress  # type: ignore[attr-defined]
    piece = step(data, PIECE)
    while True:
        if piece:
            yield piece
        if made.eof:  # type: ignore[attr-defined]
            return
        if compression == "gz":
            rest = made.unconsumed_tail  # type: ignore[attr-defined]
            if not rest and not piece:
                return
            piece = step(rest, PIECE)
        else:
            if made.needs_input:  # type: ignore[attr-defined]
                return
            piece = step(b"", PIECE)


def _decompressor(compression: str):  # type: ignore[no-untyped-def]
    if compression == "xz":
        import lzma

        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY // 2)
    if compression == "bz2":
        import bz2

        return bz2.BZ2Decompressor()
    import zlib

    return zlib.decompressobj(31)


def _zstd(packed: int) -> Iterator[bytes]:
    words = ["zstd", "-q", "-d", "-c", "--memory=512MiB"]
    with subprocess.Popen(words, stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
            said = process.stderr.read(2000).decode(errors="replace").strip()
            if process.wait():
                raise ValueError(said or "it is damaged")
        finally:
            with contextlib.suppress(OSError):
                process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
