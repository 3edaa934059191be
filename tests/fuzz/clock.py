"""A clock that does not wait: when nothing is to be done but to wait, the time is then. For whole processes.

Waits of nestlab's (polls, pauses between retries, timeouts) pass at once, in the order in which they would. What is
waited for must be in the same event loop, or in a thread that `asyncio.to_thread` started.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any

_real_monotonic = time.monotonic
_skipped = 0.0

TURN = 0.002
"""Seconds that a thread is waited for at one time."""

REAL = 5.0
"""Seconds that are waited in truth where no time is named: by then something has come, or nothing will."""


def install() -> None:
    """From now on this process has that clock."""
    time.monotonic = _monotonic
    time.sleep = skip  # type: ignore[assignment]


def skip(seconds: float) -> None:
    """It is so much later."""
    global _skipped
    _skipped += max(0.0, seconds)


def _monotonic() -> float:
    return _real_monotonic() + _skipped


class _Selector(selectors.DefaultSelector):
    """`threads`: work elsewhere that the loop waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self.threads or timeout is None:
            return super().select(TURN if self.threads else REAL)
        skip(timeout)  # what comes over sockets between tasks of this loop is there at once
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.waiting = _Selector()
        super().__init__(self.waiting)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self.waiting.threads += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(self._done)
        return work

    def _done(self, _: object) -> None:
        self.waiting.threads -= 1


class Waits(Exception):
    """What was started waits on, long after anybody would have ended it."""


class Runner:
    """An event loop by that clock, kept from case to case."""

    def __init__(self) -> None:
        self._loop = _Loop()

    def run(self, work: Coroutine[Any, Any, Any], most: float = 20_000.0) -> Any:
        """The work's result. Waits when it is not done after so many seconds of that clock."""

        async def bounded() -> Any:
            limit = asyncio.timeout(most)
            try:
                async with limit:
                    return await work
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise Waits(f"it waits for more than {most:.0f} s") from error

        return self._loop.run_until_complete(bounded())

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
