"""Recorded answers of a real Proxmox VE, asked again of the fake: how to send, and what counts as the same."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from nestlab.testing.fake_pve import FakePve
from waiting import LONG

FOLDER = Path(os.environ.get("NESTLAB_PVE_RECORDINGS") or "recordings-nowhere")
"""Recordings of a Proxmox VE, which are not part of the repository."""
QCOW2 = b"QFI\xfb" + bytes(20) + (64 << 20).to_bytes(8, "big")


@dataclass(frozen=True)
class Recorded:
    """One request and what PVE answered."""

    file: str
    name: str
    method: str
    path: str
    auth: str
    kind: str
    params: Mapping[str, Any]
    raw: str | None
    headers: Mapping[str, str]
    status: int
    reason: str
    body: Any
    exit_status: str | None

    @property
    def key(self) -> str:
        return f"{self.file} {self.name}"


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    body: Any
    exit_status: str | None = None


def recorded(file: str) -> Iterator[Recorded]:
    """The requests of one recording, `05` for 05-vm-create, in order."""
    path = next((FOLDER / "http").glob(f"{file}-*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ask, got, task = row["request"], row["response"], row.get("task") or {}
        final = task.get("status")
        yield Recorded(
            file, row["name"], ask["method"], ask["path"].removeprefix("http://HOST:8006"), ask.get("auth") or "none",
            ask.get("content_type") or "", ask.get("params") or {}, ask.get("raw_body"), ask.get("extra_headers") or {},
            got["status"], got["reason_or_message"], got["body"],
            final.get("exitstatus") if isinstance(final, dict) else None,
        )  # fmt: skip


def encoded(params: Mapping[str, Any]) -> str:
    pairs = [(key, one) for key, value in params.items() for one in (value if isinstance(value, list) else [value])]
    return "&".join(f"{quote(key, safe='')}={quote(str(value), safe='')}" for key, value in pairs)


def multipart(params: Mapping[str, Any], boundary: str = "b0undary") -> bytes:
    """The upload that the recording describes, with content of the kind that its name tells."""
    fields, files = [], []
    for key, value in params.items():
        match = re.fullmatch(r"<file(?: (.*), (\d+) bytes)?>", str(value))
        if match:
            name, size = match[1] or "req.iso", int(match[2] or 100)
            good = name.endswith(".qcow2") and "bad" not in name
            data = (QCOW2 if good else b"").ljust(size, b"x")[: max(size, 0)]
            head = f'Content-Disposition: form-data; name="{key}"; filename="{name}"\r\nContent-Type: a/b'
            files.append(head.encode() + b"\r\n\r\n" + data)
        elif key != "part_order":
            fields.append(f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode())
    parts = files + fields if params.get("part_order") == "file-first" else fields + files
    start = b"--" + boundary.encode()
    return b"".join(start + b"\r\n" + part + b"\r\n" for part in parts) + start + b"--\r\n"


def upload(one: Recorded) -> bool:
    return one.path.endswith("/upload") and "json" not in one.kind and "urlencoded" not in one.kind


def sent(one: Recorded, headers: dict[str, str]) -> tuple[str, bytes | None]:
    """The request line's path, and the body; headers are added to."""
    path, body = one.path, None
    if one.raw is not None:
        body = one.raw.encode()
    elif one.method in ("GET", "DELETE"):
        path += f"?{encoded(one.params)}" if one.params else ""
    elif upload(one):
        headers["Content-Type"] = "multipart/form-data; boundary=b0undary"
        return path, multipart(one.params)
    elif "json" in one.kind:
        body = json.dumps(one.params).encode()
    elif one.params:
        body = encoded(one.params).encode()
        if one.name == "http-body-too-large":
            body = b"poolid=a&comment=" + b"x" * 600 * 1024
    if body is not None and one.kind:
        headers["Content-Type"] = one.kind
    return path, body


LINES: dict[str, http.client.HTTPSConnection] = {}


def kept(pve: FakePve) -> http.client.HTTPSConnection:
    """The connection to this fake; http.client opens it again when it was closed."""
    if pve.url not in LINES:
        context = ssl._create_unverified_context()
        LINES[pve.url] = http.client.HTTPSConnection("127.0.0.1", pve.port, timeout=LONG, context=context)
    return LINES[pve.url]


def ask(pve: FakePve, one: Recorded, headers: Mapping[str, str]) -> Answer:
    """Send it to the fake; status 0 when the connection ended without an answer."""
    sending = {**headers, **one.headers}
    path, body = sent(one, sending)
    plain = one.name == "plain-http"
    line = http.client.HTTPConnection("127.0.0.1", pve.port, timeout=LONG) if plain else kept(pve)
    try:
        line.request(one.method, quote(path, safe="/%:?&=@!+,;~'()*-._"), body, sending)
        response = line.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (http.client.HTTPException, ConnectionError, ssl.SSLError):
        line.close()
        return Answer(0, "", None)
    if plain:
        line.close()
    try:
        content = json.loads(text)
    except ValueError:
        content = text
    data = content.get("data") if isinstance(content, dict) else None
    upid = data if isinstance(data, str) and data.startswith("UPID:") else ""
    return Answer(response.status, response.reason, content, pve.wait(upid) if upid else None)


