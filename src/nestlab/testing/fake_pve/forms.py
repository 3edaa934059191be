"""Request bodies as PVE's own web server reads them, with its oddities (pve-http-server, AnyEvent.pm)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from nestlab.testing.fake_pve.refusals import Refusal, died

LIMIT = 512 * 1024
"""Bytes of a request body; an upload may be larger."""
LINE = "at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line"


@dataclass
class Upload:
    """The file of a multipart upload."""

    filename: str
    data: bytes


def form(text: str) -> dict[str, Any]:
    """Fields of a form or query: split on `&` and on `;`, `+` is a space, a repeated name makes a list."""
    found: dict[str, Any] = {}
    for part in re.split("[&;]", text):
        if not part:
            continue
        name, _, value = part.partition("=")
        key, one = (unquote(piece.replace("+", " ")) for piece in (name, value))
        if key in found:
            found[key] = [*found[key], one] if isinstance(found[key], list) else [found[key], one]
        else:
            found[key] = one
    return found


def body(content_type: str, data: bytes) -> dict[str, Any]:
    """The parameters in a body: a form or JSON, nothing else."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return parsed_json(data)
    if kind and kind != "application/x-www-form-urlencoded":
        raise Refusal(506, f"upload 'Content-Type '{content_type}' not implemented")
    return form(data.decode("utf-8", "replace"))


def parsed_json(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        found = json.loads(data)
    except ValueError:
        text = "malformed JSON string, neither tag, array, object, number, string or atom, at character offset"
        raise died(f'{text} {len(data)} (before "(end of string)") {LINE} 934.') from None
    if not isinstance(found, dict):
        raise died(f"Not a HASH reference {LINE} 978.")
    return found


def multipart(content_type: str, data: bytes) -> tuple[dict[str, str], Upload | None]:
    """The fields and the file of an upload. The file's part ends the reading: fields after it are not seen."""
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    if not match:
        raise died("unable to find boundary")
    fields: dict[str, str] = {}
    for part in data.split(b"--" + match[1].encode())[1:]:
        head, found, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
        if not found:
            break
        content = content.removesuffix(b"\r\n")
        disposition = head.decode("utf-8", "replace").split("\r\n")[0]
        name = re.search(r'; *name="?([^";]*)"?', disposition)
        filename = re.search(r'; *filename="([^"]*)"', disposition)
        if not disposition.lower().startswith("content-disposition:") or not name:
            raise Refusal(400, "Bad Request")
        if filename:
            if name[1] != "filename":
                raise died(f"wrong field name '{name[1]}' for file upload, expected 'filename' {LINE} 1325.")
            return fields, Upload(filename[1], content)
        if name[1] not in ("content", "checksum", "checksum-algorithm"):
            raise Refusal(400, "Bad Request")
        fields[name[1]] = content.decode("utf-8", "replace").strip()
    return fields, None


def cleaned(filename: str) -> str:
    """A file name as PVE stores it: no folders, and `_` for anything unusual."""
    return re.sub(r"[^a-zA-Z0-9_.\-]", "_", re.split(r"[/\\]", filename)[-1])
