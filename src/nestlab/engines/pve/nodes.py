"""Nodes of a Proxmox VE: their free memory, and what their CPUs can do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nestlab.engines.pve import resources
from nestlab.engines.pve.cpu_types import Processor
from nestlab.engines.pve.placement import Room
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Denied, NodeUnreachable, PveError


async def rooms(api: Api, pve: Pve, rows: Sequence[dict[str, Any]] | None = None) -> list[Room]:
    """The nodes that may be used, and those that `nodes` does not allow without their CPUs. Two requests a node, and
    one for all; `rows`: of /cluster/resources, where they are known already."""
    if rows is None:
        rows = await api.get("/cluster/resources")
    found = resources.rooms(rows)
    return list(await asyncio.gather(*(_with_processor(api, room, pve) for room in found)))


async def _with_processor(api: Api, room: Room, pve: Pve) -> Room:
    if not room.online:
        return replace(room, processor=Processor(room.node, why="it does not answer"))
    if pve.nodes and room.node not in pve.nodes:
        return replace(room, processor=Processor(room.node, why="the lab does not use it"))
    status, flags = await asyncio.gather(
        _told(api, f"/nodes/{room.node}/status"), _told(api, f"/nodes/{room.node}/capabilities/qemu/cpu-flags")
    )
    processor = resources.processor(room.node, status, flags)
    memory = (status or {}).get("memory") or {}
    if not room.memory and memory:  # without Sys.Audit on it a list tells no figures
        room = replace(room, memory=int(memory["total"]), free=int(memory.get("available", memory.get("free", 0))))
    return replace(room, processor=processor)


async def _told(api: Api, path: str) -> Any:
    """None where this is not for us to know, or this version does not tell, or the node has just gone."""
    try:
        return await api.get(path)
    except (Denied, NodeUnreachable):
        return None
    except PveError as error:
        if error.status == 501:
            return None
        raise
