"""The answer server of one installation: hands the installer its answers, and hears how far it is.

It listens on unix sockets that nobody but its user may open; QEMU joins them to an address in the installer's own
closed network (`command.forwards`). Its URL has a secret that only this installation knows. What comes in is bounded:
bodies, lines, the log that is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.answers import Answered, Answers, Family, ServerAddress, answered
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.install.certificate import self_signed

if TYPE_CHECKING:
    from aiohttp import web

LOG_LINES = 2000
"""Lines of the installer's log that are kept for errors."""
SAYINGS = 1000
"""How often an installer's words are told as progress; Ubuntu's has some 100 to tell."""
_LONGEST = 4096
_BODY = 1 << 20
"""Bytes of what an installer may send at once: what it knows of its machine is some 100 kB."""

STAGES: Mapping[str, str] = {
    "started": "the installer has its answers",
    "partitioning": "preparing the disk",
    "installed": "the installer is done",
}
"""What stages that installers fetch mean to a person."""

_NUMBER = re.compile("[0-9]{1,4}")
_MENU = re.compile(r"main-menu\[\d+\]: INFO: Menu item '([a-z-]+)' selected")
_ITEMS: Mapping[str, str] = {
    "download-installer": "loading parts of the installer",
    "partman-base": "preparing the disk",
    "bootstrap-base": "installing the base system",
    "apt-setup-udeb": "setting up the package manager",
    "pkgsel": "installing packages",
    "grub-installer": "installing the boot loader",
    "finish-install": "finishing",
}
"""Parts of Debian's installer, by their names in its log."""


@dataclass
class Installation:
    """What is known of an installation while it runs."""

    stage: str = ""
    failed: str = ""
    """What the installer said went wrong."""
    system: Mapping[str, Any] = field(default_factory=dict)
    """What a Proxmox installer said of its machine."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What a Proxmox installer said of the installed system."""
    heard: float = 0.0
    """When the installer was last heard of, by the event loop's clock."""
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    @property
    def done(self) -> bool:
        return self.stage == "installed" and not self.failed


@frozen
class Sockets:
    """Paths of the server's unix sockets: HTTP, HTTP over TLS, and lines of a log."""

    plain: Path
    tls: Path
    log: Path


