"""Encodes requests to a Proxmox VE. Pure.

Its form parser splits on `;` as on `&` and takes `+` for a space (pve-http-server, AnyEvent.pm, decode_urlencoded), so
both are percent-encoded; bodies are JSON, which has neither trouble. DELETE with a body is refused, JSON's null too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.wire.pve.api import Params, Value

BODY_LIMIT = 512 << 10
"""Bytes of a body ($limit_max_post in AnyEvent.pm); an upload may be longer."""

_UPID = re.compile(
    r"UPID:([A-Za-z0-9][A-Za-z0-9-]*):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,}:[0-9A-Fa-f]{8}:([^:\s]+):([^:\s]*):[^:\s]+:"
)
_SCALAR = (str, int, float)


def plain(value: Value) -> str | list[str] | None:
    """A value as PVE reads it: booleans are 1 and 0 (it refuses `True`), None is not sent."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, _SCALAR):
        return str(value)
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} cannot be a parameter")
    return [str(plain(each)) for each in value]


def pairs(params: Params | None) -> Iterator[tuple[str, str]]:
    """Each name with each of its values; an array repeats its name."""
    for name, value in (params or {}).items():
        text = plain(value)
        if text is not None:
            yield from ((name, each) for each in ([text] if isinstance(text, str) else text))


def query(params: Params | None) -> str:
    """Parameters for a query string or a form."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs(params))


def body(params: Params | None) -> bytes:
    """Parameters as a JSON body. LabError when PVE would not read so much."""
    texts = {name: plain(value) for name, value in (params or {}).items()}
    data = json.dumps({name: text for name, text in texts.items() if text is not None}).encode()
    if len(data) > BODY_LIMIT:
        what = f"A request of {len(data)} bytes is too long: Proxmox VE reads {BODY_LIMIT}."
        raise LabError(what, hint="Put less into one parameter; files are uploaded.")
    return data


def address(path: str) -> str:
    """A path of the API, quoted: a UPID's `:`, `@` and `!` too; a `/` within a volume's name needs not be."""
    return "/api2/json" + quote(path, safe="/")


@frozen
class Upid:
    """The name of a task, `UPID:node:pid:pstart:starttime:type:id:user:`."""

    text: str
    node: str
    kind: str
    id: str

    @property
    def path(self) -> str:
        """Where its node tells of it; other nodes say "no such task"."""
        return f"/nodes/{self.node}/tasks/{self.text}"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}".strip()


def upid(text: str) -> Upid:
    """LabError if it is none."""
    found = _UPID.fullmatch(text)
    if not found:
        raise LabError(f"{text!r} is not the name of a task (UPID).", hint="See the tasks: pvesh get /cluster/tasks")
    return Upid(text, *found.groups())


def node_of(path: str) -> str:
    """The node that a request concerns; "" for the cluster."""
    parts = path.split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "nodes" else ""
