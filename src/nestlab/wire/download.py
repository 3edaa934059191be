"""Downloads by http and https: resumed where the server proves that it still has the same file, and checked.

What was downloaded counts only when its checksum is the one that was wanted, so nothing that a server says is believed:
what it says decides how long is waited and what an error tells. Proxies are those of the environment (http_proxy,
https_proxy, no_proxy), certificates those of the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import http
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from nestlab.base import files, patience
from nestlab.base.errors import LabError
from nestlab.base.paint import human
from nestlab.base.printable import one_line
from nestlab.base.typed import parsed
from nestlab.lab.urls import fault_of, is_loopback, name_in, shown_url

if TYPE_CHECKING:
    import aiohttp

Progress = Callable[[int, int], None]
"""Is told bytes that are there, and bytes in all (0: not known)."""

CONNECT = 30.0
"""Nominal seconds for a connection."""

SILENCE = 60.0
"""Nominal seconds without a byte after which a connection counts as broken."""

TRIES = 3
"""Attempts in a row that bring nothing new, after which it is given up."""

PAUSE = 1.0
"""Seconds before the second attempt; before each further one twice as long."""

HOPS = 10
"""Redirects in a row."""

_PIECE = 1 << 18
_AGAIN = (408, 429, 500, 502, 503, 504)
"""What a server says that may answer another time."""
MOVED = (301, 302, 303, 307, 308)
_PAGES, _PAGE = ("text/html", "application/xhtml+xml"), (b"<!doctype", b"<html")
"""What a web page is said to be, and how it begins."""


class _Broken(Exception):
    """The connection ended before the file did."""


@dataclass
class _Part:
    """What is there of a file, in a folder: `data`, and in `from.json` where it is from and by what the server knows
    it. `best`: the most bytes that ever were there."""

    folder: Path
    algorithm: str
    size: int = 0
    best: int = 0
    total: int = 0
    url: str = ""
    validator: str = ""

    def __post_init__(self) -> None:
        self.hash = hashlib.new(self.algorithm)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def load(self, url: str) -> None:
        """What an earlier attempt left, if its server can prove that it still has the same."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = parsed((self.folder / "from.json").read_text())
            if said["url"] == url and said["validator"]:
                self.url, self.validator, self.total = url, str(said["validator"]), int(said["total"])
                with self.data.open("rb") as file:
                    while piece := file.read(1 << 20):
                        self.hash.update(piece)
                        self.size += len(piece)
                return
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.size, self.total, self.url, self.validator = 0, 0, "", ""
        self.hash = hashlib.new(self.algorithm)
        descriptor = os.open(self.data, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.close(descriptor)

    def begin(self, url: str, validator: str, total: int) -> None:
        """What follows is from there, from the first byte on."""
        self.clear()
        self.url, self.validator, self.total = url, validator, total
        said = {"url": url, "validator": validator, "total": total}
        files.replace(self.folder / "from.json", json.dumps(said).encode(), 0o600)


async def download(url: str, folder: Path, checksum: str, most: int, progress: Progress) -> Path:
    """The file at a URL, in `folder`, which nobody else works in; what is there of an earlier attempt is gone on with.
    `checksum`: `sha256:…` or `sha512:…`, which it has when this returns; `most`: bytes that it may have. LabError where
    it cannot be had; then nothing is left that has another checksum."""
    algorithm, _, wanted = checksum.partition(":")
    part = _Part(folder, algorithm)
    await asyncio.to_thread(part.load, url)
    resumed = part.size > 0
    async with _session() as session:
        while True:
            await _whole(session, url, part, most, wanted, progress)
            if part.hash.hexdigest() == wanted:
                return part.data
            found, size = part.hash.hexdigest(), part.size
            part.clear()
            if not resumed:
                break
            resumed = False  # what lay here may have suffered (a power cut): once more, from the first byte on
    part.data.unlink()
    raise LabError(
        f"{shown_url(url)} is not what the lab file says: its checksum differs.",
        hint="Look whether whoever publishes it has changed it, and say the new checksum if you trust that. "
        "Nothing of it was kept.",
        detail=f"wanted {algorithm} {wanted}\nfound  {algorithm} {found} ({size} bytes)",
    )


async def text(url: str, most: int) -> bytes | None:
    """A small file; None where the server says that there is none. LabError where it cannot be had."""
    async with _session() as session:
        for failures in range(TRIES):
            try:
                async with _answer(session, url, {}) as response:
                    if response.status in (404, 410):
                        return None
                    _refuse(response.status, url)
                    body = bytearray()
                    async for piece in _pieces(response):
                        body += piece
                        if len(body) > most:
                            raise _too_large(url, len(body), most)
                    if _is_page(response, bytes(body[:64])):
                        raise _page(url)
                    return bytes(body)
            except _Broken as error:
                if failures + 1 == TRIES:
                    raise _unreachable(url, str(error)) from error
                await asyncio.sleep(PAUSE * 2**failures)
    raise AssertionError


async def _whole(
    session: aiohttp.ClientSession, url: str, part: _Part, most: int, wanted: str, progress: Progress
) -> None:
    """Read on, over breaks, until the file ends, or what is there is what is wanted."""
    failures = 0
    while True:
        before = part.best
        try:
            await _stream(session, url, part, most, progress)
        except _Broken as error:
            if part.size and part.hash.hexdigest() == wanted:
                return  # the server said that there is more, and there is not
            failures = 0 if part.best > before else failures + 1
            if failures >= TRIES:
                if not part.size:
                    raise _unreachable(url, str(error)) from error
                of = f" of {human(part.total)}" if part.total else ""
                what = f"{shown_url(url)} broke off after {human(part.size)}{of}: {error}."
                raise LabError(what, hint="Run the same command again: it goes on from there.") from error
            await asyncio.sleep(PAUSE * 2**failures)
        else:
            return


async def _stream(session: aiohttp.ClientSession, url: str, part: _Part, most: int, progress: Progress) -> None:
    """One request, and what comes of it. _Broken if it ends before the file does."""
    headers = {}
    if part.size and part.validator:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    async with _answer(session, url, headers) as response:
        if response.status == 416:
            part.clear()
            raise _Broken("it has less than it had")
        _refuse(response.status, url)
        if response.status == 206 and not _goes_on(response, part):
            part.clear()
            raise _Broken("it has another file now")
        if response.status == 206:
            total = part.total
        else:
            total = response.content_length or 0
            if _is_page(response, b""):
                raise _page(url)
            _fits(url, total, most, part.folder)
            part.begin(url, _validator(response), total)
        descriptor = os.open(part.data, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            async for piece in _pieces(response):
                if not part.size and _is_page(response, piece):
                    raise _page(url)
                if part.size + len(piece) > most:
                    raise _too_large(url, part.size + len(piece), most)
                _write(descriptor, piece, url, part.folder)
                part.hash.update(piece)
                part.size += len(piece)
                part.best = max(part.best, part.size)
                progress(part.size, total)
        except LabError:
            part.clear()
            raise
        finally:
            os.close(descriptor)
    if total and part.size < total:
        raise _Broken("the connection ended")


def _write(descriptor: int, piece: bytes, url: str, folder: Path) -> None:
    try:
        while piece:
            piece = piece[os.write(descriptor, piece) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        hint = "Make room (`nestlab images gc` removes images nobody uses), then run the same command again."
        raise LabError(
            f"{name_in(url)} cannot be downloaded: the disk of {folder.parent} is full.", hint=hint
        ) from error


def _fits(url: str, total: int, most: int, folder: Path) -> None:
    if total > most:
        raise _too_large(url, total, most)
    free = files.disk_free(folder)
    if free is not None and total > free:
        hint = "Make room (`nestlab images gc` removes images nobody uses), then run the same command again."
        what = f"{name_in(url)} has {human(total)}, and {folder.parent} has only {human(free)} free."
        raise LabError(what, hint=hint)


def _validator(response: aiohttp.ClientResponse) -> str:
    """What proves that a server still has the same file: a strong ETag, else a date (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified", "")


def _goes_on(response: aiohttp.ClientResponse, part: _Part) -> bool:
    """Whether what comes is what is missing, of the same file."""
    unit, _, about = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = about.partition("/")
    if unit != "bytes" or span.partition("-")[0] != str(part.size):
        return False
    same = total == "*" or not part.total or total == str(part.total)
    named = [response.headers[name] for name in ("ETag", "Last-Modified") if name in response.headers]
    return same and (not named or part.validator in named)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for piece in response.content.iter_chunked(_PIECE):
            yield piece
    except TimeoutError as error:
        raise _Broken(f"nothing came for {patience.said(patience.allowed(SILENCE))}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise _Broken("the connection broke") from error


def _is_page(response: aiohttp.ClientResponse, start: bytes) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in _PAGES or start[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE)


@contextlib.asynccontextmanager
async def _answer(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer at the end of the redirects. _Broken where there is none this time."""
    at = url
    for _ in range(HOPS):
        async with _asked(session, at, headers) as response:
            if response.status not in MOVED:
                yield response
                return
            at = led(at, urljoin(at, response.headers.get("Location", "")))
    raise LabError(f"{shown_url(url)} leads from one address to the next without end.", hint="Name the last one.")


def led(here: str, there: str) -> str:
    """Where a redirect leads. LabError where it may not."""
    shown = one_line(there)[:200]
    hint = "Name where it is itself, if you trust that."
    if not there.startswith(("http://", "https://")) or fault_of(there):
        raise LabError(f"{shown_url(here)} leads to {shown!r}, which is not followed.", hint=hint)
    if here.startswith("https://") and not there.startswith("https://"):
        raise LabError(f"{shown_url(here)} leads from https to http: {shown_url(there)}.", hint=hint)
    if is_loopback(there) and not is_loopback(here):
        raise LabError(f"{shown_url(here)} leads to this computer: {shown_url(there)}.", hint=hint)
    return there


@contextlib.asynccontextmanager
async def _asked(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str]
) -> AsyncIterator[aiohttp.ClientResponse]:
    import aiohttp

    try:
        response = await session.get(url, headers=headers, allow_redirects=False)
    except aiohttp.ClientConnectorCertificateError as error:
        cause = error.certificate_error
        why = getattr(cause, "verify_message", "") or str(cause)
        hint = "This system's certificate authorities are believed (package ca-certificates; SSL_CERT_FILE)."
        raise LabError(f"{shown_url(url)} is not who it says: {one_line(why)}.", hint=hint) from error
    except TimeoutError as error:
        raise _Broken("no answer in time") from error
    except aiohttp.ClientResponseError as error:
        raise _Broken("its answer is no proper HTTP") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        cause_of: Any = getattr(error, "os_error", None) or error
        raise _Broken(one_line(getattr(cause_of, "strerror", None) or str(cause_of) or "no answer")[:200]) from error
    async with response:
        yield response


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=patience.allowed(CONNECT), sock_read=patience.allowed(SILENCE)
    )
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=4),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "nestlab"},
        auto_decompress=False,
        trust_env=True,
        timeout=timeout,
    ) as session:
        yield session


