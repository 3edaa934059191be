"""/cluster/sdn: zones, vnets and subnets, staged, locked, applied and rolled back."""

from __future__ import annotations

import ipaddress
from copy import deepcopy
from dataclasses import replace
from typing import Any

from nestlab.testing.fake_pve.refusals import Refusal, died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Node, digest, new_uuid

BASE = "/cluster/sdn"
ZONES, VNETS = f"{BASE}/zones", f"{BASE}/vnets"
SUBNETS = f"{VNETS}/{{vnet}}/subnets"
BAD_LOCK = "invalid lock token provided! at /usr/share/perl5/PVE/Network/SDN.pm line 291."
SEEN = ("SDN.Audit", "SDN.Allocate")
NEEDS = {"vlan": "bridge", "qinq": "bridge", "evpn": "controller"}


def unlocked(ask: Ask, what: str) -> None:
    """While somebody holds the lock, a change needs its token; while nobody does, any token passes."""
    lock = ask.world.sdn.lock
    if ask.world.major < 9 and ask.get("lock-token"):
        text = "property is not defined in schema and the schema does not allow additional properties"
        raise Refusal(400, "Parameter verification failed.", {"lock-token": text})
    if lock and ask.get("lock-token") != lock:
        raise died(f"{what}: {BAD_LOCK}")


def since_nine(ask: Ask) -> None:
    """The lock and the rollback came with PVE 9 (pve-network 1.1.3)."""
    if ask.world.major < 9:
        raise Refusal(501, f"Method '{ask.method} {ask.path}' not implemented")


def nested(what: str, name: str, text: str) -> Refusal:
    return died(f"{what}: 400 Parameter verification failed.\n{name}: {text}\n")


def staged(ask: Ask, kind: str) -> dict[str, dict[str, Any]]:
    return ask.world.sdn.config[kind]


def view(ask: Ask, kind: str, name: str) -> dict[str, Any] | None:
    """One object: as configured, as applied with `running`, or with what is pending and its state."""
    sdn = ask.world.sdn
    new, old = sdn.config[kind].get(name), sdn.applied[kind].get(name)
    if ask.on("running"):
        return None if old is None else {**old, "digest": None}
    if not ask.on("pending"):
        return None if new is None else {**new, "digest": digest(sdn.config[kind])}
    key = kind.removesuffix("s")
    fixed = {field for field in (key, "type") if field in (new or old or {})}
    if new is None and old is not None:
        return {**old, "digest": None, "state": "deleted", "pending": {}}
    if new is None or new == old:
        return None if new is None else {**new, "digest": None}
    if old is None:
        pending = {field: value for field, value in new.items() if field not in fixed}
        return {**{field: new[field] for field in fixed}, "digest": None, "state": "new", "pending": pending}
    pending = {field: value for field, value in new.items() if old.get(field) != value}
    pending |= {field: "deleted" for field in old if field not in new}
    return {**old, "digest": None, "state": "changed", "pending": pending}


def names(ask: Ask, kind: str) -> list[str]:
    sdn = ask.world.sdn
    return sorted({*sdn.config[kind], *sdn.applied[kind]})


def options_of(ask: Ask, *without: str) -> dict[str, Any]:
    return {
        name: value for name, value in ask.given.items() if name not in ("lock-token", "delete", "digest", *without)
    }


def changed(ask: Ask, found: dict[str, Any], *without: str) -> None:
    for name in filter(None, str(ask.get("delete") or "").split(",")):
        found.pop(name, None)
    found.update(options_of(ask, *without))


@serve("GET", ZONES)
def zones(ask: Ask) -> Any:
    rows = [
        view(ask, "zones", name) for name in names(ask, "zones") if ask.has(f"/sdn/zones/{name}", *SEEN, any_of=True)
    ]
    return [row for row in rows if row is not None and ask.get("type") in (None, row["type"])]


