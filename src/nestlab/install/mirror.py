"""Passes files of a distribution's mirror on to an installer that has no other way out. What they are worth the
installer checks itself, by the signatures of their lists."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from nestlab.base.errors import LabError
from nestlab.wire.download import HOPS, MOVED, led

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, web

_SUITE = r"(dists/[A-Za-z0-9._-]+(?:/updates)?)"
_RELEASE = re.compile(_SUITE + r"/(Release|Release\.gpg)")
_INDEX = re.compile(_SUITE + r"/((?:[A-Za-z0-9._+-]+/)+)(?!by-hash/)([A-Za-z0-9._+-]+)")
_SUM = re.compile(rb"^ ([0-9a-f]{64}) +[0-9]+ (\S+)$", re.MULTILINE)
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_LARGEST = 16 << 20
_SUITES = 16
"""Suites whose lists are kept; an installer asks for the names of some ten."""
_HEADERS = ("Content-Length", "Content-Type", "Last-Modified", "ETag")
_CHUNK = 1 << 16


class Mirror:
    """One mirror, by its URL. `tell` hears what it does not give."""

    def __init__(self, url: str, tell: Callable[[str], None]) -> None:
        self.url, self.tell = url.rstrip("/"), tell
        self._session: ClientSession | None = None
        self._releases: dict[str, bytes] = {}
        """The `InRelease` of a suite, by its folder, as it was when the installer asked for its two halves."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A file of it; whatever goes wrong there is a status here."""
        from aiohttp import ClientError, ClientSession, ClientTimeout, web

        path = request.match_info["path"]
        if {"..", "."} & set(path.split("/")) or not path.isprintable():
            raise web.HTTPNotFound
        path = quote(path)  # what is in it now is a name and no more: `%`, `?` and `#` too
        if self._session is None:
            timeout = ClientTimeout(total=None, sock_connect=30, sock_read=120)
            plain = {"Accept-Encoding": "identity"}  # what is signed is the file, not its compressed form
            self._session = ClientSession(headers=plain, auto_decompress=False, trust_env=True, timeout=timeout)
        if (found := _RELEASE.fullmatch(path)) and (answer := await self._of_in_release(found[1], found[2])):
            return answer
        asked = {name: request.headers[name] for name in ("Range", "If-Modified-Since") if name in request.headers}
        stream: web.StreamResponse | None = None
        try:
            async with self._get(self._by_hash(path), asked, path) as got:
                if got.status >= 400:
                    self.tell(f"mirror: {got.status} {path}")
                headers = {name: got.headers[name] for name in _HEADERS if name in got.headers}
                stream = web.StreamResponse(status=got.status, headers=headers)
                await stream.prepare(request)
                async for chunk in got.content.iter_chunked(_CHUNK):
                    await stream.write(chunk)
        except LabError as error:
            self.tell(f"mirror: {error.what}")
            raise web.HTTPBadGateway(text="the mirror leads where nothing is fetched from\n") from None
        except (ClientError, TimeoutError) as error:
            self.tell(f"mirror: {path}: {type(error).__name__}")
            if stream is not None and stream.prepared:
                raise ConnectionResetError("the mirror broke off") from error
            raise web.HTTPBadGateway(text=f"the mirror does not answer: {type(error).__name__}\n") from None
        await stream.write_eof()
        return stream

    async def _of_in_release(self, folder: str, name: str) -> web.Response | None:
        """`Release` or `Release.gpg` as they stand in `InRelease`: Debian's installer asks for the two one by one, and
        many a cache has an older one of one of them (seen), while `InRelease` is one file. None where there is none."""
        from aiohttp import ClientError, web

        try:
            async with self._get(f"{folder}/InRelease", {}) as got:
                text = await got.content.read(_LARGEST) if got.status == 200 else b""
                while got.status == 200 and not got.content.at_eof() and len(text) < _LARGEST:
                    text += await got.content.read(_LARGEST - len(text))
        except (ClientError, TimeoutError, LabError):
            return None
        parts = split(text)
        if parts is not None and (folder in self._releases or len(self._releases) < _SUITES):
            self._releases[folder] = parts[0]
        return web.Response(body=parts[name == "Release.gpg"], content_type="text/plain") if parts else None

    def _by_hash(self, path: str) -> str:
        """Where the very file is that the suite's list names, for one that this names: a cache that keeps an old one
        under the name has no old one under the checksum (Debian wiki, DebianRepository/Format, Acquire-By-Hash)."""
        found = _INDEX.fullmatch(path)
        text = self._releases.get(found[1], b"") if found else b""
        if found is None or b"\nAcquire-By-Hash: yes\n" not in text:
            return path
        name = (found[2] + found[3]).encode()
        known = next((each[1] for each in _SUM.finditer(text) if each[2] == name), None)
        return f"{found[1]}/{found[2]}by-hash/SHA256/{known.decode()}" if known else path

    @contextlib.asynccontextmanager
    async def _get(self, path: str, headers: Mapping[str, str], other: str = "") -> AsyncIterator[ClientResponse]:
        """An answer of it, of where it leads to at last, or of `other` where there is nothing. LabError where that may
        not be."""
        from yarl import URL

        assert self._session is not None
        at = f"{self.url}/{path}"
        for _ in range(HOPS):
            async with self._session.get(URL(at, encoded=True), headers=headers, allow_redirects=False) as got:
                if got.status == 404 and other not in ("", path):
                    at, path = f"{self.url}/{other}", other
                    continue
                if got.status not in MOVED:
                    yield got
                    return
                at = led(at, urljoin(at, got.headers.get("Location", "")))
        raise LabError("it leads from one address to the next without end")

    async def close(self, _app: Any) -> None:
        if self._session is not None:
            await self._session.close()


def split(signed: bytes) -> tuple[bytes, bytes] | None:
    """What a clear-signed text says, and its signature by itself (RFC 4880, section 7: the last line end is not
    signed); None for what is none."""
    head, _, rest = signed.partition(b"\n\n")
    text, found, signature = rest.partition(b"\n" + _SIGNATURE)
    if not found or not head.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        return None
    lines = [line.removeprefix(b"- ") for line in text.split(b"\n")]
    return b"\n".join(lines), _SIGNATURE + signature