def _refuse(status: int, url: str) -> None:
    """LabError, or _Broken, unless there is a file."""
    if status in (200, 206):
        return
    known = {each.value: each.phrase for each in http.HTTPStatus}
    said = f"{status} {known.get(status, '')}".strip()
    if status in _AGAIN:
        raise _Broken(f"the server says {said}")
    hint = "See whether a browser gets it; vendors remove old versions."
    if status in (401, 403, 407):
        hint = "It is not for everybody: a name and password for that host are read from ~/.netrc."
    raise LabError(f"{shown_url(url)} cannot be downloaded: the server says {said}.", hint=hint)


def _page(url: str) -> LabError:
    what = f"{shown_url(url)} is a web page (HTML), and no image."
    return LabError(what, hint="Name the file itself: in a browser, copy the link of the download.")


def _too_large(url: str, size: int, most: int) -> LabError:
    what = f"{name_in(url)} has {human(size)} or more, and may have {human(most)}."
    return LabError(what, hint="If that is right, say `max_size:` of the image.")


def _unreachable(url: str, why: str) -> LabError:
    host = urlsplit(url).hostname or url
    hint = "See whether this computer is online; a proxy is taken from https_proxy (http_proxy), as by curl."
    return LabError(f"{shown_url(url)} cannot be downloaded: {host} does not serve it: {why}.", hint=hint)
