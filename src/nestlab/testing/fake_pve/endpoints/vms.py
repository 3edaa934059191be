"""/nodes/{node}/qemu: making, listing, configuring and deleting virtual machines."""

from __future__ import annotations

import re
import time
from typing import Any

from nestlab.testing.fake_pve.availability import asked, forget, managed
from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints import options
from nestlab.testing.fake_pve.endpoints.cluster import cores, memory
from nestlab.testing.fake_pve.endpoints.settings import ONE, listed, locked, remove, with_mac
from nestlab.testing.fake_pve.formats import DRIVE
from nestlab.testing.fake_pve.refusals import Refusal, denied, died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task, drop, take
from nestlab.testing.fake_pve.world import Guest, Value, World, new_uuid

BASE = "/nodes/{node}/qemu"


@serve("POST", BASE)
def create(ask: Ask) -> Any:
    world, vmid = ask.world, ask.vmid
    options.in_pool(ask)
    pool = ask.get("pool")
    if not (ask.has(f"/vms/{vmid}", "VM.Allocate") or (pool and ask.has(f"/pool/{pool}", "VM.Allocate"))):
        raise denied()
    names = {name for name in ask.given if name not in options.NOT_CONFIG}
    if ask.get("archive") and not ask.root:
        raise died("the fake restores no backups")
    options.check(ask, names)
    if ask.on("start"):
        options.need(ask, f"/vms/{vmid}", "VM.PowerMgmt")
    reserve(ask)

    def work(task: Task) -> None:
        task.hold(vmid)
        guest = world.guests[vmid]
        try:
            task.work()
            for name in sorted(names):
                guest.config[name] = made(ask, guest, name)
            if ask.get("tags") and not ask.root and world.version >= "9.2":  # since qemu-server 9.2.0
                options.tagged(ask, "HASH(0x55d0c0ffee00)", str(ask["tags"]))  # the old ones are `{}`
            finish(ask, guest)
        except BaseException as error:
            undo(world, guest)
            if isinstance(error, Refusal):
                raise disks.only(error, f"unable to create VM {vmid} - ") from None
            raise
        join(world, vmid, pool)
        if ask.on("start"):
            autostart(ask, task, guest)

    return ask.worker("qmcreate", vmid, work)


def reserve(ask: Ask) -> None:
    """Write the empty configuration file: from here on the number is taken."""
    world, vmid = ask.world, ask.vmid
    prefix = f"unable to create VM {vmid} - "
    if vmid in world.guests:
        there = world.guests[vmid]
        if world.held.get(vmid):
            try:
                take(world, vmid, "create")
                drop(world, vmid, "create")
            except Refusal as error:
                raise died(prefix + error.message) from None
        kind = "VM" if there.kind == "qemu" else "CT"
        raise died(f"{prefix}{kind} {vmid} already exists on node '{there.node}'")
    world.guests[vmid] = Guest(vmid, ask.node, ask.kind, {"lock": "create"})


def made(ask: Ask, guest: Guest, name: str) -> Value:
    value = ask.given[name]
    if DRIVE.fullmatch(name):
        return disks.make_drive(ask, guest, name, value)
    if options.base(name) == "net":
        return with_mac(ask.world, str(value))
    return options.typed(name, value)


def finish(ask: Ask, guest: Guest) -> None:
    guest.config.pop("lock", None)
    guest.config.setdefault("boot", disks.default_boot(guest.config))
    if not str(guest.config["boot"]):
        guest.config["boot"] = " "
    guest.config.setdefault("smbios1", f"uuid={new_uuid()}")
    guest.config.setdefault("vmgenid", new_uuid())
    guest.config["meta"] = f"creation-qemu=10.1.2,ctime={int(time.time())}"
    if guest.config.get("tags") == "":
        del guest.config["tags"]


def undo(world: World, guest: Guest) -> None:
    for volume in list(world.volumes.values()):
        if volume.vmid == guest.vmid and volume.node in ("", guest.node) and volume.content == "images":
            used = {disks.split(guest.config[key])[0] for key in disks.drives(guest.config)}
            if volume.volid in used or volume.ctime >= int(time.time()) - 60:
                world.drop(volume)
    world.guests.pop(guest.vmid, None)


def join(world: World, vmid: int, pool: str | None) -> None:
    if pool and pool in world.pools:
        world.pools[pool]["vms"].add(str(vmid))


def autostart(ask: Ask, task: Task, guest: Guest) -> None:
    """`start=1`: the machine is started by a task of its own; the creation is OK even if that fails."""
    from nestlab.testing.fake_pve.endpoints.power import start_vm

    task.say("Execute autostart")
    task.release()
    ask.tasks.start(ask.node, "qmstart", str(guest.vmid), ask.user, lambda new: start_vm(ask, new, guest))