class AnswerServer:
    """Serves one installation."""

    def __init__(self, given: Answered, address: ServerAddress, commands: tuple[str, ...], say: Say) -> None:
        self.given, self.address, self.commands = given, address, commands
        self._say, self._told = say, 0
        self.state = Installation()
        self._secret = address.url.rpartition("/")[2]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Everything below /SECRET/."""
        from aiohttp import web

        secret, _, path = request.match_info["path"].partition("/")
        if not _same(secret, self._secret):
            raise web.HTTPNotFound(text="there is nothing here\n")
        self._hear()
        if path.startswith("stage/"):
            self.stage(path.removeprefix("stage/"))
            return web.Response(text="")
        if path.startswith("command/"):
            return self._command(path.removeprefix("command/"))
        if path.startswith("log/"):
            await self._log_file(path.removeprefix("log/"), request)
            return web.Response(text="")
        if path == "event":
            self._event(await _body(request))
            return web.Response(text="")
        if path == "installed":
            self.state.result = await _body(request)
            self.stage("installed")
            return web.Response(text="")
        if path == "answer":
            return await self._answer(request)
        text = self.given.files.get(path)
        if text is None:
            raise web.HTTPNotFound(text="no such answer\n")
        return web.Response(text=text, content_type="text/plain")

    def say(self, text: str) -> None:
        """What progress shows, and a journal keeps: an installer may have something to say for ever."""
        self._told += 1
        if self._told <= SAYINGS:
            self._say(text)

    def stage(self, name: str) -> None:
        """The installer has come to a stage."""
        if name == "failed":
            self.state.failed = self.state.failed or "it says that it failed"
        elif name in STAGES and name != self.state.stage:
            self.state.stage = name
            self.say(STAGES[name])

    def line(self, line: bytes) -> None:
        """A line of the installer's log."""
        self._hear()
        clean = one_line(line[:_LONGEST].decode(errors="replace")).rstrip()
        if not clean:
            return
        self.state.log.append(clean)
        found = _MENU.search(clean)
        if found and found[1] in _ITEMS:
            self.say(_ITEMS[found[1]])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Proxmox's installer posts what its machine is, with the token of its ISO, and takes TOML."""
        from aiohttp import web

        shown = request.headers.get("Authorization", "")
        if request.method != "POST" or not _same(shown, f"Bearer {self.address.token}"):
            raise web.HTTPUnauthorized(text="the token is missing, or another one\n")
        self.state.system = await _body(request)
        self.stage("started")
        return web.Response(text=self.given.files["answer"], content_type="application/toml")

    def _command(self, number: str) -> web.Response:
        from aiohttp import web

        if not _NUMBER.fullmatch(number) or int(number) >= len(self.commands):
            raise web.HTTPNotFound(text="no such command\n")
        return web.Response(text=self.commands[int(number)], content_type="text/x-shellscript")

    async def _log_file(self, name: str, request: web.Request) -> None:
        """The end of a log that an installer that failed hands over."""
        kept: deque[bytes] = deque(maxlen=LOG_LINES // 4)
        async for line in _lines(request.content):
            kept.append(line)
        self.state.log.append(f"--- {one_line(name)[:100]}")
        for line in kept:
            self.line(line)

    def _event(self, event: Mapping[str, Any]) -> None:
        """Of subiquity: what begins or ends, and how."""
        name, words = (one_line(str(event.get(key, "")))[:200] for key in ("name", "description"))
        if event.get("result") == "FAIL":
            self.state.failed = words or name
        elif event.get("event_type") == "start" and name.count("/") <= 2 and words:
            self.say(words)
        self.line(f"{name}: {words} {one_line(str(event.get('result', '')))[:20]}".encode())

    def _hear(self) -> None:
        self.state.heard = asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def serve(
    family: Family,
    answers: Answers,
    disk: str,
    folder: Path,
    network: str,
    say: Say,
    mirror: str | None = None,
    *,
    outward: bool = False,
) -> AsyncIterator[tuple[AnswerServer, Sockets]]:
    """A server for one installation, and its sockets in `folder` (its owner's alone). `network`: the first three
    numbers of the installer's network, where `.4` is the server. `mirror`: the URL of packages that it passes on.
    `outward`: whether the installer reaches more than this."""
    from aiohttp import web

    host, secret = f"{network}.4", secrets.token_urlsafe(24)
    certificate = self_signed(host, folder)
    path = "/" + mirror.split("://", 1)[1].partition("/")[2].strip("/") if mirror else ""
    address = ServerAddress(
        url=f"http://{host}/{secret}",
        log=(host, 514),
        tls_url=f"https://{host}/{secret}",
        fingerprint=certificate.fingerprint,
        token=f"nestlab:{secrets.token_urlsafe(24)}",
        mirror=(host, path) if mirror else None,
        origin=mirror or "",
        outward=outward,
        name_server=f"{network}.3",
    )
    server = AnswerServer(answered(family, answers, address, disk), address, answers.commands, say)
    sockets = Sockets(folder / "http", folder / "https", folder / "log")
    app = web.Application(client_max_size=_BODY)
    if mirror:
        from nestlab.install.mirror import Mirror

        passing = Mirror(mirror, lambda line: server.line(line.encode()))
        app.router.add_get(f"{path}/{{path:.*}}", passing.handle)
        app.on_cleanup.append(passing.close)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, logger=_quiet(server), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(sockets.plain)).start()
        await web.UnixSite(runner, str(sockets.tls), ssl_context=certificate.context).start()
        listening = await asyncio.start_unix_server(lambda r, w: _listen(server, r, w), sockets.log, limit=1 << 16)
        for each in (sockets.plain, sockets.tls, sockets.log):
            each.chmod(0o600)
        async with listening:
            yield server, sockets
    finally:
        await runner.cleanup()


def _same(shown: str, wanted: str) -> bool:
    """Whether a secret is the one, told in a time that does not depend on where they differ; any letters may be
    shown."""
    return hmac.compare_digest(shown.encode(errors="surrogatepass"), wanted.encode())


def _quiet(server: AnswerServer) -> logging.Logger:
    """Where aiohttp tells of requests that are none, and of errors: what came with them is for the log of the
    installation, not for the user's terminal."""

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            why = record.exc_info[1] if record.exc_info else None
            text = f"answer server: {record.getMessage()} {why or ''}"
            server.state.log.append(one_line(text)[:_LONGEST])

    logger = logging.Logger("nestlab.answer_server")  # of nobody else's, and below no other
    logger.addHandler(Kept())
    return logger


async def _listen(server: AnswerServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async for line in _lines(reader):
            server.line(line)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _lines(reader: Any) -> AsyncIterator[bytes]:
    """Lines of any length, of which the first bytes are kept."""
    rest = b""
    while chunk := await reader.read(1 << 14):
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield (rest + line)[:_LONGEST]
            rest = b""
        rest = (rest + last)[:_LONGEST]
    if rest:
        yield rest


async def _body(request: web.Request) -> Mapping[str, Any]:
    from aiohttp import web

    try:
        found = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="this is no JSON\n") from None
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(text="this is no JSON object\n")
    return found
