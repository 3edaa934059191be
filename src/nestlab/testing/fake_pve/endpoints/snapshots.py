"""/snapshot: of machines and containers, with and without memory."""

from __future__ import annotations

import time
from typing import Any

from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints.settings import locked, shown
from nestlab.testing.fake_pve.refusals import died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Guest, Value, guest_digest

META = ("snaptime", "description", "parent", "vmstate", "snapstate", "digest")
KINDS = {"qemu": "qm", "lxc": "vz"}
BASES = ("/nodes/{node}/qemu/{vmid}/snapshot", "/nodes/{node}/lxc/{vmid}/snapshot")
EACH = tuple(f"{base}/{{snapname}}" for base in BASES)


@serve("GET", *BASES)
def listing(ask: Ask) -> Any:
    """All snapshots, and `current`, whose parent is the last one."""
    guest = ask.guest()
    rows: list[dict[str, Any]] = []
    for name, kept in guest.snapshots.items():
        row: dict[str, Any] = {"name": name, "snaptime": kept["snaptime"], "description": kept.get("description", "")}
        if guest.kind == "qemu":
            row["vmstate"] = int("vmstate" in kept)
        if kept.get("parent"):
            row["parent"] = kept["parent"]
        rows.append(row)
    current: dict[str, Any] = {"name": "current", "description": "You are here!", "running": int(guest.running),
                               "digest": guest_digest(guest)}  # fmt: skip
    if guest.config.get("parent"):
        current["parent"] = guest.config["parent"]
    return [*rows, current]


@serve("POST", *BASES)
def create(ask: Ask) -> Any:
    name = ask["snapname"]
    guest = ask.guest()
    if name in ("current", "pending"):
        raise died(f"unable to use snapshot name '{name}' (reserved name)")
    return ask.locked_worker(f"{KINDS[guest.kind]}snapshot", lambda task, found: taken(ask, task, found))


def taken(ask: Ask, task: Task, guest: Guest) -> None:
    name = ask["snapname"]
    locked(guest)
    if guest.template:
        raise died("you can't take a snapshot if it's a template")
    if name in guest.snapshots:
        raise died(f"snapshot name '{name}' already used")
    if not disks.can_snapshot(ask.world, guest):
        raise died("snapshot feature is not available")
    kept: dict[str, Value] = dict(guest.config)
    kept.update(snaptime=int(time.time()), description=ask.get("description") or "")
    if ask.on("vmstate") and guest.running:
        first = next(iter(disks.volumes_of(ask.world, guest)))
        stem = f"vm-{guest.vmid}-state-{name}"
        state = disks.allocate(ask.world, first.storage, guest.node, guest.vmid, 1 << 30, "raw", stem)
        kept.update(vmstate=state.volid, runningmachine="pc-i440fx-10.0+pve1")
        task.say(f"saving VM state and RAM using storage '{first.storage}'")
    elif guest.running and guest.kind == "qemu":
        task.say("skipping guest filesystem freeze - disabled in VM options")
    for key in disks.drives(guest.config):
        if not disks.cdrom(guest.config[key]):
            task.say(f"snapshotting 'drive-{key}' ({disks.split(guest.config[key])[0]})")
    guest.config["lock"] = "snapshot"
    try:
        task.work()
    finally:
        guest.config.pop("lock", None)
    guest.snapshots[name] = kept
    guest.config["parent"] = name


def kept(ask: Ask) -> dict[str, Value]:
    guest = ask.guest()
    if ask["snapname"] not in guest.snapshots:
        raise died(f"snapshot '{ask['snapname']}' does not exist")
    return guest.snapshots[ask["snapname"]]


@serve("GET", *EACH)
def index(ask: Ask) -> Any:
    kept(ask)
    return [{"cmd": "rollback"}, {"cmd": "config"}]


@serve("GET", *(f"{one}/config" for one in EACH))
def config(ask: Ask) -> Any:
    return shown(kept(ask))


@serve("PUT", *(f"{one}/config" for one in EACH))
def describe(ask: Ask) -> Any:
    snapshot = kept(ask)
    if ask.get("description") is not None:
        snapshot["description"] = ask["description"]


@serve("POST", *(f"{one}/rollback" for one in EACH))
def rollback(ask: Ask) -> Any:
    """Back to a snapshot: one with memory runs afterwards, any other only with `start`."""
    return ask.locked_worker(f"{KINDS[ask.kind]}rollback", lambda task, guest: back(ask, task, guest))


def back(ask: Ask, task: Task, guest: Guest) -> None:
    snapshot = kept(ask)
    locked(guest)
    task.work()
    current = {volume.volid for volume in disks.volumes_of(ask.world, guest)}
    guest.pending.clear()
    guest.doomed.clear()
    notes = {key: value for key, value in guest.config.items() if key == "description"}  # __snapshot_apply_config
    guest.config = {key: value for key, value in snapshot.items() if key not in META and key != "runningmachine"}
    guest.config.update(notes)
    guest.config["parent"] = ask["snapname"]
    named = {disks.split(guest.config[key])[0] for key in disks.drives(guest.config)}
    in_snapshots = {
        disks.split(other[key])[0] for other in guest.snapshots.values() for key in disks.drives(other, unused=True)
    }
    for number, volid in enumerate(sorted(current - named - in_snapshots)):
        guest.config[f"unused{number}"] = volid
    was = guest.running
    guest.running = "vmstate" in snapshot or (guest.kind == "lxc" and was and ask.on("start"))
    if not guest.running:
        guest.agent = None
    if guest.running and not was:
        guest.started = time.time()
    if ask.on("start") and not guest.running and guest.kind == "qemu":
        from nestlab.testing.fake_pve.endpoints.power import start_vm

        ask.tasks.start(ask.node, "qmstart", str(guest.vmid), ask.user, lambda new: start_vm(ask, new, guest))


@serve("DELETE", *EACH)
def delete(ask: Ask) -> Any:
    return ask.locked_worker(f"{KINDS[ask.kind]}delsnapshot", lambda task, guest: removed(ask, task, guest))


def removed(ask: Ask, task: Task, guest: Guest) -> None:
    snapshot = kept(ask)
    locked(guest)
    task.work()
    name = ask["snapname"]
    del guest.snapshots[name]
    if "vmstate" in snapshot:
        ask.world.volumes.pop((str(snapshot["vmstate"]), guest.node), None)
    for other in (guest.config, *guest.snapshots.values()):
        if other.get("parent") == name:
            other.pop("parent")
            if snapshot.get("parent"):
                other["parent"] = snapshot["parent"]