@serve("POST", ZONES)
def create_zone(ask: Ask) -> Any:
    what = "create sdn zone object failed"
    name, kind = ask["zone"], ask["type"]
    if kind in NEEDS and not ask.get(NEEDS[kind]):
        raise died(f"missing value for required option '{NEEDS[kind]}'")
    unlocked(ask, what)
    if name in staged(ask, "zones"):
        raise died(f"{what}: sdn zone object ID '{name}' already defined")
    if kind == "vxlan" and not ask.get("peers"):
        text = "must have exactly one of peers / fabric defined"
        raise died(f"{what}: 400 Parameter verification failed.\nfabric: {text}\npeers: {text}\n")
    staged(ask, "zones")[name] = options_of(ask)


def zone_of(ask: Ask) -> dict[str, Any]:
    found = staged(ask, "zones").get(ask["zone"])
    if found is None:
        raise died(f"sdn '{ask['zone']}' does not exist")
    return found


@serve("GET", f"{ZONES}/{{zone}}")
def zone(ask: Ask) -> Any:
    zone_of(ask)
    return view(ask, "zones", ask["zone"])


@serve("PUT", f"{ZONES}/{{zone}}")
def update_zone(ask: Ask) -> Any:
    unlocked(ask, "update sdn zone object failed")
    changed(ask, zone_of(ask), "zone")


@serve("DELETE", f"{ZONES}/{{zone}}")
def delete_zone(ask: Ask) -> Any:
    what = "delete sdn zone object failed"
    unlocked(ask, what)
    zone_of(ask)
    for name, vnet in sorted(staged(ask, "vnets").items()):
        if vnet["zone"] == ask["zone"]:
            place = "at /usr/share/perl5/PVE/Network/SDN/Zones/Plugin.pm line 149."
            raise died(f"{what}: zone {ask['zone']} is used by vnet {name} {place}")
    del staged(ask, "zones")[ask["zone"]]


def vnet_of(ask: Ask) -> dict[str, Any]:
    found = staged(ask, "vnets").get(ask["vnet"])
    if found is None:
        raise died(f"sdn vnet '{ask['vnet']}' does not exist")
    return found


def own(ask: Ask, *wanted: str) -> None:
    """The privilege on the vnet in its zone."""
    found = staged(ask, "vnets").get(ask["vnet"]) or ask.world.sdn.applied["vnets"].get(ask["vnet"])
    if found is None:
        raise died(f"sdn vnet '{ask['vnet']}' does not exist")
    ask.need(f"/sdn/zones/{found['zone']}/{ask['vnet']}", *wanted, any_of=True)


@serve("GET", VNETS)
def vnets(ask: Ask) -> Any:
    sdn, rows = ask.world.sdn, []
    for name in names(ask, "vnets"):
        zone = (sdn.config["vnets"].get(name) or sdn.applied["vnets"][name])["zone"]
        if ask.has(f"/sdn/zones/{zone}/{name}", *SEEN, any_of=True):
            rows.append(view(ask, "vnets", name))
    return [row for row in rows if row is not None]


@serve("POST", VNETS)
def create_vnet(ask: Ask) -> Any:
    what = "create sdn vnet object failed"
    name = ask["vnet"]
    unlocked(ask, what)
    if name in staged(ask, "vnets"):
        raise died(f"{what}: sdn vnet object ID '{name}' already defined")
    zone = staged(ask, "zones").get(ask["zone"])
    if zone is None:
        raise died(f"{what}: cannot lookup undefined type! at /usr/share/perl5/PVE/API2/Network/SDN/Vnets.pm line 326.")
    if zone["type"] == "simple" and ask.get("tag") is not None:
        raise nested(what, "tag", "vlan tag is not allowed on simple zone")
    if zone["type"] != "simple" and ask.get("tag") is None:
        raise nested(what, "tag", "missing vlan tag")
    no_evpn(ask, what, zone)
    staged(ask, "vnets")[name] = {"type": "vnet", **options_of(ask)}


def no_evpn(ask: Ask, what: str, zone: dict[str, Any]) -> None:
    """Zones/EvpnPlugin.pm, vnet_update_hook."""
    if zone["type"] == "evpn" and ask.on("vlanaware"):
        raise nested(what, "vlan-aware", "vlan-aware option can't be enabled with evpn")


@serve("GET", f"{VNETS}/{{vnet}}")
def vnet(ask: Ask) -> Any:
    own(ask, *SEEN)
    return view(ask, "vnets", ask["vnet"])


