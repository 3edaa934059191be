"""A Proxmox VE that nestlab made, asked on its own node: pvedaemon at port 85 of its loopback, through the connection
to the node that is there.

pvedaemon is the part of PVE's API that works, and listens to the node alone, without TLS (pve-manager, pvedaemon.pm).
pveproxy, which everybody else goes through, is not needed; nor is a fingerprint, a password or a token, none of which
would outlive that the node joins a cluster. Root of the node has a ticket made there (pve-access-control,
AccessControl.pm: assemble_ticket), and is root@pam with all that tokens may not. What is asked of another node of its
cluster pvedaemon passes on, as pveproxy does (pve-manager, HTTPServer.pm: rest_handler).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

from nestlab.base import files
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.patience import allowed
from nestlab.wire.pve import copied
from nestlab.wire.pve.api import Progress
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.copied import Copies
from nestlab.wire.pve.https import ANSWER, BODY, Answer, read
from nestlab.wire.pve.login import Password
from nestlab.wire.pve.multipart import ENDINGS
from nestlab.wire.pve.retries import Lost, Patience, Unsent
from nestlab.wire.pve.trust import Trust
from nestlab.wire.result import tail

PORT = 85

ROOT = "root@pam"

HEAD = 64 << 10
"""Bytes of the longest head of an answer."""

TICKET = r"""
use strict; use warnings; use PVE::AccessControl;
print PVE::AccessControl::assemble_ticket('root@pam'), "\n";
print eval { PVE::AccessControl::assemble_csrf_prevention_token('root@pam') } || '-', "\n";
"""
"""Prints a ticket of root's, and what goes with it; pvedaemon does not ask for that, and its key is made later, before
pveproxy. They are on no command line."""

YOUNG = 3600.0
"""Seconds for which a ticket is kept; it is good for twice as long."""

MAKES = 120.0
"""Nominal seconds in which a node makes a ticket: Perl compiles half of PVE for it."""

SUBDIRS = {"iso": "template/iso", "vztmpl": "template/cache", "import": "import"}
"""Where a storage that is a directory keeps what (pve-storage, Plugin.pm: $vtype_subdirs)."""


class Node(Copies, Protocol):
    """The part of a host that is needed."""

    slowness: float

    async def tcp(self, port: int) -> tuple[Any, Any]: ...


class Daemon(Pve):
    """See `api.Api`. `host`: the node, where nestlab is root. `kept`: a file of the user's alone for its ticket, which
    takes the node seconds to make, and each command of nestlab's would want one."""

    def __init__(self, host: Node, *, patience: Patience | None = None, kept: Path | None = None) -> None:
        self._local = _Local(host)
        super().__init__(host.path, Password(ROOT, ""), Trust(), transport=self._local, patience=patience)
        self.host = host
        self._kept = kept
        self._first = True

    async def upload(
        self, node: str, storage: str, content: str, source: Path, name: str, progress: Progress | None = None
    ) -> None:
        """See `api.Api.upload`: here the file is copied to where the storage, a directory of this node, keeps such
        files. Only root may read it."""
        if content not in ENDINGS or not name.endswith(ENDINGS[content]) or "/" in name:
            raise LabError(f"{name!r} is no name for an upload of {content!r}.", hint=f"It takes {ENDINGS}.")
        place = f"{await self.folder(storage, content)}/{name}"
        await copied.put(self.host, source, place, f"{storage}:{content}/{name}", progress, mode=0o600)

    async def folder(self, storage: str, content: str) -> str:
        """Where a storage keeps files of such content, made if it is not there. LabError where it is no directory."""
        told = await self.get(f"/storage/{storage}")
        path = str(told.get("path") or "")
        if not path.startswith("/"):
            what = f"Storage {storage} of {self.where} is no directory: nothing can be copied to it."
            raise LabError(what, hint=f"See it: nestlab exec {self.host.path} -- pvesm status")
        place = f"{path}/{SUBDIRS[content]}"
        await self.host.run(["mkdir", "-p", "--", place])
        return place

    async def websocket(self, path: str, params: Any) -> NoReturn:
        """Consoles are commands on the node here (`engines.pve.consoles`)."""
        raise LabError(f"{self.where} opens no websocket at {path}.", hint="`nestlab console` shows its consoles.")

    async def _login(self) -> None:
        """The ticket that is kept, else one made on the node. Unsent while nobody is there to show it to."""
        first, self._first = self._first, False
        lines = self._remembered() if first else []
        if not lines:
            await self._local.knock()
            lines = await self._made()
            if self._kept is not None:
                files.replace(self._kept, "\n".join(lines).encode(), 0o600)
        self._badge.take({"ticket": lines[0], "CSRFPreventionToken": lines[1]}, self.where)

    def _remembered(self) -> list[str]:
        """A ticket that is kept and young; one that is refused all the same is made anew."""
        try:
            if self._kept is None or not 0 <= time.time() - self._kept.stat().st_mtime < YOUNG:
                return []
            lines = self._kept.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return []
        return lines if len(lines) == 2 and all(lines) else []

    async def _made(self) -> list[str]:
        made = await self.host.run(["perl", "-e", TICKET], check=False, timeout=MAKES)
        lines = made.text.split("\n")
        if made.status != 0 or len(lines) < 2:
            what = f"{self.where} makes no ticket for its root."
            hint = f"Does its cluster file system run? nestlab exec {self.where} -- systemctl status pve-cluster"
            raise Unreachable(what, hint=hint, detail=tail(made.stderr))
        return lines[:2]


