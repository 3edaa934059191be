"""Files that nestlab uploads to storages of a Proxmox VE, from which disks are imported (content `import`).

Nobody can tell from a listing whether a file is still being copied. Hence a file is followed by an empty one, the mark
that it is whole, and its name has the site that uploads it: it is never replaced under somebody who reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.home.cache import alone
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api, Progress
from nestlab.wire.pve.errors import Invalid

Content = Literal["import", "iso"]

LULL = 2.0
"""Seconds between two figures of an upload."""

STALE = 24 * 3600
"""Seconds after which an upload that is not whole is one that nobody goes on with."""

_NAME = re.compile(r"nestlab-((?:file-)?[0-9a-z]+)-([0-9a-f]{8})-([a-z]+)(-whole)?\.(?:qcow2|iso|raw|img)")
_ONCE = re.compile(r"nestlab-once-[0-9a-f]{8}-.*\.qcow2")
_TAKES_FILES = ("dir", "nfs", "cifs", "cephfs", "btrfs")


@frozen
class Place:
    """A storage on a node. `where` tells what is the same storage: its name, with the node unless it is shared."""

    node: str
    storage: str
    shared: bool
    free: int

    @property
    def where(self) -> str:
        return self.storage if self.shared else f"{self.storage}@{self.node}"


@frozen
class File:
    """An uploaded file. `key` and `role` are "" for what was meant to be there for a moment only."""

    volid: str
    node: str
    key: str
    site: str
    role: str
    size: int
    since: int
    whole: bool = False

    @property
    def stale(self) -> bool:
        return not self.whole and time.time() - self.since > STALE


class Uploads:
    """`site`: 8 hex digits that tell this nestlab's uploads from others'; `locks`: a directory for lock files."""

    def __init__(self, api: Api, pve: Pve, site: str, locks: Path) -> None:
        self._api = api
        self._pve = pve
        self._site = site
        self._locks = locks
        self._busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._known: dict[tuple[str, str, str], str] = {}

    async def nodes(self) -> list[str]:
        """The nodes that may be used and answer. LabError when there is none."""
        rows = await self._api.get("/nodes")
        online = sorted(str(row["node"]) for row in rows if row.get("status") == "online")
        found = [node for node in online if not self._pve.nodes or node in self._pve.nodes]
        names = {str(row["node"]) for row in rows}
        if strange := [node for node in self._pve.nodes if node not in names]:
            what = f"{self._api.where} has no node {', '.join(strange)}; it has: {', '.join(sorted(names)) or 'none'}."
            raise LabError(what, hint="Correct the node in the address, or `nodes`.")
        if not found:
            wanted = f"none of {', '.join(self._pve.nodes)}" if self._pve.nodes else "none"
            what = f"No node of {self._api.where} can be used: {wanted} is online."
            hint = f"Start one, or name others in `nodes`; online are: {', '.join(online) or 'none'}."
            raise LabError(what, hint=hint)
        return found

    async def rows(self, node: str) -> list[dict[str, Any]]:
        """The storages of a node, as they were when it was first asked for them."""
        async with self._busy[f"rows {node}"]:
            if node not in self._rows:
                self._rows[node] = list(await self._api.get(f"/nodes/{node}/storage", {"enabled": 1}))
            return self._rows[node]

    async def shared(self, node: str, storage: str) -> bool:
        """Whether it is shared by all nodes."""
        return any(row["storage"] == storage and row.get("shared") for row in await self.rows(node))

    async def place(self, node: str, content: Content = "import") -> Place:
        """Where files of such content go. LabError, with the command that mends it, when no storage takes them."""
        rows = [row for row in await self.rows(node) if row.get("active", 1)]
        wanted = [row for row in rows if self._pve.images in (None, row["storage"])]
        for row in sorted(wanted, key=lambda row: str(row["storage"])):
            if content in str(row.get("content", "")).split(","):
                return Place(node, str(row["storage"]), bool(row.get("shared")), int(row.get("avail", 0)))
        raise self._nowhere(node, rows, content)

    async def held(self, node: str, content: Content = "import") -> list[File]:
        """The files that nestlab has uploaded to the storage of a node."""
        place = await self.place(node, content)
        path = f"/nodes/{node}/storage/{place.storage}/content"
        return files_of(await self._api.get(path, {"content": content}), "" if place.shared else node)

    async def all(self) -> list[File]:
        """The files that nestlab has uploaded, on all nodes."""
        nodes = await self.nodes()
        places = {(await self.place(node)).where: node for node in reversed(nodes)}
        found = await asyncio.gather(*(self.held(node) for node in places.values()))
        return [file for files in found for file in files]

    async def ensure(
        self,
        key: str,
        role: str,
        node: str,
        source: Callable[[], Awaitable[Path]],
        say: Say,
        content: Content = "import",
    ) -> str:
        """The volume id of the file, uploaded if it is not there; `source` makes it."""
        place = await self.place(node, content)
        thing = (place.where, key, role)
        async with self._busy[" ".join(thing)]:
            if thing not in self._known:
                volid = self._whole(await self.held(node, content), key, role)
                if volid is None:
                    path = await source()
                    async with alone(self._locks / f".{key}.{role}.{place.where}.lock", key, say):
                        volid = self._whole(await self.held(node, content), key, role)
                        volid = volid or await self._upload(place, key, role, path, content, say)
                self._known[thing] = volid
            return self._known[thing]

    async def put(self, node: str, name: str, source: Path) -> str:
        """Upload a small file that is dropped once a disk is made of it; one of that name is replaced."""
        place = await self.place(node)
        await self._room(place, source)
        name = self.once(name)
        await self._send(place, "import", source, name, None)
        return f"{place.storage}:import/{name}"

    def once(self, name: str) -> str:
        """The name of such a file on the storage."""
        return f"nestlab-once-{self._site}-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}.qcow2"

    async def drop(self, volid: str, node: str) -> None:
        """Remove a volume; absence is fine."""
        storage = volid.partition(":")[0]
        path = f"/nodes/{node}/storage/{storage}/content/{volid}"
        upid = await self._api.delete(path)
        if upid:
            await self._api.task(str(upid))

    def forget(self, key: str) -> None:
        """Something removed the files of an image: the world is asked again."""
        for thing in [thing for thing in self._known if thing[1] == key]:
            del self._known[thing]

    async def _upload(self, place: Place, key: str, role: str, path: Path, content: Content, say: Say) -> str:
        await self._room(place, path)
        start, ending = f"nestlab-{key}-{self._site}-{role}", {"import": "qcow2", "iso": "iso"}[content]
        mark = f"{start}-whole.{'raw' if content == 'import' else 'img'}"
        volid = f"{place.storage}:{content}/{start}.{ending}"
        what = f"uploading {role} ({human(path.stat().st_size)}) to {place.storage} of {place.node}"
        say(what)
        try:
            await self._send(place, content, path, f"{start}.{ending}", _percent(what, say))
            await self._send(place, content, self._blank(), mark, None)
        except LabError:
            # What came of it would only take room: without its mark nobody uses it.
            with contextlib.suppress(LabError):
                await self.drop(volid, place.node)
            raise
        return volid

    async def _send(self, place: Place, content: Content, path: Path, name: str, progress: Progress | None) -> None:
        try:
            await self._api.upload(place.node, place.storage, content, path, name, progress)
        except Invalid as error:
            if content != "import" or "filename" not in error.parameters:
                raise
            what = f"{self._api.where} takes no upload of a disk image: {error.parameters['filename']}."
            raise LabError(what, hint="It can since Proxmox VE 8.4: upgrade it.") from error

    def _blank(self) -> Path:
        """A file of zeros: PVE takes no empty image."""
        path = self._locks / "whole.raw"
        if not path.exists():
            files.replace(path, bytes(4096), 0o600)
        return path

    def _whole(self, files: Sequence[File], key: str, role: str) -> str | None:
        found = [file for file in files if (file.key, file.role) == (key, role) and file.whole]
        return min(found, key=lambda file: file.site).volid if found else None

    async def _room(self, place: Place, path: Path) -> None:
        """LabError while nothing is sent yet: PVE would find out after all of it had been."""
        status = await self._api.get(f"/nodes/{place.node}/storage/{place.storage}/status")
        free, size = int(status.get("avail", 0)), path.stat().st_size
        if size > free:
            what = f"{place.storage} on {place.node} has {human(free)} free, and an upload takes {human(size)}."
            raise LabError(what, hint="Make room there (`nestlab images gc`), or name another storage in `images`.")

    def _nowhere(self, node: str, rows: Sequence[Mapping[str, Any]], content: Content) -> LabError:
        where, named = self._api.where, self._pve.images
        candidates = [row for row in rows if row["storage"] == named or (not named and row.get("type") in _TAKES_FILES)]
        if candidates:
            row = min(candidates, key=lambda row: (row["storage"] != "local", str(row["storage"])))
            contents = [each for each in str(row.get("content", "")).split(",") if each]
            command = f"pvesm set {quote(str(row['storage']))} --content {','.join([*contents, content])}"
            what = f"Storage {row['storage']} of node {node} takes no content `{content}`, which images are made from."
            if not named:
                what = f"No storage of node {node} takes content `{content}`, which images are made from."
            return LabError(what, hint=f"As root on a node: {command}")
        seen = ", ".join(str(row["storage"]) for row in rows)
        if named:
            what = f"Node {node} of {where} has no storage {named} that can be seen."
            return LabError(what, hint=f"It has: {seen or 'none'}. Correct `images`, or grant Datastore.Audit on it.")
        what = f"No storage of node {node} can hold images; those that can be seen: {seen or 'none'}."
        hint = "Add one of type dir or nfs (pvesm add), or grant Datastore.Audit on one: `nestlab pve check`."
        return LabError(what, hint=hint)


def files_of(rows: Sequence[Mapping[str, Any]], node: str) -> list[File]:
    """nestlab's files among the volumes of a storage, each with whether its mark is there, too."""
    marks, found = set(), []
    for row in rows:
        volid = str(row["volid"])
        name = volid.rpartition("/")[2]
        size, since = int(row.get("size") or 0), int(row.get("ctime") or 0)
        match = _NAME.fullmatch(name)
        if _ONCE.fullmatch(name):
            found.append(File(volid, node, "", "", "", size, since))
        elif match and match[4]:
            marks.add(match.groups()[:3])
            found.append(File(volid, node, match[1], match[2], "whole", size, since, whole=True))
        elif match:
            found.append(File(volid, node, match[1], match[2], match[3], size, since))
    return [replace(file, whole=True) if (file.key, file.site, file.role) in marks else file for file in found]


def _percent(what: str, say: Say) -> Progress:
    """Tells how far it is, now and then."""
    last = time.monotonic()

    def progress(sent: int, size: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LULL:
            last = time.monotonic()
            say(f"{what}: {100 * sent // max(size, 1)} %")

    return progress
