"""The multipart body of an upload, as pve-http-server's own parser reads it.

The fields come first and in this order, each as a part whose Content-Disposition is its first header, then the file
under the name `filename`; the boundary is not quoted, the length is known (AnyEvent.pm, file_upload_multipart).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.wire.pve.api import Progress

CHUNK = 1 << 18

ENDINGS = {
    "iso": (".iso", ".img"),
    "import": (".ova", ".qcow2", ".raw", ".vmdk"),
    "vztmpl": (".tar.gz", ".tar.xz", ".tar.zst"),
}
"""What a file may be called (PVE::Storage); `images`, `backup` and `snippets` cannot be uploaded."""


@frozen
class Parts:
    """The parts of a request body: `head`, the first `size` bytes of `source`, `tail`."""

    source: Path
    size: int
    sha256: str
    boundary: str
    head: bytes
    tail: bytes

    @property
    def headers(self) -> dict[str, str]:
        length = len(self.head) + self.size + len(self.tail)
        return {"Content-Type": f"multipart/form-data; boundary={self.boundary}", "Content-Length": str(length)}


def parts(source: Path, content: str, name: str, boundary: str = "") -> Parts:
    """Make a file ready; it is read once for its checksum. LabError when it cannot be read or may not be called so."""
    _check(content, name)
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise _unreadable(source, error) from error
    boundary = boundary or f"nestlab-{secrets.token_hex(16)}"
    fields = {"content": content, "checksum-algorithm": "sha256", "checksum": digest}
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="filename"; filename="{name}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return Parts(source, size, digest, boundary, head.encode(), f"\r\n--{boundary}--\r\n".encode())


async def stream(sent: Parts, progress: Progress | None = None) -> AsyncIterator[bytes]:
    """The body, as it is read; LabError when the file is not what it was."""
    yield sent.head
    at = 0
    try:
        file = sent.source.open("rb")
    except OSError as error:
        raise _unreadable(sent.source, error) from error
    with file:
        while at < sent.size:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, sent.size - at))
            if not chunk:
                what = f"{sent.source} became shorter while it was sent: {at} of {sent.size} bytes."
                raise LabError(what, hint="Leave it alone until it is uploaded, then try again.")
            yield chunk
            at += len(chunk)
            if progress:
                progress(at, sent.size)
    yield sent.tail


def _check(content: str, name: str) -> None:
    endings = ENDINGS.get(content, ())
    if not endings:
        raise LabError(f"Proxmox VE takes no upload of {content!r}.", hint=f"It takes {', '.join(ENDINGS)}.")
    if not name.endswith(endings) or not set(name) <= _LETTERS or name.startswith("."):
        hint = f"Use letters, digits, `.`, `_` and `-`, and one of these endings: {', '.join(endings)}."
        raise LabError(f"{name!r} is no name for an upload of {content!r}.", hint=hint)


_LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _unreadable(source: Path, error: OSError) -> LabError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LabError(f"{source} cannot be read: {reason}.", hint="Check the file and its owner.")