@serve("PUT", f"{VNETS}/{{vnet}}")
def update_vnet(ask: Ask) -> Any:
    own(ask, "SDN.Allocate")
    unlocked(ask, "update sdn vnet object failed")
    no_evpn(ask, "update sdn vnet object failed", staged(ask, "zones")[vnet_of(ask)["zone"]])
    changed(ask, vnet_of(ask), "vnet")


@serve("DELETE", f"{VNETS}/{{vnet}}")
def delete_vnet(ask: Ask) -> Any:
    what = "delete sdn vnet object failed"
    own(ask, "SDN.Allocate")
    unlocked(ask, what)
    vnet_of(ask)
    if any(subnet["vnet"] == ask["vnet"] for subnet in staged(ask, "subnets").values()):
        raise nested(what, "vnet", "Can't delete vnet if subnets exists")
    del staged(ask, "vnets")[ask["vnet"]]


@serve("GET", SUBNETS)
def subnets(ask: Ask) -> Any:
    own(ask, *SEEN)
    vnet_of(ask)
    rows = [row for name in names(ask, "subnets") if (row := view(ask, "subnets", name)) is not None]
    return [row for row in rows if ask["vnet"] in (row.get("vnet"), row.get("pending", {}).get("vnet"))]


@serve("POST", SUBNETS)
def create_subnet(ask: Ask) -> Any:
    """A subnet of a vnet; its id is zone, network and mask joined by dashes. Overlaps are not noticed."""
    what = "create sdn subnet object failed"
    own(ask, "SDN.Allocate")
    unlocked(ask, what)
    cidr, zone = str(ask["subnet"]), vnet_of(ask)["zone"]
    address, _, mask = cidr.partition("/")
    name = f"{zone}-{address}-{mask}"
    if name in staged(ask, "subnets"):
        raise died(f"{what}: sdn subnet object ID '{name}' already defined")
    gateway = ask.get("gateway")
    if gateway and ipaddress.ip_address(gateway) not in ipaddress.ip_interface(cidr).network:
        raise nested(what, "gateway", f"{gateway} is not in subnet {cidr}")
    fixed = {"subnet": name, "id": name, "cidr": cidr, "network": address, "mask": mask, "zone": zone}
    staged(ask, "subnets")[name] = {"dhcp-range": [], **options_of(ask, "subnet"), **fixed, "type": "subnet"}


@serve("GET", f"{SUBNETS}/{{subnet}}")
def subnet(ask: Ask) -> Any:
    found = staged(ask, "subnets").get(ask["subnet"])
    if found is None:
        raise died(f"sdn subnet '{ask['subnet']}' does not exist")
    return {**found, "digest": digest(staged(ask, "subnets"))}


@serve("PUT", f"{SUBNETS}/{{subnet}}")
def update_subnet(ask: Ask) -> Any:
    unlocked(ask, "update sdn subnet object failed")
    subnet(ask)
    changed(ask, staged(ask, "subnets")[ask["subnet"]], "subnet", "vnet")


@serve("DELETE", f"{SUBNETS}/{{subnet}}")
def delete_subnet(ask: Ask) -> Any:
    unlocked(ask, "delete sdn subnet object failed")
    staged(ask, "subnets").pop(ask["subnet"], None)


@serve("GET", f"{BASE}/controllers")
def controllers(ask: Ask) -> Any:
    rows = (view(ask, "controllers", name) for name in names(ask, "controllers")
            if ask.has(f"/sdn/controllers/{name}", "SDN.Audit", "SDN.Allocate", any_of=True))  # fmt: skip
    return [row for row in rows if row is not None]


@serve("GET", f"{BASE}/fabrics/all")
def fabrics(ask: Ask) -> Any:
    since_nine(ask)
    rows = (view(ask, "fabrics", name) for name in names(ask, "fabrics")
            if ask.has(f"/sdn/fabrics/{name}", "SDN.Audit", "SDN.Allocate", any_of=True))  # fmt: skip
    return {"fabrics": [row for row in rows if row is not None], "nodes": []}