class _Local:
    """Requests to pvedaemon, a connection for each (see `client.Transport`)."""

    def __init__(self, host: Node) -> None:
        self._host = host
        self._closed = False
        self.met = False

    @property
    def where(self) -> str:
        return self._host.path

    async def send(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None, wait: float = ANSWER
    ) -> Answer:
        """Unsent or Lost when there is no answer."""
        reader, writer = await self._opened()
        try:
            async with asyncio.timeout(allowed(wait, self._host.slowness)):
                writer.write(_request(method, path, headers, body))
                await writer.drain()
                answer = await _answer(reader)
        except (OSError, EOFError, TimeoutError, ValueError, LabError) as error:
            reason = str(error) or "no answer in time"
            done = "" if method == "GET" else " Whether it was done is not known."
            what = f"The connection to pvedaemon on {self.where} was lost before it answered: {reason}.{done}"
            raise Lost(what, hint="Try again: nestlab looks at what is there and goes on from that.") from error
        finally:
            with contextlib.suppress(OSError):
                writer.close()
        self.met = True
        return answer

    async def knock(self) -> None:
        """Unsent where pvedaemon takes no connection."""
        _, writer = await self._opened()
        with contextlib.suppress(OSError):
            writer.close()

    async def _opened(self) -> tuple[Any, Any]:
        if self._closed:
            raise Unsent(f"The connection to Proxmox VE on {self.where} is closed.")
        try:
            return await self._host.tcp(PORT)
        except Unreachable as error:
            what = f"pvedaemon on {self.where} takes no connection: {error.what}"
            hint = f"See whether it runs: nestlab exec {self.where} -- systemctl status pvedaemon"
            raise Unsent(what, hint=hint) from error

    async def close(self) -> None:
        self._closed = True


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    told = {"Host": "localhost:85", "Connection": "close", "Accept": "application/json", **headers}
    if body is not None:
        told["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


async def _answer(reader: Any) -> Answer:
    """An answer, whole. ValueError or EOFError for what is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await reader.read(HEAD)
        if not piece:
            raise EOFError("it was closed")
        data += piece
        if b"\r\n\r\n" not in data and len(data) > HEAD:
            raise ValueError("its head is too long")
    head, _, begun = data.partition(b"\r\n\r\n")
    rest = bytearray(begun)  # it may come in ever so small pieces
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, told = first.partition(" ")
    code, _, reason = told.partition(" ")
    if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isascii() and code.isdigit()):
        raise ValueError("it does not speak HTTP")
    length = _length(lines)
    while length is None or len(rest) < length:
        piece = await reader.read(HEAD)
        if not piece:
            break
        rest += piece
        if len(rest) > BODY:
            raise ValueError("its answer is too long")
    if length is not None and len(rest) < length:
        raise EOFError("its answer is not whole")
    return read(int(code), reason, bytes(rest[:length]))


def _length(lines: list[str]) -> int | None:
    """The length of the body that a head tells; None: to its end."""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            value = value.strip()
            if not (value.isascii() and value.isdigit() and len(value) < 12) or int(value) > BODY:
                raise ValueError("its answer is too long")
            return int(value)
        if name.strip().lower() == "transfer-encoding":
            raise ValueError("its answer comes in chunks")
    return None
