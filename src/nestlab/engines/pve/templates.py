"""Templates on a Proxmox VE, of which machines are clones: one per image, storage and, if local, node.

A template is known by its tags and by the last line of its description, `nestlab: {"template": KEY, ...}`; PVE is asked
each time. The line names the VMID, since a clone has the description of what it was made from until it gets its own. It
may be used once it says `"ready": 1`: before, its disks may still be copied. It gets its tags only then: while a VM is
made, PVE wants VM.Config.Options for them on the VM itself and not on its pool (qemu-server 9.2, Qemu.pm: create_vm).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.engines.pve import guest_requests, tags
from nestlab.engines.pve.vmids import Vmids
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api, Params
from nestlab.wire.pve.errors import Missing, PveError
from nestlab.wire.shapes import LARGEST

TAGS = f"{tags.TAG};{tags.TEMPLATE_TAG}"

PREFIX = "nestlab-"
"""How the names of templates begin."""

PATIENCE = 1800.0
"""Nominal seconds that a task of an interrupted nestlab may still hold a template that is not ready."""

STALE = 24 * 3600
"""Seconds after which one that is not ready is one that nobody goes on with."""

_LINE = re.compile(r"^nestlab: (\{.*\})\s*$", re.MULTILINE)
_COPIED = re.compile(r"\((\d{1,3})(?:\.\d+)?%\)")
_IN_USE = re.compile(r"still in use by linked clone")


@frozen
class Template:
    """One that PVE has. `site`: whose work it is; `since`: seconds since the epoch."""

    vmid: int
    node: str
    key: str
    storage: str
    site: str
    ready: bool
    since: int

    @property
    def stale(self) -> bool:
        return not self.ready and time.time() - self.since > STALE


def mark_of(description: str) -> dict[str, Any]:
    """nestlab's line in a description; {} without one."""
    lines = _LINE.findall(description)
    try:
        found = parsed(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if _SOUND.get(name, _no)(value)} if _is_mark(found) else {}


def _is_mark(found: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(found, dict)


def _no(_: object) -> bool:
    return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= LARGEST


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_SOUND: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("template", "storage", "site", "image"), _is_text),
    **dict.fromkeys(("vmid", "since", "ready"), _is_number),
    **dict.fromkeys(("cargo", "media"), _are_texts),
}
"""What is read of a line, and which values are taken: anybody can write into a description."""


def name_of(key: str, title: str) -> str:
    """The name of an image's template: `nestlab-kvm-6fb7423d9fae`."""
    return f"{PREFIX}{title}-{key.removeprefix('file-')[:12]}"


