"""Waiting in tests: for what will surely happen, however slow the machine is; never for a time to pass.

NESTLAB_PATIENCE stretches what tests allow, as it does with nestlab's own waits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from nestlab.base import patience

STRETCH = max(1.0, patience.number(os.environ.get(patience.VARIABLE) or "1", patience.VARIABLE))

LONG = 300.0 * STRETCH
"""Seconds until something that takes at most a few on a machine at full speed counts as never happening."""

VERY_LONG = 1800.0 * STRETCH
"""The same for what boots machines."""


async def until(holds: Callable[[], object], seconds: float = LONG) -> None:
    """Returns when it holds. TimeoutError when it never does."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (other processes make it so)
            await asyncio.sleep(0.01)


def wait_until(holds: Callable[[], object], seconds: float = LONG, pause: float = 0.02) -> None:
    """The same without a loop."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(pause)


async def settled(measure: Callable[[], int], still: float = 1.0) -> int:
    """What is measured once it is more than 0 and has stayed the same for so many seconds."""
    await until(measure)
    before, since = measure(), time.monotonic()
    async with asyncio.timeout(LONG):
        while time.monotonic() - since < still:
            await asyncio.sleep(0.05)
            if (now := measure()) != before:
                before, since = now, time.monotonic()
    return before
