"""What a test may leave behind: no descriptor, no process, no thread of its own."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path


def descriptors() -> dict[str, str]:
    found = {}
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(each.readlink())
            if target != f"/proc/{os.getpid()}/fd":
                found[each.name] = target
    return found


def children() -> set[int]:
    """Of this process, whoever of its threads started them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= set(map(int, (task / "children").read_text().split()))
    return found


@contextlib.contextmanager
def none() -> Iterator[None]:
    """Nothing is left over at the end that was not there at the start."""
    before, had = descriptors(), children()
    yield
    gc.collect()
    after = {number: target for number, target in descriptors().items() if before.get(number) != target}
    assert not after
    assert not children() - had
