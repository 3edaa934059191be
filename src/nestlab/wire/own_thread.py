"""Blocking work in a thread of its own: what waits for a guest takes no thread away from anybody else.

`asyncio.to_thread` has a handful of threads for all work of nestlab's. A hypervisor that answers late in a dozen
places would keep all of them, and with them the other hypervisors and the files of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def own_thread(work: Callable[[], T]) -> T:
    """The result of blocking work, or its exception. When cancelled the thread is left to itself, so the work must be
    bounded in time; it does not keep nestlab from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
