"""/version, /cluster: what is in the cluster, and its options."""

from __future__ import annotations

import time
from typing import Any

from nestlab.testing.fake_pve.availability import asked, managed
from nestlab.testing.fake_pve.endpoints.drives import disk_size
from nestlab.testing.fake_pve.refusals import wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Guest, Node, World

PARSED = {"next-id", "tag-style", "user-tag-access", "migration", "crs", "ha"}
KNOWN_OF_ABSENT = ("id", "type", "vmid", "node", "name", "template", "tags", "lock", "pool")
"""Of a guest on a node that is away: what is in its configuration, which every node has."""

ONLY_AUDIT = "Sys.Audit"


def release(version: str) -> dict[str, str]:
    """What a version such as 9.1 says of itself."""
    full = {"9.1": "9.1.10", "9.2": "9.2.2"}.get(version, f"{version}.1" if version.count(".") == 1 else version)
    return {"version": full, "release": ".".join(full.split(".")[:2]), "repoid": "9aa9263f00000000"}


@serve("GET", "/")
def index(ask: Ask) -> Any:
    return [{"subdir": name} for name in ("version", "cluster", "nodes", "storage", "access", "pools")]


@serve("GET", "/version", "/nodes/{node}/version")
def version(ask: Ask) -> Any:
    return release(ask.world.version)


@serve("GET", "/cluster/status")
def status(ask: Ask) -> Any:
    world = ask.world
    rows: list[dict[str, Any]] = [
        {"type": "node", "id": f"node/{node.name}", "name": node.name, "ip": node.ip, "nodeid": number, "level": "",
         "online": int(node.online), "local": int(node.name == world.entry)}
        for number, node in enumerate(world.nodes.values(), 1)
    ]  # fmt: skip
    if world.clustername:
        head = {"type": "cluster", "id": "cluster", "name": world.clustername, "nodes": len(world.nodes),
                "quorate": int(world.quorate), "version": len(world.nodes)}  # fmt: skip
        rows.insert(0, head)
    return rows


@serve("GET", "/cluster/nextid")
def nextid(ask: Ask) -> Any:
    """A free number, or the one asked for if it is free. Nothing is reserved: whoever creates first has it."""
    if ask.get("vmid") is None:
        return str(ask.world.nextid())
    if ask.vmid in ask.world.guests:
        raise wrong("vmid", f"VM {ask.vmid} already exists")
    return str(ask.vmid)


def properties(text: str) -> dict[str, Any]:
    pairs = (part.partition("=") for part in text.split(","))
    return {key: value.split(";") if key.endswith("-list") else value for key, _, value in pairs}


@serve("GET", "/cluster/options")
def options(ask: Ask) -> Any:
    tags = sorted({*ask.world.options.get("registered-tags", []),
                   *ask.world.options.get("user-tag-access", {}).get("user-allow-list", [])})  # fmt: skip
    if not ask.has("/", ONLY_AUDIT):
        return {"allowed-tags": tags}
    return {"mac_prefix": "BC:24:11", "description": "", **ask.world.options, "allowed-tags": tags}


@serve("PUT", "/cluster/options")
def set_options(ask: Ask) -> Any:
    for name in filter(None, str(ask.get("delete", "")).replace(";", ",").split(",")):
        ask.world.options.pop(name, None)
    for name, value in ask.given.items():
        if name == "registered-tags":
            ask.world.options[name] = str(value).split(";")
        elif name != "delete":
            ask.world.options[name] = properties(str(value)) if name in PARSED else value


def guest_row(ask: Ask, guest: Guest) -> dict[str, Any]:
    """A guest as /cluster/resources shows it: what pvestatd tells, as it was at its last round where that is late
    (pve-manager, API2Tools.pm: extract_vm_stats); the rest as it is."""
    world = ask.world
    pool = world.pool_of("vms", str(guest.vmid))
    row: dict[str, Any] = {
        "id": f"{guest.kind}/{guest.vmid}", "type": guest.kind, "vmid": guest.vmid, "node": guest.node,
    } | ({"status": "unknown", **guest.told} if world.late else told(world, guest))  # fmt: skip
    for name in ("tags", "lock"):
        if guest.config.get(name):
            row[name] = guest.config[name]
    if pool:
        row["pool"] = pool
    if managed(guest):
        row["hastate"] = asked(guest)
    if not world.nodes[guest.node].online:
        row = {key: row[key] for key in KNOWN_OF_ABSENT if key in row}
        row["status"] = "unknown"
    return row


