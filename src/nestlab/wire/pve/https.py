"""One HTTPS request to a Proxmox VE and its answer: connections and certificates.

aiohttp is told to repeat nothing by itself (it would send a PUT or DELETE again when a kept connection turns out to be
closed, and a resize by +1G is not idempotent), to follow no redirects, and to believe no certificate by habit.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeGuard

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.wire.pve import trust
from nestlab.wire.pve.retries import Lost, Unsent
from nestlab.wire.shapes import odd

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

KEPT = 3.0
"""Seconds that an idle connection is kept. pveproxy closes it after 5 (AnyEvent.pm, timeout)."""

CONNECT = 10.0
"""Nominal seconds for a connection and its TLS handshake."""

ANSWER = 180.0
"""Nominal seconds until an answer has come whole. pveproxy gives up on another node after 30, not on its worker."""

BODY = 32 << 20
"""Bytes of the longest answer: what a command said, of which an agent keeps 16 MiB, takes more as JSON. (A million
empty lists take a hundred MiB of memory.)"""

MESSAGE = 16 << 10
"""Characters of the longest error."""

ERRORS = 100
"""Parameters that an error names at most."""

FRAME = 256 << 10
"""Bytes of the longest frame of a websocket: pveproxy sends none over 128 KiB."""


@frozen
class Answer:
    """`message`: what was said when it refused; the reason phrase ends at the first line break, the body does not."""

    status: int
    message: str
    data: Any = None
    errors: Mapping[str, Any] | None = None


def read(status: int, reason: str, body: bytes) -> Answer:
    """An answer as it came. A 401 has no body, errors of uploads are plain text. Status 0: 200, and what it should not
    be."""
    try:
        content = parsed(body) if body else {}
    except ValueError:
        content = {"message": body[:MESSAGE].decode(errors="replace")} if status != 200 else None
    if not isinstance(content, dict):
        return Answer(status if status != 200 else 0, reason if status != 200 else "the answer is not JSON")
    message = _said(content.get("message")) or reason.strip()
    errors = content.get("errors")
    wrong = {_said(name): _said(told) for name, told in list(errors.items())[:ERRORS]} if _is_object(errors) else None
    return Answer(status, message, content.get("data"), wrong)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _said(value: Any) -> str:
    """A text of an error, not longer than anybody reads."""
    said = value if isinstance(value, str) else "" if value is None else str(value)[:MESSAGE]
    return said[:MESSAGE].encode(errors="replace").decode().strip()


class Https:
    """Connections to one node's API, at most `limit`, each to a certificate that is believed."""

    def __init__(self, host: str, port: int, believed: trust.Trust, limit: int) -> None:
        self.host = host
        self.port = port
        self.met = False
        """It has answered before."""
        self._believed = believed
        self._limit = limit
        self._pins = list(believed.pins)
        self._proofs: dict[bytes, aiohttp.Fingerprint] = {}
        self._context: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def where(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None, wait: float = ANSWER
    ) -> Answer:
        """Send a request (`path` quoted) and read its answer, which must come within `wait` seconds after the body was
        sent. Unsent or Lost when there is none; LabError when the certificate is not believed."""
        async with self._sent(method, path, headers, body, wait) as response:
            content = await self._body(response, f"{method} {path.partition('?')[0].removeprefix('/api2/json')}")
            answer = read(response.status, response.reason or "", content)
        self.met = True
        return answer

    async def websocket(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientWebSocketResponse | None:
        """Open a websocket; None when that is refused (why, only a usual GET tells). Errors as of `send`.

        pveproxy takes no compressed or fragmented frames, and none over 128 KiB (AnyEvent.pm, websocket_proxy)."""
        import aiohttp

        limits = aiohttp.ClientWSTimeout(ws_close=2.0)
        tried: set[bytes] = set()
        async with self._telling("GET"):
            while True:
                try:
                    return await self._opened().ws_connect(
                        self._url(path),
                        headers=headers,
                        protocols=("binary",),
                        compress=0,
                        max_msg_size=FRAME,
                        timeout=limits,
                        ssl=await self._proof(),
                    )
                except aiohttp.WSServerHandshakeError:
                    return None
                except aiohttp.ServerFingerprintMismatch as error:
                    self._turn(error.got, tried)

    async def _body(self, response: aiohttp.ClientResponse, asked: str) -> bytes:
        """The body of an answer. Odd if it is longer than any."""
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > BODY:
                response.close()
                raise odd(self.where, asked, f"it goes on after {BODY >> 20} MiB")
        return bytes(content)

    @contextlib.asynccontextmanager
    async def _sent(
        self, method: str, path: str, headers: Mapping[str, str], body: Any, wait: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        session, url = self._opened(), self._url(path)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=patience.allowed(CONNECT), sock_read=patience.allowed(wait)
        )
        tried: set[bytes] = set()
        async with self._telling(method), asyncio.timeout(None) as limit:
            while True:
                try:
                    async with session.request(
                        method,
                        url,
                        headers=headers,
                        data=body,
                        timeout=timeout,
                        ssl=await self._proof(),
                        allow_redirects=False,
                        trace_request_ctx=(limit, patience.allowed(wait)),
                    ) as response:
                        yield response
                        return
                except aiohttp.ServerFingerprintMismatch as error:
                    self._turn(error.got, tried)

    @contextlib.asynccontextmanager
    async def _telling(self, method: str) -> AsyncIterator[None]:
        """What goes wrong, as nestlab's errors."""
        import aiohttp

        try:
            yield
        except LabError:
            raise
        except aiohttp.ClientConnectorCertificateError as error:
            raise await self._unsigned(error) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise self._unsent(error) from error
        except (aiohttp.ClientError, _Cut, OSError, TimeoutError) as error:
            raise self._lost(method, error) from error

    def _url(self, path: str) -> URL:
        from yarl import URL

        return URL(f"https://{self.where}{path}", encoded=True)

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._closed:  # who asked beside one that failed is too late
            raise Unsent(f"The connection to Proxmox VE on {self.where} is closed.")
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=KEPT, ttl_dns_cache=30)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=jar, middlewares=(_once,), trace_configs=[_watch()]
            )
        return self._session

    async def _proof(self) -> Any:
        """What each new connection must show."""
        import aiohttp

        if self._pins:
            pin = self._pins[0]
            return self._proofs.setdefault(pin, aiohttp.Fingerprint(pin))  # a connection is kept for the same object
        if self._believed.ca is None:
            raise trust.unstated(self.host, self.port, await trust.seen(self.host, self.port))
        if self._context is None:
            self._context = self._believed.context()
        return self._context

    def _turn(self, got: bytes, tried: set[bytes]) -> None:
        """Another certificate was shown: go on if it is another one of those stated (it was renewed)."""
        if got not in self._pins or got in tried:
            raise trust.mismatch(self.host, self.port, got, self._believed.pins)
        tried.add(got)
        self._pins.remove(got)
        self._pins.insert(0, got)

    async def _unsigned(self, error: aiohttp.ClientConnectorCertificateError) -> LabError:
        assert self._believed.ca is not None
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or str(cause)
        refused = trust.unsigned(self.host, self.port, self._believed.ca, reason)
        with contextlib.suppress(LabError):
            refused.detail = f"shown: {trust.show(await trust.seen(self.host, self.port))}"
        return refused

    def _unsent(self, error: Exception) -> Unsent:
        cause = getattr(error, "os_error", None) or error
        reason = getattr(cause, "strerror", None) or str(cause) or "no answer in time"
        hint = f"See whether https://{self.where} opens in a browser, and its services: systemctl status pveproxy."
        return Unsent(f"Proxmox VE on {self.where} does not answer: {reason}.", hint=hint)

    def _lost(self, method: str, error: BaseException) -> LabError:
        cause: BaseException | None = error
        while cause is not None:  # what the body itself could not go on for
            if isinstance(cause, LabError):
                return cause
            cause = cause.__cause__
        reason = str(error) or type(error).__name__
        done = "" if method == "GET" else " Whether it was done is not known."
        what = f"The connection to Proxmox VE on {self.where} was lost before it answered: {reason}.{done}"
        return Lost(what, hint="Try again: nestlab looks at what is there and goes on from that.")

    async def close(self) -> None:
        """For good: what is asked afterwards fails."""
        self._closed = True
        await self.drop()

    async def drop(self) -> None:
        """Its connections end; what is asked afterwards opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _watch() -> aiohttp.TraceConfig:
    """Gives a request its time anew with everything that is sent of it: then its answer must come, and be whole, in
    that time, however slowly it drips."""
    import aiohttp

    async def sent(session: object, context: SimpleNamespace, what: object) -> None:
        if context.trace_request_ctx is not None:
            limit, wait = context.trace_request_ctx
            limit.reschedule(asyncio.get_running_loop().time() + wait)

    found = aiohttp.TraceConfig()
    found.on_request_headers_sent.append(sent)
    found.on_request_chunk_sent.append(sent)
    return found


class _Cut(Exception):
    """The connection was closed before the answer; aiohttp repeats nothing that ends so."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    import aiohttp

    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Cut(str(error) or type(error).__name__) from error
