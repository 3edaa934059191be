"""HTTP/1.1 (RFC 9112) that reads files, as much of it as firmware and boot loaders use. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from nestlab.base.frozen import frozen
from nestlab.network.tcp import ROOM

PORT = 80

HEAD_LIMIT = ROOM - 1024
"""Bytes of a request."""

_FIRST = re.compile(rb"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.([01])")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_REASONS = {
    200: "OK",
    206: "Partial Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
}

Read = Callable[[int, int], bytes]


@frozen
class Asked:
    """A request. `name`: of a file, without the leading slash; None: it cannot be one. `length`: bytes of it."""

    method: str
    name: str | None
    length: int
    keep: bool
    span: str = ""


def request_of(data: bytes) -> Asked | None:
    """The first request in what has come; None while it is not whole. One that is none has the method ""."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return Asked("", None, len(data), keep=False) if len(data) > HEAD_LIMIT else None
    first, *lines = data[:end].split(b"\r\n")
    found = _FIRST.fullmatch(first)
    if found is None:
        return Asked("", None, end + 4, keep=False)
    said: dict[str, str] = {}
    for line in lines:
        key, _, value = line.decode("latin-1").partition(":")
        said[key.strip().lower()] = value.strip()
    keep = found[3] == b"1" and said.get("connection", "").lower() != "close"
    if said.get("content-length", "0") != "0" or "transfer-encoding" in said:
        keep = False  # its body is not read
    return Asked(found[1].decode(), _name_of(found[2]), end + 4, keep, said.get("range", ""))


def _name_of(target: bytes) -> str | None:
    """The name in a path, or in a whole URL."""
    if target.startswith(b"http://"):
        target = b"/" + target[7:].partition(b"/")[2]
    path = target.partition(b"?")[0]
    try:
        return unquote_to_bytes(path).decode("utf-8").lstrip("/") if path.startswith(b"/") else None
    except UnicodeDecodeError:
        return None


@frozen
class Answer:
    """`start`, `size`: the bytes of the file that follow the head."""

    status: int
    head: bytes
    start: int = 0
    size: int = 0


def answer(asked: Asked, size: int | None) -> Answer:
    """The answer to a request for a file of `size` bytes; None: there is none of that name."""
    if not asked.method or asked.name is None:
        return _refusal(asked, 400)
    if asked.method not in ("GET", "HEAD"):
        return _refusal(asked, 405)
    if size is None:
        return _refusal(asked, 404)
    start, end, status = 0, size, 200
    extra = ""
    if (span := _RANGE.fullmatch(asked.span)) and (span[1] or span[2]):
        start = int(span[1]) if span[1] else max(0, size - int(span[2]))
        end = min(size, int(span[2]) + 1) if span[1] and span[2] else size
        if start >= end:
            return _refusal(asked, 416)
        status, extra = 206, f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
    head = _head(asked, status, end - start, f"Accept-Ranges: bytes\r\n{extra}")
    return Answer(status, head, start, end - start if asked.method == "GET" else 0)


def _refusal(asked: Asked, status: int) -> Answer:
    return Answer(status, _head(asked, status, 0, ""))


def _head(asked: Asked, status: int, length: int, extra: str) -> bytes:
    kind = "Content-Type: application/octet-stream\r\n" if length else ""
    closes = "" if asked.keep else "Connection: close\r\n"
    text = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: {length}\r\n{kind}{extra}{closes}\r\n"
    return text.encode("latin-1")
