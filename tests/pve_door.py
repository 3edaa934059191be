"""A client of a Proxmox VE and the small HTTPS server that it talks to, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from https_scripted import Answer, Asked, Reply, Server, data, refuse, serving
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.login import Login, Token
from nestlab.wire.pve.retries import Patience
from nestlab.wire.pve.trust import Trust

TOKEN = Token.of("lab@pve!nestlab=12345678-1234-1234-1234-123456789abc")
UPID = "UPID:pve2:00000E0E:000A95CC:6B036B74:qmclone:150:root@pam!lab:"
QUICK = Patience(tries=4, first=0.001, most=0.002)

BUSY = refuse(500, "can't lock file '/var/lock/qemu-server/lock-170.conf' - got timeout")
CUT = refuse(596, "Broken pipe")
APART = refuse(595, "No route to host")

Open = Callable[..., AbstractAsyncContextManager[tuple[Pve, Server]]]


def opening(folder: Path) -> Open:
    """Open a server that replies so, and a client that knows its certificate."""

    @asynccontextmanager
    async def enter(reply: Reply, login: Login = TOKEN, **rest: Any) -> AsyncIterator[tuple[Pve, Server]]:
        async with serving(reply, folder) as server:
            believed = rest.pop("believed", None) or Trust.of(server.fingerprint)
            rest.setdefault("patience", QUICK)
            async with Pve("127.0.0.1", login, believed, port=server.port, **rest) as pve:
                yield pve, server

    return enter


class Script:
    """Replies in their order; the last one again and again. An exception is raised."""

    def __init__(self, *replies: Answer | Exception) -> None:
        self.replies = list(replies)

    def __call__(self, asked: Asked) -> Answer:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


class Node:
    """Runs one task: how it stands at each look, and its log."""

    def __init__(self, *stands: Answer | Exception | dict[str, str], log: list[str]) -> None:
        self.stands = Script(*(data(each) if isinstance(each, dict) else each for each in stands))
        self.log = log
        self.targets: list[str] = []

    def __call__(self, asked: Asked) -> Answer:
        self.targets.append(unquote(asked.target))
        if "/log" not in asked.target:
            return self.stands(asked)
        query = dict(parse_qsl(urlsplit(asked.target).query))
        start, limit = int(query["start"]), int(query["limit"])
        lines = [{"n": number, "t": text} for number, text in enumerate(self.log, 1)]
        return data(lines[start : start + limit])


RUNS, ENDED = {"status": "running"}, {"status": "stopped", "exitstatus": "OK"}