def told(world: World, guest: Guest) -> dict[str, Any]:
    """What pvestatd tells of a guest."""
    row: dict[str, Any] = {
        "name": guest.name, "status": "paused" if guest.paused else "running" if guest.running else "stopped",
        "template": int(guest.template),
        "maxcpu": cores(guest), "maxmem": memory(guest), "maxdisk": disk_size(world, guest), "disk": 0, "mem": 0,
        "cpu": 0, "uptime": int(time.time() - guest.started) if guest.running else 0, "netin": 0, "netout": 0,
        "diskread": 0, "diskwrite": 0, "memhost": 0,
    }  # fmt: skip
    if guest.running:
        row["mem"] = row["memhost"] = row["maxmem"] // 2
    return row


def cores(guest: Guest) -> int:
    if guest.kind == "lxc":
        return int(guest.config.get("cores", 2))
    return int(guest.config.get("sockets", 1)) * int(guest.config.get("cores", 1))


def memory(guest: Guest) -> int:
    text = str(guest.config.get("memory", 512)).removeprefix("current=")
    return int(text.split(",")[0]) << 20


def node_row(ask: Ask, node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"node/{node.name}", "node": node.name, "type": "node", "level": "",
                           "status": "online" if node.online else "offline"}  # fmt: skip
    if node.online and ask.has(f"/nodes/{node.name}", ONLY_AUDIT):
        running = [guest for guest in ask.world.guests.values() if guest.node == node.name and guest.running]
        used = min(node.memory, node.memory_used + sum(map(memory, running)))
        row.update(maxcpu=node.cpus, maxmem=node.memory, mem=used, cpu=0.02, disk=10 << 30, maxdisk=100 << 30)
        row["uptime"] = int(time.time() - node.started)
    return row


def storage_rows(ask: Ask) -> list[dict[str, Any]]:
    rows = []
    for node in ask.world.nodes.values():
        for store in ask.world.storages.values():
            if store.disabled or not store.on(node.name):
                continue
            if not ask.has(f"/storage/{store.name}", "Datastore.Audit"):
                continue
            row = {"id": f"storage/{node.name}/{store.name}", "type": "storage", "storage": store.name,
                   "node": node.name, "plugintype": store.type, "content": store.content, "shared": int(store.shared),
                   "status": "available" if node.online else "unknown"}  # fmt: skip
            if node.online:
                row.update(disk=min(ask.world.used(store.name, node.name), store.total), maxdisk=store.total)
            rows.append(row)
    return rows


@serve("GET", "/cluster/resources")
def resources(ask: Ask) -> Any:
    """What the caller may see of everything there is."""
    kind = ask.get("type", "all")
    rows: list[dict[str, Any]] = []
    if kind == "all":
        rows += [{"id": f"/pool/{name}", "type": "pool", "pool": name}
                 for name in ask.world.pools if ask.has(f"/pool/{name}", "Pool.Audit")]  # fmt: skip
    if kind in ("all", "vm"):
        rows += [
            guest_row(ask, guest)
            for guest in ask.world.guests.values()
            if ask.has(f"/vms/{guest.vmid}", "VM.Audit")
        ]  # fmt: skip
    if kind in ("all", "node"):
        rows += [{**node_row(ask, node), "cgroup-mode": 2} for node in ask.world.nodes.values()]
    if kind in ("all", "storage"):
        rows += storage_rows(ask)
    return rows


@serve("GET", "/nodes")
def nodes(ask: Ask) -> Any:
    rows = [node_row(ask, node) for node in ask.world.nodes.values()]
    return [{**row, "ssl_fingerprint": ask.extra.get("fingerprint", ":".join(["00"] * 32))} for row in rows]
