"""/pools, old way (`/pools/{poolid}`) and new (`?poolid=`)."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve.endpoints.cluster import guest_row
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import World


def found(world: World, name: str, what: str = "") -> dict[str, Any]:
    if name not in world.pools:
        raise died(f"{what}pool '{name}' does not exist")
    return world.pools[name]


def members(ask: Ask, pool: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for vmid in sorted(pool["vms"]):
        guest = ask.world.guests.get(int(vmid))
        if guest is not None:
            row = guest_row(ask, guest)
            row.pop("pool", None)
            rows.append(row)
    for name in sorted(pool["storage"]):
        rows += [
            {"id": f"storage/{node}/{name}", "type": "storage", "storage": name, "node": node, "status": "available"}
            for node in ask.world.nodes
            if name in ask.world.storages and ask.world.storages[name].on(node)
        ]
    return rows


def shown(pool: dict[str, Any]) -> dict[str, Any]:
    return {"comment": pool["comment"]} if pool["comment"] else {}


@serve("GET", "/pools")
def pools(ask: Ask) -> Any:
    if name := ask.get("poolid"):
        ask.need(f"/pool/{name}", "Pool.Audit")
        pool = found(ask.world, name)
        return [{"poolid": name, **shown(pool), "members": members(ask, pool)}]
    return [
        {"poolid": name, **shown(pool)}
        for name, pool in sorted(ask.world.pools.items())
        if ask.has(f"/pool/{name}", "Pool.Audit")
    ]


@serve("GET", "/pools/{poolid}")
def pool_old(ask: Ask) -> Any:
    pool = found(ask.world, ask["poolid"])
    return {"poolid": ask["poolid"], **shown(pool), "members": members(ask, pool)}


@serve("POST", "/pools")
def create(ask: Ask) -> Any:
    name = ask["poolid"]
    parent = name.rpartition("/")[0]
    if name in ask.world.pools:
        raise died(f"create pool failed: pool '{name}' already exists")
    if parent and parent not in ask.world.pools:
        raise died(f"create pool failed: parent '{parent}' of pool '{name}' does not exist")
    ask.world.pools[name] = {"comment": ask.get("comment", ""), "vms": set(), "storage": set()}


def moved(ask: Ask, pool: dict[str, Any], kind: str, wanted: list[str]) -> None:
    label = "VM" if kind == "vms" else "Storage"
    for member in wanted:
        name = f"{label} {member}" if kind == "vms" else f"{label} '{member}'"
        owner = ask.world.pool_of(kind, member)
        if kind == "vms":
            ask.need(f"/vms/{member}", "Permissions.Modify", "VM.Allocate", any_of=True)
        else:
            ask.need(f"/storage/{member}", "Permissions.Modify", "Datastore.Allocate", any_of=True)
        if ask.on("delete"):
            if member not in pool[kind]:
                raise died(f"update pools failed: {name} is not a pool member")
            pool[kind].discard(member)
            continue
        if member in pool[kind]:
            raise died(f"update pools failed: {name} is already a pool member")
        if kind == "vms" and owner:
            if not ask.on("allow-move"):
                text = f"{name} belongs already to pool '{owner}' and 'allow-move' is not set"
                raise died(f"update pools failed: {text}")
            ask.world.pools[owner][kind].discard(member)
        pool[kind].add(member)


@serve("PUT", "/pools", "/pools/{poolid}")
def update(ask: Ask) -> Any:
    pool = found(ask.world, ask["poolid"], "update pools failed: ")
    if ask.get("comment") is not None:
        pool["comment"] = ask["comment"]
    for kind in ("vms", "storage"):
        moved(ask, pool, kind, [part for part in re.split(r"[\s,;]+", str(ask.get(kind) or "")) if part])


@serve("DELETE", "/pools", "/pools/{poolid}")
def delete(ask: Ask) -> Any:
    name = ask["poolid"]
    pool = found(ask.world, name, "delete pool failed: ")
    start = f"delete pool failed: pool '{name}' is not empty"
    for other in ask.world.pools:
        if other.startswith(f"{name}/"):
            raise died(f"{start} (contains pool '{other}')")
    for vmid in sorted(pool["vms"]):
        if int(vmid) in ask.world.guests:
            raise died(f"{start} (contains VM {vmid})")
    for storage in sorted(pool["storage"]):
        if storage in ask.world.storages:
            raise died(f"{start} (contains storage '{storage}')")
    del ask.world.pools[name]
