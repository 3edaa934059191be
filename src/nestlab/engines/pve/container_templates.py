"""Container templates on a Proxmox VE: the user's files, or downloads, each uploaded once per storage by its key."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.engines.pve.uploads import File
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api

_NAME = re.compile(r"nestlab-(file-[0-9a-z]+)\.tar\.\w+")


class OsTemplates:
    """PVE itself compares the sum of what is uploaded."""

    def __init__(self, api: Api, pve: Pve) -> None:
        self._api = api
        self._pve = pve
        self._making: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, key: str, source: Path, title: str, node: str, say: Say) -> str:
        """The volume of a template on a node, uploaded if it is not there. `key` ends as templates do, `.tar.zst`."""
        name = f"nestlab-{key}"
        async with self._making[node]:
            storage = await self._storage(node)
            volid = f"{storage}:vztmpl/{name}"
            rows = await self._api.get(f"/nodes/{node}/storage/{storage}/content", {"content": "vztmpl"})
            if not any(row["volid"] == volid for row in rows or []):
                say(f"uploading {title} to {storage} of {node}")
                await self._api.upload(node, storage, "vztmpl", source, name)
            return volid

    async def all(self, nodes: Iterable[str]) -> list[File]:
        """What nestlab has uploaded as container templates, on these nodes; what a shared storage has, once."""
        found: dict[tuple[str, str], File] = {}
        for node in nodes:
            for row in await self._storages(node):
                storage, shared = str(row["storage"]), bool(row.get("shared"))
                held = await self._api.get(f"/nodes/{node}/storage/{storage}/content", {"content": "vztmpl"})
                for each in held or []:
                    if name := _NAME.fullmatch(str(each["volid"]).rpartition("/")[2]):
                        size, since = int(each.get("size") or 0), int(each.get("ctime") or 0)
                        where = "" if shared else node
                        file = File(str(each["volid"]), where, name[1], "", "container", size, since, whole=True)
                        found[file.volid, where] = file
        return list(found.values())

    async def _storage(self, node: str) -> str:
        found = sorted((str(row["storage"]) for row in await self._storages(node)), key=self._order)
        if not found:
            what = f"No storage of node {node} that can be seen takes container templates (content vztmpl)."
            rows = await self._api.get(f"/nodes/{node}/storage", {"enabled": True})
            has = next((str(row.get("content") or "") for row in rows or [] if row["storage"] == "local"), "")
            kept = ",".join(dict.fromkeys([*filter(None, has.split(",")), "vztmpl"]))
            hint = f"As root on a node: pvesm set local --content {kept}" if has else "See Datacenter > Storage."
            raise LabError(what, hint=hint)
        return found[0]

    async def _storages(self, node: str) -> list[Mapping[str, Any]]:
        """Those of a node that take container templates and can be used now."""
        rows = await self._api.get(f"/nodes/{node}/storage", {"content": "vztmpl", "enabled": True})
        return [row for row in rows or [] if row.get("active")]

    def _order(self, storage: str) -> tuple[bool, bool, str]:
        return storage != self._pve.images, storage != "local", storage