@serve("GET", BASE)
def listing(ask: Ask) -> Any:
    return [
        current(ask, guest, full=ask.on("full"))
        for guest in ask.world.guests.values()
        if guest.node == ask.node and guest.kind == "qemu" and ask.has(f"/vms/{guest.vmid}", "VM.Audit")
    ]


def current(ask: Ask, guest: Guest, *, full: bool = True) -> dict[str, Any]:
    """A VM's state as the list shows it; `full` adds what QEMU itself says."""
    row: dict[str, Any] = {
        "vmid": guest.vmid, "name": guest.name, "status": "running" if guest.running else "stopped",
        "cpus": cores(guest), "maxmem": memory(guest), "maxdisk": disks.disk_size(ask.world, guest), "disk": 0,
        "mem": 0, "memhost": 0, "cpu": 0, "netin": 0, "netout": 0, "uptime": 0,
    }  # fmt: skip
    if guest.running:
        row.update(pid=2000 + guest.vmid, mem=row["maxmem"] // 2, memhost=row["maxmem"] // 2,
                   uptime=int(time.time() - guest.started))  # fmt: skip
        row.update(
            {f"pressure{what}": 0 for what in ("cpusome", "cpufull", "iosome", "iofull", "memorysome", "memoryfull")}
        )
    for name in ("tags", "lock"):
        if guest.config.get(name):
            row[name] = guest.config[name]
    if guest.template:
        row["template"] = 1
    if "serial0" in guest.config:
        row["serial"] = 1
    if int(guest.config.get("balloon", 0)):
        row.update(balloon_min=int(guest.config["balloon"]) << 20, shares=int(guest.config.get("shares", 1000)))
    if full:
        row["qmpstatus"] = "stopped" if not guest.running else "paused" if guest.paused else "running"
        if guest.running and "vga" in guest.config:
            row["clipboard"] = None
        if guest.running:
            cards = [key for key in guest.config if re.fullmatch(r"net\d+", key)]
            row["nics"] = {f"tap{guest.vmid}i{key[3:]}": {"netin": 0, "netout": 0} for key in cards}
    return row


@serve("GET", f"{ONE}/status/current")
def state(ask: Ask) -> Any:
    guest = ask.guest()
    row = current(ask, guest)
    row["ha"] = {"managed": int(managed(guest)), **({"state": asked(guest)} if managed(guest) else {})}
    if str(guest.config.get("agent", "0")).removeprefix("enabled=").startswith("1"):
        row["agent"] = 1
    return row


@serve("PUT", f"{ONE}/unlink")
def unlink(ask: Ask) -> Any:
    guest = ask.guest()
    locked(guest)
    for key in listed(ask, "idlist"):
        remove(ask, guest, key)


@serve("DELETE", ONE)
def delete(ask: Ask) -> Any:
    """Delete a stopped machine with the disks its configuration names; others stay unless asked for."""
    ask.only_root("skiplock")
    guest = ask.guest()
    if int(guest.config.get("protection", 0)):
        raise died(f"can't remove VM {ask.vmid} - protection mode enabled")
    if guest.ha is not None and not ask.on("purge"):
        raise died(f"unable to remove VM {ask.vmid} - used in HA resources and purge parameter not set.")
    if guest.running:
        raise died(f"VM {ask.vmid} is running - destroy failed")
    return ask.locked_worker("qmdestroy", lambda task, found: destroy(ask, task, found))


def destroy(ask: Ask, task: Task, guest: Guest) -> None:
    if guest.kind == "lxc" or guest.config.get("lock") != "suspended":
        locked(guest)
    if guest.running:
        raise died(f"VM {guest.vmid} is running - destroy failed")
    for key in guest.config:
        if key.startswith("unused"):
            ask.world.storage(str(guest.config[key]).partition(":")[0])
    volumes = disks.volumes_of(ask.world, guest)
    disks.in_use(ask.world, volumes)
    task.work()
    for volume in volumes:
        ask.world.drop(volume)
    if ask.on("destroy-unreferenced-disks"):
        for other in list(ask.world.volumes.values()):
            if other.vmid == guest.vmid and other.content in ("images", "rootdir") and other.node in ("", guest.node):
                ask.world.drop(other)
    if ask.on("purge"):
        forget(ask.world, guest)
    for pool in ask.world.pools.values():
        pool["vms"].discard(str(guest.vmid))
    ask.world.guests.pop(guest.vmid, None)
