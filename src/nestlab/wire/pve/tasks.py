"""Follows a task of a Proxmox VE to its exit status."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.events import Say
from nestlab.wire.pve import encode
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import refusal

FIRST, MOST = 0.2, 2.0
"""Seconds between two looks at a task: the first, and the most. Each look grows by half."""

PATIENCE = 300.0
"""Nominal seconds that nobody may answer while a task is followed: a node that boots takes minutes."""

PAGE = 500
"""Lines of a log asked at once (PVE's own default is 50)."""

LINES = 100_000
"""Lines of a log that are read at most."""

TAIL = 20
"""Lines of a failed task's log that its error carries."""

_WARNING = re.compile(r"\bWARN(?:ING)?S?:\s*(.*)")


class _Log:
    """The lines of a task's log, as they come."""

    def __init__(self, api: Api, upid: encode.Upid, say: Say | None) -> None:
        self._api = api
        self._upid = upid
        self._say = say
        self.lines: list[str] = []

    async def read(self) -> None:
        """Everything that is new."""
        while len(self.lines) < LINES:
            entries = await self._api.get(f"{self._upid.path}/log", {"start": len(self.lines), "limit": PAGE})
            new = [str(entry.get("t", "")) for entry in entries or []]
            if (
                new == ["no content"] and not self.lines
            ):  # so PVE says that there is none yet (PVE::Tools::dump_logfile)
                return
            for line in new:
                if self._say and not line.startswith("TASK "):
                    self._say(line)
            self.lines += new
            if len(new) < PAGE:
                return

    @property
    def tail(self) -> str:
        return "\n".join(self.lines[-TAIL:])


async def follow(
    api: Api,
    name: str,
    say: Say | None = None,
    *,
    timeout: float | None = None,
    pause: Callable[[float], Any] = asyncio.sleep,
) -> list[str]:
    """See `api.Api.task`. The node that the UPID names is asked; it may go away for a while."""
    upid = encode.upid(name)
    log = _Log(api, upid, say)
    try:
        async with asyncio.timeout(timeout):
            status = await _end(api, upid, log, pause)
    except TimeoutError:
        what = f"Task {upid} on {api.where} did not end within {timeout:g} s; it goes on."
        raise LabError(what, hint=f"See it: pvesh get {upid.path}/log", detail=log.tail) from None
    return await _ending(api, upid, log, status)


async def _end(api: Api, upid: encode.Upid, log: _Log, pause: Callable[[float], Any]) -> str:
    """Wait for its end: its exit status."""
    loop = asyncio.get_running_loop()
    wait, answered = FIRST, loop.time()
    while True:
        try:
            status = await api.get(f"{upid.path}/status")
            if log._say is not None:
                await log.read()
            answered = loop.time()
        except Unreachable:
            if loop.time() - answered > patience.allowed(PATIENCE):
                raise
            status = {}
        if status.get("status") == "stopped":
            return str(status.get("exitstatus") or "unexpected status")
        await pause(wait)
        wait = min(MOST, wait * 1.5)


async def _ending(api: Api, upid: encode.Upid, log: _Log, status: str) -> list[str]:
    """What its end means. The exit status is `OK`, `WARNINGS: n`, or what went wrong."""
    if status == "OK":
        return []
    try:
        await log.read()
    except LabError as error:
        log.lines.append(f"(its log cannot be read: {error.what})")
    if status.startswith("WARNINGS:"):
        found = [
            match[1] for match in map(_WARNING.search, log.lines) if match and not match.string.startswith("TASK ")
        ]
        return found or [f"Task {upid} ended with {status.lower()}."]
    code, message = _code(status)
    raise refusal(api.where, str(upid), code, message, upid=upid.text, log=log.tail)


def _code(status: str) -> tuple[int, str]:
    """An exit status may start with HTTP's: `403 Permission check failed (/storage/local, …)`."""
    found = re.match(r"([45]\d\d) (.*)", status, re.DOTALL)
    return (int(found[1]), found[2]) if found else (0, status)
