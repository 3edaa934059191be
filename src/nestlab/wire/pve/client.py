"""A Proxmox VE cluster over HTTPS (see `api.Api`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.patience import allowed
from nestlab.lab.pve_address import PORT
from nestlab.wire.pve import encode, tasks
from nestlab.wire.pve import multipart as upload
from nestlab.wire.pve.answers import answered
from nestlab.wire.pve.api import Params, Progress
from nestlab.wire.pve.credentials import Credentials
from nestlab.wire.pve.errors import NodeUnreachable, Unauthorized, refusal
from nestlab.wire.pve.https import ANSWER, Answer, Https
from nestlab.wire.pve.login import Badge, Login
from nestlab.wire.pve.multipart import Parts
from nestlab.wire.pve.retries import Lost, Patience, Unsent, repeatable
from nestlab.wire.pve.trust import Trust
from nestlab.wire.shapes import odd

if TYPE_CHECKING:
    import aiohttp

PER_NODE = 6
"""Requests at one time that concern one node. pveproxy has three workers a node (pveproxy.pm), pvedaemon three."""

UPLOADS = 2
"""Files on their way at one time; they do not count among the requests of a node."""

UPLOAD_TRIES = 4
"""Times that a file is sent whose connection breaks."""

CONNECTIONS = 12
"""Connections at one time to the node that is asked."""


class Transport(Protocol):
    """Takes requests to one node. `met`: it has answered before. See `https.Https`, also for errors."""

    met: bool

    @property
    def where(self) -> str: ...

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None, wait: float = ANSWER
    ) -> Answer: ...

    async def close(self) -> None: ...


class Pve:
    """One cluster, asked through the API of one of its nodes, which passes on what concerns the others.

    Every connection is to a certificate that `believed` vouches for: before that is known, nothing is sent."""

    def __init__(
        self,
        host: str,
        login: Login,
        believed: Trust,
        *,
        port: int = PORT,
        patience: Patience | None = None,
        badge: Badge | None = None,
        transport: Transport | None = None,
    ) -> None:
        """`transport`: another way than HTTPS to `host`."""
        self._https = Https(host, port, believed, CONNECTIONS)
        self._way: Transport = transport or self._https
        self._badge = badge or Badge(login)
        self._patience = patience or Patience()
        self._slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PER_NODE))
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._entrance = asyncio.Lock()

    @staticmethod
    def of(found: Credentials, *, patience: Patience | None = None) -> Pve:
        """The one that credentials are for."""
        return Pve(found.place.host, found.login, found.trust, port=found.place.port, patience=patience)

    @property
    def where(self) -> str:
        return self._way.where

    async def get(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("GET", path, params)

    async def create(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("POST", path, params)

    async def set(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("PUT", path, params)

    async def delete(self, path: str, params: Params | None = None) -> Any:
        return await self._ask("DELETE", path, params)

    async def task(self, upid: str, say: Say | None = None, *, timeout: float | None = None) -> list[str]:
        return await tasks.follow(self, upid, say, timeout=timeout)

    async def upload(
        self, node: str, storage: str, content: str, source: Path, name: str, progress: Progress | None = None
    ) -> None:
        """See `api.Api.upload`. A connection that breaks is no end of it: a node that passes a file on to another one
        gives up after seconds in which that is busy. Repeated, it replaces what came of it."""
        parts = await asyncio.to_thread(upload.parts, source, content, name)
        for tried in range(1, UPLOAD_TRIES + 1):
            try:
                upid = await self._uploaded(f"/nodes/{node}/storage/{storage}/upload", parts, progress)
                break
            except (Lost, Unsent, NodeUnreachable) as error:
                if tried == UPLOAD_TRIES:
                    cause = "Datastore.AllocateTemplate there may be missing, or space in the node's /var/tmp"
                    error.hint = f"{error.hint} PVE may hang up in the middle instead of answering: {cause}."
                    raise
            await asyncio.sleep(self._patience.pause(tried))
        await self.task(upid)

    async def _uploaded(self, path: str, parts: Parts, progress: Progress | None) -> str:
        """Send a file once: the task that takes it in."""
        async with self._uploads:
            body = lambda: upload.stream(parts, progress)  # noqa: E731 - a new stream for each login
            answer = await self._let_in("POST", encode.address(path), body, parts.headers)
        return str(self._data("POST", path, answer))

    async def websocket(self, path: str, params: Params) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket at a path of the API, which stays open until it is closed."""
        address = encode.address(path) + f"?{encode.query(params)}"
        if self._badge.due:
            await self._enter(self._badge.current)
        opened = await self._https.websocket(address, self._badge.headers("GET"))
        if opened is None:
            await self.get(path, params)
            what = f"{self.where} opens no websocket at {path}."
            raise LabError(what, hint="Does a proxy stand between? nestlab needs pveproxy itself.")
        return opened

    async def close(self) -> None:
        await self._way.close()

    async def __aenter__(self) -> Pve:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, params: Params | None) -> Any:
        """A request, repeated where it may be."""
        body, query = None, encode.query(params)
        if method in ("POST", "PUT"):
            body, query = encode.body(params), ""
        address = encode.address(path) + (f"?{query}" if query else "")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        tried, since = 0, time.monotonic()
        while True:
            met = self._way.met
            try:
                async with self._slot(path):
                    answer = await self._let_in(method, address, lambda: body, headers)
                return self._data(method, path, answer)
            except LabError as error:
                tried += 1
                unsent = isinstance(error, Unsent)
                spent = tried >= self._patience.tries
                if unsent and met:
                    spent = spent and time.monotonic() - since > allowed(self._patience.away)
                if spent or (unsent and not met) or not repeatable(error, method):
                    raise
            await asyncio.sleep(self._patience.pause(tried))

    async def _let_in(self, method: str, address: str, body: Callable[[], Any], headers: dict[str, str]) -> Answer:
        """Send it, logged in; a ticket that is refused is got anew once. (A 401 is told before anything is done.)"""
        for again in (True, False):
            if self._badge.due:
                await self._enter(self._badge.current)
            shown = self._badge.current
            answer = await self._way.send(method, address, {**headers, **self._badge.headers(method)}, body())
            if answer.status != 401 or not again or not self._badge.renewable:
                break
            await self._enter(shown, refused=True)
        return answer

    async def _enter(self, shown: object, *, refused: bool = False) -> None:
        """Get a ticket, unless another request has done so meanwhile."""
        async with self._entrance:
            if self._badge.current is not shown:
                return
            if refused:
                self._badge.drop()
            try:
                await self._login()
            except Unauthorized:
                if self._badge.current is None:
                    raise
                self._badge.drop()  # the old ticket is no password any more: the password itself
                await self._login()

    async def _login(self) -> None:
        path, headers = "/access/ticket", {"Content-Type": "application/json"}
        body = encode.body(dict(self._badge.request()))
        try:
            answer = await self._way.send("POST", encode.address(path), headers, body)
        except Lost as error:  # a login may be repeated, and what it was for was not sent
            what = error.what.removesuffix(" Whether it was done is not known.")
            raise Unsent(what, hint=error.hint) from error
        self._badge.take(self._data("POST", path, answer) or {}, self.where)

    @contextlib.asynccontextmanager
    async def _slot(self, path: str) -> AsyncIterator[None]:
        async with self._slots[encode.node_of(path)]:
            yield

    def _data(self, method: str, path: str, answer: Answer) -> Any:
        if answer.status == 200:
            return answered(answer.data, self.where, method, path)
        if not answer.status:
            raise odd(self.where, f"{method} {path}", answer.message)
        raise refusal(self.where, f"{method} {path}", answer.status, answer.message, parameters=answer.errors)
