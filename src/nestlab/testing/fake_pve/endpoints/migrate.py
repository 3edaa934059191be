"""Migration of machines and containers between nodes. Nothing here looks at nested virtualization, as in PVE."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve import availability as ha
from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints.settings import locked
from nestlab.testing.fake_pve.refusals import died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Guest

QEMU = "/nodes/{node}/qemu/{vmid}/migrate"
LXC = "/nodes/{node}/lxc/{vmid}/migrate"


@serve("GET", QEMU)
def before(ask: Ask) -> Any:
    """What stands in the way; the other nodes are in both lists, and a wrong `target` is ignored."""
    guest = ask.guest()
    others = [name for name, node in ask.world.nodes.items() if name != ask.node and node.online]
    local = []
    for key in disks.drives(guest.config, unused=True):
        volume = ask.world.volume(disks.split(guest.config[key])[0], guest.node)
        if volume is None or not volume.node:
            continue
        named = {name: 1 for name, kept in guest.snapshots.items() if key in kept}
        local.append({
            **({"referenced_in_snapshot": named} if named else {}),
            "volid": volume.volid, "drivename": key, "size": volume.size, "cdrom": int(volume.content == "iso"),
            "shared": 0, "replicate": 1, "is_unused": int(key.startswith("unused")), "is_vmstate": 0,
            "is_attached": int(not key.startswith("unused")), "is_tpmstate": int(key == "tpmstate0"),
            "is_cloudinit": int("-cloudinit" in volume.volid),
        })  # fmt: skip
    devices = [key for key in guest.config if re.fullmatch(r"(hostpci|usb)\d+", key)]
    return {
        "running": int(guest.running), "local_disks": local, "local_resources": devices, "mapped-resources": [],
        "mapped-resource-info": {}, "has-dbus-vmstate": 1, "allowed_nodes": others,
        "not_allowed_nodes": {name: {} for name in others},
    }  # fmt: skip


@serve("GET", LXC)
def before_ct(ask: Ask) -> Any:
    guest = ask.guest()
    others = [name for name in ask.world.nodes if name != ask.node]
    return {"running": int(guest.running), "allowed-nodes": others, "not-allowed-nodes": {}}


@serve("POST", QEMU, LXC)
def migrate(ask: Ask) -> Any:
    ask.only_root("force", "migration_type", "migration_network")
    target = ask["target"]
    if target == ask.node:
        raise wrong("target", "target is local node.")
    guest = ask.guest()
    if target not in ask.world.nodes:
        raise died(f"no such cluster node '{target}'")
    locked(guest)
    if guest.running and guest.kind == "qemu" and not ask.on("online"):
        raise died("can't migrate running VM without --online")
    if guest.running and guest.kind == "lxc" and not ask.on("restart"):
        raise died("lxc live migration is currently not implemented")
    if name := ask.get("targetstorage"):
        ask.world.storage(name.split(",")[0].rpartition(":")[2])
    if not ask.world.nodes[target].online:
        raise died(f"Can't connect to destination address using public key: {target}")
    if (requested := ha.requested(ask, f"migrate {target}")) is not None:
        return requested
    kind = "qmigrate" if guest.kind == "qemu" else "vzmigrate"
    return ask.locked_worker(kind, lambda task, found: moved(ask, task, found))


def moved(ask: Ask, task: Task, guest: Guest) -> None:
    target = ask["target"]
    what = "VM" if guest.kind == "qemu" else "CT"
    task.say(f"starting migration of {what} {guest.vmid} to node '{target}' ({ask.world.nodes[target].ip})")
    problem = hindrance(ask, guest)
    if problem:
        task.say(f"ERROR: migration aborted (duration 00:00:00): {problem}")
        raise died("migration aborted")
    guest.config["lock"] = "migrate"
    try:
        task.work()
    finally:
        guest.config.pop("lock", None)
    for volume in disks.volumes_of(ask.world, guest):
        if volume.node:
            task.say(f"found local disk '{volume.volid}' (attached)")
            rename(ask, guest, volume.volid, ask.get("targetstorage"))
    for volume in list(ask.world.volumes.values()):
        if volume.vmid == guest.vmid and volume.node == guest.node:
            ask.world.drop(volume)
            volume.node = target
            ask.world.keep(volume)
    guest.node = target
    if guest.running and guest.kind == "qemu":
        task.say("average migration speed: 4.2 GiB/s - downtime 57 ms")
    task.say("migration finished successfully (duration 00:00:01)")


def rename(ask: Ask, guest: Guest, volid: str, storage: str | None) -> None:
    if not storage or storage == "1" or volid.startswith(f"{storage}:"):
        return
    volume = ask.world.volume(volid, guest.node)
    if volume is None:
        return
    new = f"{storage}:{volid.partition(':')[2]}"
    ask.world.drop(volume)
    volume.volid, volume.storage = new, storage
    ask.world.keep(volume)
    for key in list(disks.drives(guest.config, unused=True)):
        guest.config[key] = re.sub(rf"^{re.escape(volid)}(?=,|$)", new, str(guest.config[key]))


def hindrance(ask: Ask, guest: Guest) -> str:
    """Why this guest cannot move, in PVE's words; empty when it can."""
    world = ask.world
    for key in disks.drives(guest.config):
        file, _ = disks.split(guest.config[key])
        volume = world.volume(file, guest.node)
        if volume is None or not volume.node:
            continue
        if volume.content == "iso":
            return f"can't migrate local cdrom '{file}'"
        if volume.parent and "/" in file:  # of a thin LV its name does not tell (pve-storage, Storage.pm)
            return f"can't live migrate attached local disks without with-local-disks option: {file} is a linked clone"
        if any(other.parent == volume.volid for other in world.volumes.values()):
            return f"can't migrate '{file}' as it's a clone of another volume"
        if guest.running and guest.kind == "qemu" and not ask.on("with-local-disks"):
            return f"can't live migrate attached local disks without with-local-disks option: {file}"
        if guest.running and guest.snapshots:
            return "online storage migration not possible if snapshot exists"
        if not world.storages[volume.storage].on(ask["target"]) and not ask.get("targetstorage"):
            return f"storage '{volume.storage}' is not available on node '{ask['target']}'"
    if any(re.fullmatch(r"hostpci\d+", key) for key in guest.config):
        return "can't migrate VM which uses local devices: hostpci0"
    return ""
