"""/firewall/options and rules of guests; those of the cluster and nodes are empty."""

from __future__ import annotations

from typing import Any

from nestlab.testing.fake_pve.refusals import died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Guest, digest

ONES = ("/nodes/{node}/qemu/{vmid}/firewall", "/nodes/{node}/lxc/{vmid}/firewall")
OPTIONS = tuple(f"{one}/options" for one in ONES)
RULES = tuple(f"{one}/rules" for one in ONES)


def guest(ask: Ask) -> Guest:
    """The guest, or an empty one: PVE keeps firewall files of guests that are not there."""
    return ask.world.guests.get(ask.vmid) or Guest(ask.vmid, ask.node, ask.kind)


def stamp(found: Guest) -> str:
    return digest({**found.firewall, "": len(found.rules)} if found.rules else found.firewall)


@serve("GET", *OPTIONS)
def read(ask: Ask) -> Any:
    found = guest(ask)
    return {**found.firewall, "digest": stamp(found)}


@serve("PUT", *OPTIONS)
def update(ask: Ask) -> Any:
    found = guest(ask)
    if ask.get("digest") and ask["digest"] != stamp(found):
        raise died("detected modified configuration - file changed by other user? Try again.")
    for name in filter(None, str(ask.get("delete") or "").split(",")):
        found.firewall.pop(name, None)
    found.firewall.update(
        {name: value for name, value in ask.given.items() if name not in ("node", "vmid", "digest", "delete")}
    )


@serve("GET", "/cluster/firewall/options", "/nodes/{node}/firewall/options")
def none(ask: Ask) -> Any:
    return {"digest": digest({})}


@serve("GET", *RULES)
def rules(ask: Ask) -> Any:
    return [{"pos": pos, **rule} for pos, rule in enumerate(guest(ask).rules)]


@serve("POST", *RULES)
def add(ask: Ask) -> Any:
    if ask["action"] not in ("ACCEPT", "DROP", "REJECT"):
        raise wrong("action", f"unknown action '{ask['action']}'")
    guest(ask).rules.insert(0, {name: value for name, value in ask.given.items() if name not in ("node", "vmid")})


@serve("GET", *(f"{rule}/{{pos}}" for rule in RULES))
def rule(ask: Ask) -> Any:
    found = guest(ask)
    return {**found.rules[position(ask, found)], "pos": str(ask["pos"]), "digest": stamp(found)}


@serve("DELETE", *(f"{rule}/{{pos}}" for rule in RULES))
def remove(ask: Ask) -> Any:
    found = guest(ask)
    del found.rules[position(ask, found)]


def position(ask: Ask, found: Guest) -> int:
    if int(ask["pos"]) >= len(found.rules):
        raise died(f"no rule at position {ask['pos']}")
    return int(ask["pos"])