PLAIN = (
    (r"UPID:(\w+):[0-9A-F]+:[0-9A-F]+:[0-9A-F]+:", r"UPID:\1:…:"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{40}\b|\b[0-9a-f]{32}\b", "HASH"),
    (r"offset \d+", "offset N"),
)


def plain(text: str | None) -> str:
    """A message without what is different every time."""
    for pattern, instead in PLAIN:
        text = re.sub(pattern, instead, text or "")
    return (text or "").strip()


@dataclass(frozen=True)
class Rows:
    """The rows of a list: keys that all have, and the kinds seen of each key."""

    common: frozenset[str]
    kinds: Mapping[str, list[Any]]


def shape(value: Any) -> Any:
    """Keys and types; of a list's rows the keys that all have, and those that any has."""
    if isinstance(value, bool | int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if value is None:
        return "null"
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    rows = [shape(item) for item in value]
    if not rows:
        return []
    if not all(isinstance(row, dict) for row in rows):
        return [rows[0]]
    union: dict[str, list[Any]] = {}
    for row in rows:
        for key, kind in row.items():
            union.setdefault(key, []).append(kind)
    return [Rows(frozenset.intersection(*(frozenset(row) for row in rows)), union)]


def alike(wanted: Any, got: Any) -> bool:
    """Whether two shapes are the same. How many rows a list has says nothing, which keys its rows have does."""
    if isinstance(wanted, list) and isinstance(got, list):
        return not wanted or not got or alike(wanted[0], got[0])
    if isinstance(wanted, Rows) and isinstance(got, Rows):
        both = wanted.kinds.keys() & got.kinds.keys()
        kinds = all(any(alike(a, b) for a in wanted.kinds[key] for b in got.kinds[key]) for key in both)
        return kinds and wanted.common <= got.kinds.keys() and got.common <= wanted.kinds.keys()
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(alike(wanted[key], got[key]) for key in wanted)
    return bool(wanted == got)


def bodies(one: Recorded, got: Answer) -> str:
    """What is different between the bodies, or nothing."""
    want, have = one.body, got.body
    if isinstance(want, str) and isinstance(have, dict):
        try:
            want = json.loads(want)
        except ValueError:
            return "" if not want else "body is no JSON there"
    if not isinstance(want, dict) or not isinstance(have, dict):
        return "" if type(want) is type(have) or "html" in one.path else f"body {type(want)} {type(have)}"
    if (want.get("errors") or {}) != (have.get("errors") or {}):
        return f"errors {want.get('errors')} != {have.get('errors')}"
    if plain(want.get("message")) != plain(have.get("message")):
        return f"message {want.get('message')!r} != {have.get('message')!r}"
    for key in ("data",):
        left, right = want.get(key), have.get(key)
        if isinstance(left, str) and left.startswith("UPID:"):
            ours, theirs = plain(str(right)).split(":"), plain(left).split(":")
            if ours != theirs:
                return f"upid {theirs} != {ours}"
        elif not alike(shape(left), shape(right)):
            return f"shape {difference(shape(left), shape(right))}"
    return ""


def difference(left: Any, right: Any) -> str:
    if isinstance(left, list) and isinstance(right, list) and left and right:
        return difference(left[0], right[0])
    if isinstance(left, Rows) and isinstance(right, Rows):
        both = left.kinds.keys() & right.kinds.keys()
        bad = [key for key in both if not any(alike(a, b) for a in left.kinds[key] for b in right.kinds[key])]
        return f"there {sorted(left.common - right.kinds.keys())} here {sorted(right.common - left.kinds.keys())} {bad}"
    if isinstance(left, dict) and isinstance(right, dict):
        keys = left.keys() ^ right.keys()
        others = {
            key: (left[key], right[key]) for key in left.keys() & right.keys() if not alike(left[key], right[key])
        }
        return f"there {sorted(keys & left.keys())} here {sorted(keys & right.keys())} other {others}"[:600]
    return f"{left!r} != {right!r}"[:300]


def compared(one: Recorded, got: Answer) -> str:
    """The first difference between what PVE answered and what the fake did; empty when they agree."""
    if one.status != got.status:
        return f"status {one.status} {one.reason!r} != {got.status} {got.reason!r} {got.body!r}"[:400]
    if one.status and plain(one.reason) != plain(got.reason):
        return f"reason {one.reason!r} != {got.reason!r}"
    if one.status and (text := bodies(one, got)):
        return text
    if one.exit_status is not None and plain(one.exit_status) != plain(got.exit_status):
        return f"task {one.exit_status!r} != {got.exit_status!r}"
    return ""


def guest_path(path: str) -> tuple[str, str, int] | None:
    """Node, kind and number of the guest in a path."""
    match = re.match(r"/api2/json/nodes/(\w+)/(qemu|lxc)/(\d+)(/|$)", unquote(path))
    return (match[1], match[2], int(match[3])) if match else None
