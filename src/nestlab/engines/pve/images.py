"""Images on a Proxmox VE: built here, uploaded once per storage, and kept there as templates.

What is there is asked of PVE: uploads are known by their names, templates by their marks. Two nestlabs that make the
same at one time do not disturb each other, and what an interrupted one left is found and replaced by the next.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from nestlab.base import temporary
from nestlab.base.events import Say
from nestlab.base.files import create
from nestlab.base.frozen import frozen
from nestlab.engines.pve import guest_requests, tags
from nestlab.engines.pve.boot_images import Role, Shape, Workshop, shape_of
from nestlab.engines.pve.container_templates import OsTemplates
from nestlab.engines.pve.templates import Template, Templates, drives_of, mark_of
from nestlab.engines.pve.uploads import File, Uploads
from nestlab.engines.qemu import launch
from nestlab.engines.qemu.cargo import serial_of
from nestlab.home.cache import alone
from nestlab.home.directories import Home
from nestlab.images.image_files import ImageFiles, ImageStore
from nestlab.lab.blueprint import Spec
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import TEMPLATE_ENDINGS, Image
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.errors import Missing


@frozen
class Unused:
    """An image on a Proxmox VE that no machine there was made from: its templates and uploads. `key` is "" for what
    nobody finished or dropped."""

    key: str
    templates: tuple[Template, ...] = ()
    files: tuple[File, ...] = ()


class Stock:
    """Every method may be called concurrently; what they make is made once. `cache`: nestlab's cache directory."""

    def __init__(
        self, api: Api, pve: Pve, library: ImageStore, *, cache: Path | None = None, workshop: Workshop | None = None
    ) -> None:
        cache = cache or Home.of(os.environ, Path.home()).cache
        self._api = api
        self._pve = pve
        self._library = library
        self._workshop = workshop or Workshop(cache)
        self._locks = cache / "pve"
        site = _site(self._locks)
        self._depot = Uploads(api, pve, site, self._locks)
        self._templates = Templates(api, pve, site)
        self._containers = OsTemplates(api, pve)
        self._making: dict[tuple[str, str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._made: dict[tuple[str, str, str], int] = {}

    async def present(self) -> frozenset[str]:
        """Keys of images that are built here and whose files are on the PVE. It asks each storage: not for `status`."""
        built, files = self._library.present(), await self._depot.all()
        here = frozenset(key for key in built if key.startswith("file-"))  # downloaded, and uploaded when it is needed
        return frozenset(file.key for file in files if file.role == "start" and file.whole) & built | here

    async def build(self, key: str, image: Image, say: Say, node: str = "") -> None:
        """Build the image here and upload it to the node that needs it first (none is named: any); other nodes get it
        when a machine is made there."""
        await self._library.build(key, image, say)
        if image.foreign:  # what of a foreign disk is needed depends on where it is booted
            return
        artifacts = await self._library.artifacts(key, image)
        shape = shape_of(artifacts)
        node = node or (await self._depot.nodes())[0]
        # The disk that starts it comes last: where it is, the others are.
        roles = dict.fromkeys((*shape.cargo, *(role for role, _ in shape.drives)))
        for role in roles:
            await self._upload(artifacts, role, node, say)

    async def template(self, key: str, image: Image, node: str, storage: str, say: Say) -> int:
        """The VMID of the image's template on that node and storage (on a shared storage it may be another node's);
        made if there is none. Its disks have the serial numbers that machines of the image expect."""
        shared = await self._depot.shared(node, storage)
        thing = (key, storage, "" if shared else node)
        async with self._making[thing]:
            if thing not in self._made:
                self._made[thing] = await self._template(key, image, node, storage, say, shared=shared)
            return self._made[thing]

    async def fits(self, spec: Spec, images: Mapping[str, Image]) -> None:
        """See `protocols.Stock`."""
        for key in dict.fromkeys((spec.image, *spec.files)):
            if images[key].url is None:
                continue
            artifacts = await self._library.artifacts(key, images[key])
            launch.holds(spec, key, artifacts)
            if key == spec.image:
                launch.disk_size(spec, artifacts)

    async def node_of(self, vmid: int) -> str:
        """The node that a template is on. Missing if there is no such template any more: it is then forgotten, so that
        the next call of `template` makes a new one."""
        for row in await self._api.get("/cluster/resources", {"type": "vm"}):
            # Whether it is a template PVE tells as of pvestatd's last round, and its tags as of now.
            if int(row.get("vmid") or 0) == vmid and tags.TEMPLATE_TAG in tags.split(str(row.get("tags") or "")):
                return str(row["node"])
        self._made = {thing: each for thing, each in self._made.items() if each != vmid}
        raise Missing(f"Template {vmid} does not exist any more.", hint="Try again: it is then made anew.")

    async def cargo(self, key: str, image: Image, node: str, say: Say) -> tuple[tuple[str, str], ...]:
        """For a hypervisor on that node: each serial number with the volume to import the disk from."""
        artifacts = await self._library.artifacts(key, image)
        roles = shape_of(artifacts).cargo
        return tuple([(serial_of(key, role), await self._upload(artifacts, role, node, say)) for role in roles])

    async def volume(self, key: str, image: Image, node: str, say: Say) -> str:
        """See `protocols.Stock`."""
        artifacts = await self._library.artifacts(key, image)
        if "cdrom" in artifacts.files:
            return await self._depot.ensure(key, "medium", node, _there(artifacts.files["cdrom"]), say, "iso")
        return await self._upload(artifacts, shape_of(artifacts).drives[0][0], node, say)

    async def container(self, key: str, image: Image, node: str, say: Say) -> str:
        """See `protocols.Stock`."""
        artifacts = await self._library.artifacts(key, image)
        name = Path(image.file).name if image.file is not None else title_of(image)
        ending = next((each for each in TEMPLATE_ENDINGS if name.endswith(each)), f".tar.{image.compression}")
        return await self._containers.ensure(f"{key}{ending}", artifacts.files["root"], name, node, say)

    async def upload(self, node: str, name: str, data: bytes) -> str:
        """A small disk with this at its start, to import from and then to `drop`. Repeated, it replaces what an
        interrupted nestlab of this machine left under that name."""
        with temporary.folder() as folder:
            target = Path(folder) / "disk.qcow2"
            await self._workshop.packed(data, target, _quiet)
            return await self._depot.put(node, name, target)

    async def drop(self, volid: str, node: str = "") -> None:
        """Remove what was uploaded; absence is fine. Without a node it is looked for on all."""
        nodes = [node] if node else await self._depot.nodes()
        await asyncio.gather(*(self._depot.drop(volid, each) for each in nodes))

    async def drop_named(self, node: str, name: str) -> None:
        """Remove what `upload` left under that name, if it did."""
        place = await self._depot.place(node)
        await self._depot.drop(f"{place.storage}:import/{self._depot.once(name)}", node)

    async def unused(self, keep: Collection[str] = ()) -> tuple[Unused, ...]:
        """Images on the PVE that no machine in the pool was made from and that are not in `keep`, by key; and under ""
        what was begun more than a day ago and is not whole."""
        files, templates, used = await asyncio.gather(self._files(), self._templates.all(), self._used())
        keys = {each.key for each in files} | {each.key for each in templates}
        keys -= {*used, *keep, ""}
        found = [
            Unused(
                key,
                tuple(each for each in templates if each.key == key and (each.ready or each.stale)),
                tuple(each for each in files if each.key == key and (each.whole or each.stale)),
            )
            for key in sorted(keys)
        ]
        stale = tuple(each for each in files if each.stale and each.key not in keys)
        found.append(Unused("", tuple(each for each in templates if each.stale and each.key not in keys), stale))
        return tuple(each for each in found if each.templates or each.files)

    async def remove(self, what: Unused | str) -> None:
        """Remove an image's templates, then its uploads. LabError, with everything still in place that is in use, when
        a machine is a linked clone of one."""
        if isinstance(what, str):
            files, templates = await asyncio.gather(self._files(), self._templates.all())
            of_it = tuple(each for each in files if each.key == what)
            what = Unused(what, tuple(each for each in templates if each.key == what), of_it)
        for template in what.templates:
            await self._templates.remove(template)
        self._made = {thing: vmid for thing, vmid in self._made.items() if thing[0] != what.key}
        self._depot.forget(what.key)
        # A file without its mark is not used by anybody, one with it may be: marks go first.
        for file in sorted(what.files, key=lambda file: file.role != "whole"):
            await self._depot.drop(file.volid, file.node or (await self._depot.nodes())[0])

    async def _files(self) -> list[File]:
        """All that nestlab has uploaded: disks, and templates of containers."""
        disks, containers = await asyncio.gather(self._depot.all(), self._containers.all(await self._depot.nodes()))
        return [*disks, *containers]

    async def _template(self, key: str, image: Image, node: str, storage: str, say: Say, *, shared: bool) -> int:
        title = "file" if image.foreign else image.base
        title = title or "debian"
        say("looking for its template")
        async with alone(self._locks / f".{key}.template.{storage}.{'' if shared else node}.lock", key, say):
            found = await self._templates.of(key, node, storage, shared=shared)
            ready = [each.vmid for each in found if each.ready]
            if ready:
                await self._templates.tidy(found, say)
                return min(ready)
            artifacts = await self._library.artifacts(key, image)
            drives = await self._drives(artifacts, shape_of(artifacts), node, storage, say)
            return await self._templates.make(key, title, node, storage, drives, say, shared=shared)

    async def _drives(self, artifacts: ImageFiles, shape: Shape, node: str, storage: str, say: Say) -> dict[str, str]:
        if not artifacts.files:
            return {}
        if shape.boots is None:
            source = _there(artifacts.files["cdrom"])
            volid = await self._depot.ensure(artifacts.key, "medium", node, source, say, "iso")
            return {"ide2": f"{volid},media=cdrom", "boot": "order=ide2"}
        disks = [(serial, await self._upload(artifacts, role, node, say)) for role, serial in shape.drives]
        return drives_of(disks, storage, shape.boots)

    async def _upload(self, artifacts: ImageFiles, role: Role, node: str, say: Say) -> str:
        return await self._depot.ensure(
            artifacts.key, role, node, lambda: self._workshop.disk(artifacts, role, say), say
        )

    async def _used(self) -> set[str]:
        """Keys that the marks of machines in the pool name."""
        rows = await self._api.get("/cluster/resources", {"type": "vm"})
        rows = [row for row in rows if row.get("pool") == self._pve.pool and not row.get("template")]
        found = await asyncio.gather(*(self._mark(str(row["node"]), str(row["type"]), row["vmid"]) for row in rows))
        named = [key for mark in found for key in (mark.get("image"), *mark.get("cargo", ()), *mark.get("media", ()))]
        return {str(key) for key in named if key}

    async def _mark(self, node: str, kind: str, vmid: int) -> dict[str, Any]:
        try:
            config = await guest_requests.ask(self._api, f"/nodes/{node}/{kind}/{vmid}", "config")
        except Missing:
            return {}
        return mark_of(str(config.get("description", "")))


def _there(path: Path) -> Callable[[], Awaitable[Path]]:
    async def same() -> Path:
        return path

    return same


def _quiet(_: str) -> None:
    pass


def _site(folder: Path) -> str:
    """8 hex digits that this cache keeps: what an interrupted nestlab began under them is this one's to go on with."""
    path = folder / "site"
    if not path.exists():
        create(path, secrets.token_hex(4).encode(), 0o600)  # whoever is first has named it
    return path.read_text().strip()
