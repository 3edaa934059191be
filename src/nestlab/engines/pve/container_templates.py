"""Container templates on a Proxmox VE: a file of the user's, uploaded once per storage under its digest."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.lab.model import TEMPLATE_ENDINGS, Image, Pve
from nestlab.wire.pve.api import Api


class OsTemplates:
    """PVE itself compares the sum of what is uploaded."""

    def __init__(self, api: Api, pve: Pve) -> None:
        self._api = api
        self._pve = pve
        self._making: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, key: str, image: Image, node: str, say: Say) -> str:
        """The volume of the template on a node, uploaded if it is not there."""
        source = Path(image.file or "")
        ending = next(each for each in TEMPLATE_ENDINGS if source.name.endswith(each))
        name = f"nestlab-{key}{ending}"
        async with self._making[node]:
            storage = await self._storage(node)
            volid = f"{storage}:vztmpl/{name}"
            rows = await self._api.get(f"/nodes/{node}/storage/{storage}/content", {"content": "vztmpl"})
            if not any(row["volid"] == volid for row in rows or []):
                say(f"uploading {source.name} to {storage} of {node}")
                await self._api.upload(node, storage, "vztmpl", source, name)
            return volid

    async def _storage(self, node: str) -> str:
        rows = await self._api.get(f"/nodes/{node}/storage", {"content": "vztmpl", "enabled": True})
        found = sorted((str(row["storage"]) for row in rows or [] if row.get("active")), key=self._order)
        if not found:
            what = f"No storage of node {node} that can be seen takes container templates (content vztmpl)."
            raise LabError(what, hint="As root on a node: pvesm set local --content …,vztmpl")
        return found[0]

    def _order(self, storage: str) -> tuple[bool, bool, str]:
        return storage != self._pve.images, storage != "local", storage
