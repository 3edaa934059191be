"""High availability as pve-ha-manager does it, one round at a time: a guest that is a resource is started and ended by
the state that is asked for it, one that ends otherwise is started again, and who asks the guest itself only asks for
another state (qemu-server, API2/Qemu.pm: vm_start, vm_stop, migrate_vm)."""

from __future__ import annotations

import time
from typing import Any

from nestlab.testing.fake_pve.routes import Ask
from nestlab.testing.fake_pve.world import Guest, World

LRM = "pve-ha-lrm"


def asked(guest: Guest) -> str:
    """The state that is asked for a resource."""
    state = (guest.ha or {}).get("state", "started")
    return "started" if state == "enabled" else state


def managed(guest: Guest) -> bool:
    """Whether requests for a guest go through high availability (PVE/HA/Config.pm, service_check_ha_state)."""
    return guest.ha is not None and asked(guest) != "ignored"


def requested(ask: Ask, what: str) -> str | None:
    """The task that only asks high availability for something; None: the guest is none of its resources."""
    guest = ask.world.guests.get(ask.vmid)
    if guest is None or not managed(guest):
        return None
    words = {"started": "hastart", "stopped": "hastop"}

    def work(_: Any) -> None:
        assert guest.ha is not None
        if what in words:
            guest.ha["state"] = what
        else:
            guest.ha["move"] = what.partition(" ")[2]

    return ask.worker(words.get(what, "hamigrate"), ask.vmid, work)


def forget(world: World, guest: Guest) -> None:
    """It is no resource any more, and no rule names it (delete_service_from_config)."""
    guest.ha = None
    sid = name_of(guest)
    for rule, said in list(world.ha_rules.items()):
        left = [each for each in said["resources"].split(",") if each != sid]
        if not left:
            del world.ha_rules[rule]
        else:
            said["resources"] = ",".join(left)


def name_of(guest: Guest) -> str:
    return f"{'ct' if guest.kind == 'lxc' else 'vm'}:{guest.vmid}"


def works(world: World, node: str) -> bool:
    """Whether its daemons act on a node: they run there, and the cluster has a quorum."""
    there = world.nodes.get(node)
    return there is not None and there.online and LRM in there.services and world.quorate


def one_round(world: World) -> None:
    """What its daemons do every ten seconds."""
    for guest in world.guests.values():
        if not managed(guest) or not works(world, guest.node):
            continue
        if asked(guest) == "started" and not guest.running:
            guest.running, guest.started = True, time.time()
            guest.machine = dict(guest.config)
        elif asked(guest) in ("stopped", "disabled") and guest.running:
            guest.running = guest.paused = False
            guest.machine, guest.agent = {}, None
