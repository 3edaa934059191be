"""What of a file is written, and what is a hole in it."""

from __future__ import annotations

import os
from collections.abc import Iterator


def written(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each stretch of the first `size` bytes of a file that is no hole, in their order."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole until the end
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