@serve("POST", f"{BASE}/lock")
def lock(ask: Ask) -> Any:
    """Take the lock: refused while others hold it, and with pending changes unless they are allowed."""
    since_nine(ask)
    sdn = ask.world.sdn
    what = "could not acquire lock for SDN config"
    if sdn.lock:
        raise died(f"{what}: {BAD_LOCK}")
    if sdn.pending and not ask.on("allow-pending"):
        place = "at /usr/share/perl5/PVE/API2/Network/SDN.pm line 150."
        raise died(f"{what}: configuration has pending changes {place}")
    sdn.lock = new_uuid()
    return sdn.lock


@serve("DELETE", f"{BASE}/lock")
def release(ask: Ask) -> Any:
    since_nine(ask)
    if not ask.on("force"):
        unlocked(ask, "could not release lock")
    ask.world.sdn.lock = ""


@serve("POST", f"{BASE}/rollback")
def rollback(ask: Ask) -> Any:
    since_nine(ask)
    unlocked(ask, "could not rollback SDN configuration")
    ask.world.sdn.config = deepcopy(ask.world.sdn.applied)
    if ask.on("release-lock", True) and ask.get("lock-token"):
        ask.world.sdn.lock = ""


@serve("PUT", BASE)
def apply(ask: Ask) -> Any:
    """What is configured becomes what runs, on every node that can be asked and whose reload does not fail: the task
    ends well all the same, and tells of it in its log only (pve-network, API2/Network/SDN.pm)."""
    unlocked(ask, "could not commit SDN config")
    sdn = ask.world.sdn
    new = set(sdn.config["vnets"]) - set(sdn.applied["vnets"])
    for node in ask.world.nodes.values():
        node.lacks = set() if node.online and not node.reload_fails else node.lacks | new
    sdn.applied = deepcopy(sdn.config)
    if ask.on("release-lock", True):
        sdn.lock = ""
    nodes = [replace(node) for node in ask.world.nodes.values()]

    def work(task: Task) -> None:
        task.work()
        for node in nodes:
            reload(ask, task, node)

    return ask.tasks.start(ask.world.entry, "reloadnetworkall", "", ask.user, work)


def reload(ask: Ask, task: Task, node: Node) -> None:
    """One node's part of the task: `pvesh set /nodes/NODE/network`, whose own task is the node's."""
    task.say(f"{node.name}: reloading network config")
    failed = f"command 'pvesh set /nodes/{node.name}/network --regenerate-frr 0' failed: exit code 255"
    if not node.online:
        task.say(f"ssh: connect to host {node.ip} port 22: No route to host", "proxy handler failed", failed)
        return

    def work(own: Task) -> None:
        if node.reload_fails:
            own.say(*node.reload_fails.splitlines())
            raise died("command 'ifreload -a' failed: exit code 1")

    ask.tasks.start(node.name, "srvreload", "networking", "root@pam", work)
    if node.reload_fails:
        task.say(*node.reload_fails.splitlines(), "command 'ifreload -a' failed: exit code 1", failed)


@serve("GET", "/nodes/{node}/sdn/zones")
def node_zones(ask: Ask) -> Any:
    """Every zone that is for the node; in error when it lacks one of its networks (pve-network, Zones.pm: status)."""
    lacks = ask.world.nodes[ask.node].lacks
    wrong = {vnet["zone"] for name, vnet in ask.world.sdn.applied["vnets"].items() if name in lacks}
    return [{"zone": name, "status": "error" if name in wrong else "available"}
            for name, zone in sorted(ask.world.sdn.applied["zones"].items())
            if not zone.get("nodes") or ask.node in zone["nodes"].split(",")]  # fmt: skip


@serve("GET", "/nodes/{node}/sdn/zones/{zone}/content")
def zone_content(ask: Ask) -> Any:
    names = sorted(name for name, vnet in ask.world.sdn.applied["vnets"].items() if vnet["zone"] == ask["zone"])
    lacks = ask.world.nodes[ask.node].lacks
    text = "vnet is not generated. Please check the 'reload network' task log."
    return [{"vnet": name, "status": "error" if name in lacks else "available",
             "statusmsg": text if name in lacks else None} for name in names]  # fmt: skip
