"""/cluster/ha: what high availability watches over, and what is bound to which nodes (by rules from PVE 9 on, by groups
before)."""

from __future__ import annotations

from typing import Any

from nestlab.testing.fake_pve.availability import asked, forget, name_of, one_round, works
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Guest, digest

MIGRATED = "ha groups have been migrated to rules"
SAID = ("state", "group", "comment", "failback", "max_restart", "max_relocate")


def resource(ask: Ask) -> tuple[str, Guest | None]:
    kind, _, number = str(ask["sid"]).rpartition(":")
    guest = ask.world.guests.get(int(number)) if number.isdigit() else None
    kind = kind or ("ct" if guest and guest.kind == "lxc" else "vm")
    return f"{kind}:{number}", guest


def shown(guest: Guest) -> dict[str, Any]:
    return {"sid": name_of(guest), "type": name_of(guest)[:2], "digest": digest({}), **(guest.ha or {})}


def grouped(ask: Ask) -> None:
    """A group is good in PVE 8, where it is there."""
    name = ask.get("group")
    if name and ask.world.major >= 9:
        raise died(f"invalid parameter 'group': {MIGRATED}")
    if name and name not in ask.world.ha_groups:
        raise died(f"HA group '{name}' does not exist")


@serve("GET", "/cluster/ha/resources")
def resources(ask: Ask) -> Any:
    return [shown(guest) for guest in ask.world.guests.values() if guest.ha is not None]


@serve("POST", "/cluster/ha/resources")
def add(ask: Ask) -> Any:
    sid, guest = resource(ask)
    grouped(ask)
    if guest is None:
        raise died(f"resource '{sid}' does not exist in cluster")
    if guest.ha is not None:
        raise died(f"create resource failed: resource ID '{sid}' already defined")
    guest.ha = {name: str(ask[name]) for name in SAID if ask.get(name) is not None}


def defined(ask: Ask) -> Guest:
    sid, guest = resource(ask)
    if guest is None or guest.ha is None:
        raise died(f"no such resource '{sid}'")
    return guest


@serve("GET", "/cluster/ha/resources/{sid}")
def read(ask: Ask) -> Any:
    return shown(defined(ask))


@serve("PUT", "/cluster/ha/resources/{sid}")
def update(ask: Ask) -> Any:
    grouped(ask)
    guest = defined(ask)
    assert guest.ha is not None
    guest.ha |= {name: str(ask[name]) for name in SAID if ask.get(name) is not None}
    for name in str(ask.get("delete") or "").split(","):
        guest.ha.pop(name, None)


@serve("DELETE", "/cluster/ha/resources/{sid}")
def remove(ask: Ask) -> Any:
    sid, guest = resource(ask)
    if guest is None or guest.ha is None:
        raise died(f"cannot delete service '{sid}', not HA managed!")
    forget(ask.world, guest)


@serve("GET", "/cluster/ha/groups")
def groups(ask: Ask) -> Any:
    if ask.world.major >= 9:
        raise died(f"cannot index groups: {MIGRATED}")
    return [{"group": name, "type": "group", **said} for name, said in ask.world.ha_groups.items()]


@serve("POST", "/cluster/ha/groups")
def add_group(ask: Ask) -> Any:
    if ask.world.major >= 9:
        raise died(f"cannot create group: {MIGRATED}")
    if ask["group"] in ask.world.ha_groups:
        raise died(f"create ha group failed: ha group ID '{ask['group']}' already defined")
    known = ("nodes", "restricted", "nofailback", "comment")
    ask.world.ha_groups[ask["group"]] = {name: str(ask[name]) for name in known if ask.get(name) is not None}


@serve("DELETE", "/cluster/ha/groups/{group}")
def remove_group(ask: Ask) -> Any:
    used = [name_of(guest) for guest in ask.world.guests.values() if (guest.ha or {}).get("group") == ask["group"]]
    if used:
        raise died(f"delete ha group failed: ha group is used by {used[0]}")
    ask.world.ha_groups.pop(ask["group"], None)


@serve("GET", "/cluster/ha/rules")
def rules(ask: Ask) -> Any:
    return [{"rule": name, **said} for name, said in ask.world.ha_rules.items()]


@serve("POST", "/cluster/ha/rules")
def add_rule(ask: Ask) -> Any:
    world, name = ask.world, str(ask["rule"])
    if name in world.ha_rules:
        raise died(f"create ha rule failed: HA rule '{name}' already defined")
    known = {name_of(guest) for guest in world.guests.values() if guest.ha is not None}
    if wrong := [each for each in str(ask["resources"]).split(",") if each not in known]:
        raise died(f"create ha rule failed: cannot use unmanaged resource(s) {', '.join(wrong)}.")
    if gone := [each for each in str(ask.get("nodes") or "").split(",") if each and each not in world.nodes]:
        raise died(f"create ha rule failed: cannot use non-existent node(s) {', '.join(gone)}.")
    kept = ("type", "resources", "nodes", "strict", "comment")
    world.ha_rules[name] = {key: str(ask[key]) for key in kept if ask.get(key) is not None}


@serve("DELETE", "/cluster/ha/rules/{rule}")
def remove_rule(ask: Ask) -> Any:
    ask.world.ha_rules.pop(str(ask["rule"]), None)


@serve("GET", "/cluster/ha/status/current")
def status(ask: Ask) -> Any:
    """Whoever looks sees what a round later is."""
    one_round(ask.world)
    rows: list[dict[str, Any]] = [
        {"id": "quorum", "type": "quorum", "node": ask.world.entry, "status": "OK", "quorate": 1}
    ]
    for guest in ask.world.guests.values():
        if guest.ha is None:
            continue
        sid, state = name_of(guest), asked(guest) if works(ask.world, guest.node) else "queued"
        row = {"id": f"service:{sid}", "type": "service", "sid": sid, "node": guest.node, "state": state}
        rows.append(row | {"status": f"{sid} ({guest.node}, {state})"})
    return rows


@serve("GET", "/nodes/{node}/services/{service}/state")
def service(ask: Ask) -> Any:
    runs = ask["service"] in ask.world.nodes[ask.node].services
    said = "running" if runs else "dead"
    return {"service": ask["service"], "name": ask["service"], "state": said, "active-state": said, "desc": ""}


@serve("POST", "/nodes/{node}/services/{service}/start")
def start_service(ask: Ask) -> Any:
    node = ask.world.nodes[ask.node]
    return ask.worker("srvstart", ask["service"], lambda task: node.services.add(str(ask["service"])))