class Templates:
    """`site` as in `uploads.Uploads`."""

    def __init__(self, api: Api, pve: Pve, site: str) -> None:
        self._api = api
        self._pve = pve
        self._site = site
        self._numbers = Vmids(api)

    async def all(self) -> list[Template]:
        """Every template of the pool."""
        rows = [row for row in await self._api.get("/cluster/resources", {"type": "vm"}) if self._may_be(row)]
        found = await asyncio.gather(*(self._read(row) for row in rows))
        return [each for each in found if each is not None]

    async def of(self, key: str, node: str, storage: str, *, shared: bool) -> list[Template]:
        """Those of an image that a machine on this node and storage can be cloned from."""
        return [
            each
            for each in await self.all()
            if (each.key, each.storage) == (key, storage) and (shared or each.node == node)
        ]

    async def make(
        self, key: str, title: str, node: str, storage: str, drives: Params, say: Say, *, shared: bool
    ) -> int:
        """A new one with these drives, ready; that of another nestlab if it was ready sooner."""
        await self.tidy(await self.of(key, node, storage, shared=shared), say)
        vmid = await self._create(key, title, node, storage, drives, say)
        path = f"/nodes/{node}/qemu/{vmid}"
        upid = await self._api.create(f"{path}/template")
        if upid:
            await self._api.task(str(upid))
        told = self._description(key, storage, vmid, ready=True)
        await self._api.set(f"{path}/config", {"description": told, "tags": TAGS})
        found = [each for each in await self.of(key, node, storage, shared=shared) if each.ready]
        first = min(found, key=lambda each: each.vmid, default=None)
        if first is None or first.vmid == vmid:
            return vmid
        own = next((each for each in found if each.vmid == vmid), None)
        if own is not None:
            with contextlib.suppress(LabError):  # somebody has already cloned it: then both stay
                await self.remove(own)
        return first.vmid

    async def tidy(self, found: Sequence[Template], say: Say) -> None:
        """Remove those that an interrupted nestlab of this site left. Nobody else of this site may be making one."""
        for mine in found:
            if mine.site == self._site and not mine.ready:
                say(f"removing the unfinished template {mine.vmid}")
                await self._unlocked(mine)
                await self.remove(mine)

    async def remove(self, template: Template) -> None:
        """Remove it with its disks, if it still is what it was; absence is fine. LabError while clones depend on it."""
        path = f"/nodes/{template.node}/qemu/{template.vmid}"
        try:
            config = await guest_requests.ask(self._api, path, "config")
            mark = mark_of(str(config.get("description", "")))
            if (mark.get("template"), mark.get("vmid")) != (template.key, template.vmid):
                return
            upid = await self._api.delete(path, {"purge": True, "destroy-unreferenced-disks": True})
            await self._api.task(str(upid))
        except Missing:
            return
        except PveError as error:
            if not _IN_USE.search(error.message):
                raise
            what = f"Template {template.vmid} on {template.node} cannot be removed: machines are linked clones of it."
            raise LabError(what, hint="Take the labs that use its image down first (`nestlab ls`).") from error

    def _may_be(self, row: Mapping[str, Any]) -> bool:
        """Whether its description is worth reading. Tags are of now; a name is that of pvestatd's last round, up to ten
        seconds ago, and of a new VM there is none (pve-manager, API2Tools.pm: extract_vm_stats)."""
        if row.get("type") != "qemu" or row.get("pool") != self._pve.pool:
            return False
        has, name = tags.split(str(row.get("tags") or "")), str(row.get("name") or "")
        return tags.TEMPLATE_TAG in has or (not has and (not name or name.startswith(PREFIX)))

    async def _read(self, row: Mapping[str, Any]) -> Template | None:
        """None for what has no mark of ours, or vanishes meanwhile."""
        vmid, node = int(row["vmid"]), str(row["node"])
        try:
            config = await guest_requests.ask(self._api, f"/nodes/{node}/qemu/{vmid}", "config")
        except Missing:
            return None
        mark = mark_of(str(config.get("description", "")))
        if not isinstance(mark.get("template"), str) or mark.get("vmid") != vmid:
            return None
        ready = bool(mark.get("ready")) and bool(config.get("template"))
        site, storage = str(mark.get("site", "")), str(mark.get("storage", ""))
        return Template(vmid, node, mark["template"], storage, site, ready, int(mark.get("since", 0)))

    def _description(self, key: str, storage: str, vmid: int, *, ready: bool) -> str:
        mark = {"template": key, "vmid": vmid, "storage": storage, "site": self._site, "since": int(time.time())}
        text = json.dumps(mark | ({"ready": 1} if ready else {}), separators=(",", ":"))
        return f"An image of nestlab's; `nestlab images gc` removes it when no lab uses it.\n\nnestlab: {text}"

    async def _create(self, key: str, title: str, node: str, storage: str, drives: Params, say: Say) -> int:
        params: dict[str, Any] = {
            "name": name_of(key, title),
            "pool": self._pve.pool,
            "ostype": "l26",
            "memory": 512,
            "scsihw": "virtio-scsi-single",
            "agent": "1",
            "serial0": "socket",
            **drives,
        }

        async def create(vmid: int) -> None:
            told: dict[str, Any] = {"vmid": vmid, "description": self._description(key, storage, vmid, ready=False)}
            upid = await self._api.create(f"/nodes/{node}/qemu", {**params, **told})
            say("importing its disks")
            await self._api.task(str(upid), _progress(say))

        return await self._numbers.use(create)

    async def _unlocked(self, template: Template) -> None:
        """Wait until no task works on it any more."""
        deadline = time.monotonic() + patience.allowed(PATIENCE)
        while time.monotonic() < deadline:
            try:
                config = await guest_requests.ask(self._api, f"/nodes/{template.node}/qemu/{template.vmid}", "config")
            except Missing:
                return
            if not config.get("lock"):
                return
            await asyncio.sleep(2)


def drives_of(serials: Sequence[tuple[str, str]], storage: str, boots: int | None) -> dict[str, str]:
    """Parameters for disks imported from (serial, volume id), virtio0 first, the one that boots named."""
    drives = {
        f"virtio{number}": f"{storage}:0,import-from={volid},serial={serial}"
        for number, (serial, volid) in enumerate(serials)
    }
    return drives | ({"boot": f"order=virtio{boots}"} if boots is not None else {})


def _progress(say: Say) -> Say:
    """Tells every tenth part of what a task copies, of which PVE writes a line for each hundredth."""
    told = 0

    def hear(line: str) -> None:
        nonlocal told
        match = _COPIED.search(line)
        if match is None:
            return
        tenths = int(match[1]) // 10
        if tenths != told:
            told = tenths
            say(f"importing its disks: {10 * tenths} %")

    return hear
