"""/cluster/ha/resources: which guests high availability would move."""

from __future__ import annotations

from typing import Any

from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.world import Guest, digest


def resource(ask: Ask) -> tuple[str, Guest | None]:
    kind, _, number = str(ask["sid"]).rpartition(":")
    guest = ask.world.guests.get(int(number)) if number.isdigit() else None
    kind = kind or ("ct" if guest and guest.kind == "lxc" else "vm")
    return f"{kind}:{number}", guest


def shown(guest: Guest) -> dict[str, Any]:
    kind = "ct" if guest.kind == "lxc" else "vm"
    return {"sid": f"{kind}:{guest.vmid}", "type": kind, "digest": digest({})}


@serve("GET", "/cluster/ha/resources")
def resources(ask: Ask) -> Any:
    return [shown(guest) for guest in ask.world.guests.values() if guest.ha]


@serve("POST", "/cluster/ha/resources")
def add(ask: Ask) -> Any:
    sid, guest = resource(ask)
    if guest is None:
        raise died(f"resource '{sid}' does not exist in cluster")
    if guest.ha:
        raise died(f"create resource failed: resource ID '{sid}' already defined")
    guest.ha = True


@serve("GET", "/cluster/ha/resources/{sid}")
def read(ask: Ask) -> Any:
    sid, guest = resource(ask)
    if guest is None or not guest.ha:
        raise died(f"no such resource '{sid}'")
    return shown(guest)


@serve("DELETE", "/cluster/ha/resources/{sid}")
def remove(ask: Ask) -> Any:
    sid, guest = resource(ask)
    if guest is None or not guest.ha:
        raise died(f"cannot delete service '{sid}', not HA managed!")
    guest.ha = False


@serve("GET", "/cluster/ha/status/current")
def status(ask: Ask) -> Any:
    rows: list[dict[str, Any]] = [
        {"id": "quorum", "type": "quorum", "node": ask.world.entry, "status": "OK", "quorate": 1}
    ]
    return rows + [
        {"id": f"service:{shown(guest)['sid']}", "type": "service", "sid": shown(guest)["sid"], "node": guest.node,
         "state": "started", "status": f"{shown(guest)['sid']} ({guest.node}, started)"}
        for guest in ask.world.guests.values() if guest.ha
    ]  # fmt: skip
