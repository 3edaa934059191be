"""/storage and /nodes/{node}/storage: storages, their room, their content."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.refusals import died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Storage, Volume, digest

ONE = "/nodes/{node}/storage/{storage}"
CONTENT = f"{ONE}/content"
AUDIT = ("Datastore.Audit", "Datastore.AllocateSpace")
FIXED = ("storage", "type", "path", "content", "nodes", "shared", "disable", "delete", "digest")
NEEDS = {"dir": "path", "lvm": "vgname", "lvmthin": "thinpool", "zfspool": "pool", "nfs": "server"}


def shown(store: Storage) -> dict[str, Any]:
    row: dict[str, Any] = {"storage": store.name, "type": store.type, "content": store.content, **store.options}
    if store.type == "dir":
        row = {"path": store.path, "prune-backups": "keep-all=1", **row}
    row |= {"nodes": ",".join(store.nodes)} if store.nodes else {}
    row |= {"disable": 1} if store.disabled else {}
    row |= {"shared": 1} if store.shared else {}
    return {**row, "digest": digest(row)}


@serve("GET", "/storage")
def storages(ask: Ask) -> Any:
    return [
        shown(store) for name, store in ask.world.storages.items() if ask.has(f"/storage/{name}", *AUDIT, any_of=True)
    ]


@serve("GET", "/storage/{storage}")
def storage(ask: Ask) -> Any:
    return shown(ask.world.storage(ask["storage"]))


def apply(ask: Ask, store: Storage) -> None:
    store.content = ask.get("content", store.content)
    if ask.get("nodes") is not None:
        store.nodes = tuple(filter(None, ask["nodes"].split(",")))
    store.disabled = ask.on("disable", store.disabled)
    store.shared = ask.on("shared", store.shared)
    store.options.update({name: value for name, value in ask.given.items() if name not in FIXED})
    for name in filter(None, str(ask.get("delete") or "").split(",")):
        store.options.pop(name, None)
        if name == "nodes":
            store.nodes = ()


@serve("POST", "/storage")
def create(ask: Ask) -> Any:
    name, kind = ask["storage"], ask["type"]
    if kind in NEEDS and not ask.get(NEEDS[kind]):
        raise died(f"missing value for required option '{NEEDS[kind]}'")
    if name in ask.world.storages:
        raise died(f"create storage failed: storage ID '{name}' already defined")
    store = Storage(name, kind, ask.get("path", ""), "images,rootdir", shared=kind in ("nfs", "rbd", "cephfs", "iscsi"))
    apply(ask, store)
    ask.world.storages[name] = store
    return {"storage": name, "type": kind}


@serve("PUT", "/storage/{storage}")
def update(ask: Ask) -> Any:
    store = ask.world.storage(ask["storage"])
    apply(ask, store)
    return {"storage": store.name, "type": store.type}


@serve("DELETE", "/storage/{storage}")
def delete(ask: Ask) -> Any:
    store = ask.world.storage(ask["storage"])
    del ask.world.storages[store.name]


def state(ask: Ask, store: Storage) -> dict[str, Any]:
    """Room and use on this node; zeroes where the storage is disabled or not for the node."""
    active = not store.disabled and store.on(ask.node)
    used = min(ask.world.used(store.name, ask.node), store.total) if active else 0
    total = store.total if active else 0
    return {"type": store.type, "content": store.content, "shared": int(store.shared), "enabled": int(active),
            "active": int(active), "total": total, "used": used, "avail": total - used}  # fmt: skip


@serve("GET", "/nodes/{node}/storage")
def on_node(ask: Ask) -> Any:
    rows = []
    for name, store in ask.world.storages.items():
        wanted = set(filter(None, str(ask.get("content") or "").split(",")))
        if wanted and not wanted & store.contents():
            continue
        if not store.on(ask.node) or ask.get("storage") not in (None, name):
            continue
        if (ask.on("enabled") and store.disabled) or not ask.has(f"/storage/{name}", *AUDIT, any_of=True):
            continue
        row = {"storage": name, **state(ask, store)}
        if row["total"]:
            row["used_fraction"] = row["used"] / row["total"]
        rows.append(row)
    return rows


@serve("GET", f"{ONE}/status")
def status(ask: Ask) -> Any:
    if ask["storage"] not in ask.world.storages:
        raise wrong("storage", "No such storage.")
    return state(ask, ask.world.storages[ask["storage"]])


def store_tells(store: Storage) -> bool:
    """Whether a storage knows what a volume takes (volume_size_info of each plugin)."""
    return store.files or store.type == "zfspool"


def row_of(volume: Volume) -> dict[str, Any]:
    row: dict[str, Any] = {"volid": volume.volid, "content": volume.content, "format": volume.format,
                           "size": volume.size, "ctime": volume.ctime}  # fmt: skip
    if volume.content in ("images", "rootdir"):
        parent = volume.parent.rpartition("/")[2] if volume.parent else None
        row.update(vmid=volume.vmid, used=volume.used, parent=parent)
    return row


@serve("GET", CONTENT)
def content(ask: Ask) -> Any:
    """Volumes, of one kind or guest; a guest's only for who may change its disks and see the storage, or manages that
    (check_volume_access of pve-storage)."""
    store = disks.usable(ask.world, ask["storage"], ask.node)
    kind, vmid = ask.get("content"), ask.get("vmid")
    rows = []
    for volume in ask.world.on_storage(store.name, ask.node):
        if kind not in (None, volume.content) or vmid not in (None, volume.vmid):
            continue
        manages = ask.has(f"/storage/{store.name}", "Datastore.Allocate")
        sees = ask.has(f"/storage/{store.name}", "Datastore.Audit") and ask.has(f"/vms/{volume.vmid}", "VM.Config.Disk")
        if not volume.vmid or manages or sees:
            rows.append(row_of(volume))
    return rows


@serve("POST", CONTENT)
def allocate(ask: Ask) -> Any:
    name = ask["filename"]
    store = disks.usable(ask.world, ask["storage"], ask.node)
    form = ask.get("format")
    ending = name.rpartition(".")[2] if "." in name else "raw"
    if form and store.files and ending != form:
        raise wrong("format", f"different storage formats ({form} != {ending})")
    text = str(ask["size"])
    size = disks.bytes_of(text) if text[-1:] in "KMGT" else int(float(text) * 1024)
    path = f"{store.path}/images/{ask.vmid}/{name}"
    volid = f"{store.name}:{ask.vmid}/{name}" if store.files else f"{store.name}:{name}"
    if ask.world.volume(volid, ask.node):
        raise died(f"disk image '{path}' already exists")
    if ask.world.used(store.name, ask.node) >= store.total:
        raise died(f"unable to create image: qemu-img: {path}: No space left on device")
    node = "" if store.shared else ask.node
    ask.world.keep(Volume(volid, store.name, node, "images", ending, size, path, ask.vmid, used=331776))
    return volid


def volume_id(ask: Ask) -> str:
    text = str(ask["volume"])
    volid = text if ":" in text else f"{ask['storage']}:{text}"
    if volid.partition(":")[0] != ask["storage"]:
        raise wrong("volume", f"storage ID mismatch ({volid.partition(':')[0]} != {ask['storage']})\n")
    return volid


@serve("GET", f"{CONTENT}/{{volume}}")
def read(ask: Ask) -> Any:
    volid = volume_id(ask)
    volume = ask.world.volume(volid, ask.node)
    if volume is None:
        raise died(f"volume_size_info on '{volid}' failed - no format")
    if not ask.has(f"/storage/{ask['storage']}", "Datastore.Allocate"):
        ask.need(f"/storage/{ask['storage']}", *AUDIT, any_of=True)
    used = volume.used if store_tells(ask.world.storages[ask["storage"]]) else 0
    return {"path": volume.path, "size": volume.size, "format": volume.format, "used": used}


@serve("DELETE", f"{CONTENT}/{{volume}}")
def remove(ask: Ask) -> Any:
    """Delete a volume in a task; that it is not there is no error. With `delay` a quick one is waited for."""
    volid = volume_id(ask)
    ask.need(f"/storage/{ask['storage']}", "Datastore.Allocate")
    volume = ask.world.volume(volid, ask.node)
    owner = re.match(r"[^:]+:(?:vm-)?(\d+)[/-]", volid)
    ident = f"{owner[1]}@{ask['storage']}" if owner else ask["storage"]

    def work(task: Task) -> None:
        task.work()
        if volume is not None:
            disks.in_use(ask.world, [volume])
            ask.world.drop(volume)
        task.say(f"Removed volume '{volid}'")

    upid = ask.worker("imgdel", ident, work)
    task = ask.tasks.find(upid)
    return None if ask.get("delay") and task and task.status == "OK" else upid


@serve("GET", f"{ONE}/import-metadata")
def import_metadata(ask: Ask) -> Any:
    raise died(f"unable to parse directory volume name '{ask['volume']}'")
