"""Applying the SDN of a Proxmox VE, and what its nodes say of it.

PVE's task asks one node after the other to reload its network, and ends OK whatever they answer: what failed stands in
its log only, and in the task of the node itself (pve-network, API2/Network/SDN.pm; pve-manager, API2/Network.pm).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nestlab.base.errors import LabError
from nestlab.wire.pve import encode
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Denied, NodeUnreachable

SDN = "/cluster/sdn"

MOST = 500
"""Lines of a log that are read."""

SHOWN = 3
"""Lines of it that a reason has."""

_HEAD = re.compile(r"^([\w-]+): reloading network config$")
_FAILED = re.compile(r"\bfail(?:ed|ure)?\b|\berror\b|incompatible|unable to|cannot|No route to host", re.IGNORECASE)
_LAST = re.compile(r"^(?:TASK |command 'pvesh set |proxy handler failed)")

_AT_WORK = (None, "", "RUNNING")


async def finished(api: Api, upid: str) -> Mapping[str, str]:
    """What went wrong in a task that applies the SDN, by node, once it has ended."""
    await api.task(upid)
    return complaints(await _log(api, upid))


def complaints(log: Sequence[str]) -> dict[str, str]:
    """By node, why its network was not reloaded, as a log of the task tells it. Pure."""
    found: dict[str, list[str]] = {}
    node = ""
    for line in log:
        if head := _HEAD.match(line):
            node = head[1]
        elif node and (_FAILED.search(line) or _LAST.match(line)) and not line.startswith("TASK "):
            found.setdefault(node, []).append(line.strip())
    return {node: _reason(lines) for node, lines in found.items()}


async def last_failure(api: Api, node: str) -> str:
    """Why the last reload of a node's network failed; "" when it did not, or that is not for us to know."""
    try:
        rows = await api.get(f"/nodes/{node}/tasks", {"typefilter": "srvreload", "source": "all", "limit": 20})
        ended = [row for row in rows or [] if row.get("id") == "networking" and row.get("status") not in _AT_WORK]
        last = max(ended, key=lambda row: int(row.get("starttime") or 0), default=None)
        if last is None or str(last["status"]) == "OK" or str(last["status"]).startswith("WARNINGS"):
            return ""
        lines = await _log(api, str(last["upid"]))
    except (Denied, NodeUnreachable):
        return ""
    told = [line.strip() for line in lines if _FAILED.search(line) and not line.startswith("TASK ")]
    return _reason([*told, str(last["status"])])


async def _log(api: Api, upid: str) -> list[str]:
    path = encode.upid(upid).path
    try:
        rows = await api.get(f"{path}/log", {"start": 0, "limit": MOST})
    except LabError:
        return []
    return [str(row.get("t", "")) for row in rows or []]


def _reason(lines: Sequence[str]) -> str:
    """The lines that tell most, each once: what only repeats that something failed comes last."""
    ordered = sorted(dict.fromkeys(lines), key=lambda line: bool(_LAST.match(line)))
    return "; ".join(ordered[:SHOWN])
