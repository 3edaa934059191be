"""/nodes/{node}/network: interfaces of a node, the file as changed and as applied."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from nestlab.testing.fake_pve.refusals import died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Node

BASE = "/nodes/{node}/network"
BRIDGES = ("any_bridge", "any_local_bridge", "include_sdn")


def edited(node: Node) -> dict[str, dict[str, Any]]:
    """The interfaces with the changes that wait for apply."""
    if node.bridges_new is None:
        node.bridges_new = deepcopy(node.bridges)
    return node.bridges_new


@serve("GET", BASE)
def listing(ask: Ask) -> Any:
    """Interfaces; SDN's vnets only when they are asked for by type, and what the caller may use."""
    node = ask.world.nodes[ask.node]
    kind = ask.get("type")
    rows = []
    for name, options in (node.bridges_new or node.bridges).items():
        zone = f"/sdn/zones/localnetwork/{name}"
        if options["type"] == "bridge" and not ask.has(zone, "SDN.Audit", "SDN.Use", any_of=True):
            continue
        if kind in (None, options["type"], "include_sdn") or (kind in BRIDGES and options["type"] == "bridge"):
            rows.append({"iface": name, **options})
    if kind in ("vnet", "any_bridge", "include_sdn"):
        rows += [
            {"iface": name, "type": "vnet", "active": "1", "ipam": 0, "vlanaware": int(vnet.get("vlanaware", 0)),
             "comments": vnet.get("alias")}
            for name, vnet in ask.world.sdn.applied["vnets"].items()
            if ask.has(f"/sdn/zones/{vnet['zone']}/{name}", "SDN.Audit", "SDN.Use", any_of=True)
        ]  # fmt: skip
    return rows


def options_of(ask: Ask, number: int) -> dict[str, Any]:
    given = {name: value for name, value in ask.given.items() if name not in ("node", "iface", "delete")}
    found: dict[str, Any] = {"method": "manual", "method6": "manual", "families": ["inet"], "priority": number, **given}
    if cidr := given.get("cidr"):
        address, _, mask = str(cidr).partition("/")
        found.update(method="static", address=address, netmask=mask)
    if given["type"] == "bridge":
        found = {"bridge_ports": "", "bridge_stp": "off", "bridge_fd": "0", **found}
    if "comments" in given:
        found["comments"] = f"{given['comments']}\n"
    return found


def check_ports(ask: Ask, interfaces: dict[str, dict[str, Any]]) -> None:
    for port in str(ask.get("bridge_ports") or "").split():
        if port not in interfaces:
            raise died(f"bridge '{ask['iface']}' - unable to find bridge port '{port}'")
        for name, other in interfaces.items():
            if name != ask["iface"] and port in str(other.get("bridge_ports", "")).split():
                raise wrong("bridge_ports", f"{port} is already used on interface '{name}'.")


@serve("POST", BASE)
def create(ask: Ask) -> Any:
    interfaces = edited(ask.world.nodes[ask.node])
    if ask["iface"] in interfaces:
        raise wrong("iface", "interface already exists")
    check_ports(ask, interfaces)
    interfaces[ask["iface"]] = options_of(ask, 3 + len(interfaces))


def one(ask: Ask) -> dict[str, Any]:
    interfaces = edited(ask.world.nodes[ask.node])
    if ask["iface"] not in interfaces:
        raise wrong("iface", "interface does not exist")
    return interfaces[ask["iface"]]


@serve("GET", f"{BASE}/{{iface}}")
def read(ask: Ask) -> Any:
    return one(ask)


@serve("PUT", f"{BASE}/{{iface}}")
def update(ask: Ask) -> Any:
    old = one(ask)
    interfaces = edited(ask.world.nodes[ask.node])
    interfaces[ask["iface"]] = {**options_of(ask, old["priority"]), **({"active": 1} if old.get("active") else {})}


@serve("DELETE", f"{BASE}/{{iface}}")
def delete(ask: Ask) -> Any:
    one(ask)
    interfaces = edited(ask.world.nodes[ask.node])
    for name, other in interfaces.items():
        if ask["iface"] in str(other.get("bridge_ports", "")).split():
            raise died(f"bridge '{name}' - unable to find bridge port '{ask['iface']}'")
    del interfaces[ask["iface"]]


@serve("DELETE", BASE)
def revert(ask: Ask) -> Any:
    ask.world.nodes[ask.node].bridges_new = None


@serve("PUT", BASE)
def apply(ask: Ask) -> Any:
    """Reload: what was changed becomes what is."""
    node = ask.world.nodes[ask.node]

    def work(task: Task) -> None:
        task.work()
        if node.bridges_new is not None:
            node.bridges = {name: {**options, "active": 1} for name, options in node.bridges_new.items()}
            node.bridges_new = None

    return ask.worker("srvreload", "networking", work)
