"""Configuration of a virtual machine: reading it, changing it, and what waits for it to stop."""

from __future__ import annotations

import re
from typing import Any

from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints import options
from nestlab.testing.fake_pve.endpoints.cluster import memory
from nestlab.testing.fake_pve.formats import DRIVE
from nestlab.testing.fake_pve.published import described, properties, schema
from nestlab.testing.fake_pve.refusals import Refusal, died, wrong
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task, drop, take
from nestlab.testing.fake_pve.world import Guest, Value, World, guest_digest

ONE = "/nodes/{node}/qemu/{vmid}"
HOTPLUG = {"net": "network", "scsi": "disk", "virtio": "disk", "usb": "usb"}


def with_mac(world: World, text: str) -> str:
    """A network card with an address: `virtio,bridge=b` -> `virtio=BC:24:11:…,bridge=b`."""
    parts = text.split(",")
    if any(re.match(r"macaddr=|\w[\w-]*=([0-9A-Fa-f]{2}:){5}", part) for part in parts):
        return text
    model = next((part for part in parts if "=" not in part or part.startswith("model=")), parts[0])
    card = f"{model.removeprefix('model=')}={world.mac()}"
    return ",".join([card, *(part for part in parts if part != model)])


def locked(guest: Guest) -> None:
    if lock := guest.config.get("lock"):
        raise died(f"{'VM' if guest.kind == 'qemu' else 'CT'} is locked ({lock})")


def shown(config: dict[str, Value]) -> dict[str, Value]:
    return {key: "**********" if key == "cipassword" else value for key, value in config.items()}


@serve("GET", f"{ONE}/config", "/nodes/{node}/lxc/{vmid}/config")
def config(ask: Ask) -> Any:
    """The configuration with what is pending, unless `current`; or that of a snapshot."""
    guest = ask.guest()
    if name := ask.get("snapshot"):
        if name not in guest.snapshots:
            raise died(f"snapshot '{name}' does not exist")
        return {**shown(guest.snapshots[name]), "digest": guest_digest(guest)}
    found = dict(guest.config)
    if not ask.on("current"):
        found.update(guest.pending)
        for key in guest.doomed:
            found.pop(key, None)
    return {**shown(found), "digest": guest_digest(guest)}


@serve("GET", f"{ONE}/pending", "/nodes/{node}/lxc/{vmid}/pending")
def pending(ask: Ask) -> Any:
    guest = ask.guest()
    rows: list[dict[str, Any]] = []
    for key in {**guest.config, **guest.pending}:
        row: dict[str, Any] = {"key": key}
        if key in guest.config:
            row["value"] = shown(guest.config)[key]
        if key in guest.pending:
            row["pending"] = shown(guest.pending)[key]
        if key in guest.doomed:
            row["delete"] = 1
        rows.append(row)
    return [*rows, {"key": "digest", "value": guest_digest(guest)}]


@serve("PUT", f"{ONE}/config")
def put_config(ask: Ask) -> Any:
    """Change the configuration at once; a new disk may make that slow, which is what POST is for."""
    update(ask)


@serve("POST", f"{ONE}/config")
def post_config(ask: Ask) -> Any:
    prepared(ask)
    return ask.worker("qmconfig", ask.vmid, lambda task: update(ask, task), locks=(ask.vmid,))


def prepared(ask: Ask) -> tuple[Guest, set[str], list[str], list[str]]:
    """Everything that is refused before anything changes."""
    ask.only_root("skiplock")
    names = {name for name in ask.given if name not in options.NOT_CONFIG}
    removed = listed(ask, "delete")
    reverted = listed(ask, "revert")
    for what, keys in (("delete", removed), ("revert", reverted)):
        for key in keys:
            if key in ("digest", "vmid") or not known(ask, key):
                raise wrong(what, f"unknown option '{key}'")
    for key in removed:
        if key in names:
            raise wrong("delete", f"you can't use '-{key}' and -delete {key}' at the same time")
    if not names and not removed and not reverted:
        raise died("no options specified")
    options.check(ask, names)
    guest = ask.guest()
    for key in removed:
        options.permitted(ask, key, str(guest.config.get(key, "")), f"/vms/{ask.vmid}")
    owner = f"request {id(ask)}"
    take(ask.world, ask.vmid, owner)
    drop(ask.world, ask.vmid, owner)
    if ask.get("digest") and ask["digest"] != guest_digest(guest):
        raise died("checksum mismatch (file change by other user?)")
    if not ask.on("skiplock"):
        locked(guest)
    for device in disks.boot_order({"boot": str(ask.get("boot", ""))}):
        if device not in guest.config and device not in names:
            raise died(f"invalid bootorder: device '{device}' does not exist'")
    if int(ask.get("balloon") or 0) > memory(guest) >> 20:
        raise died("balloon value too large (must be smaller than assigned memory)")
    return guest, names, removed, reverted


def listed(ask: Ask, name: str) -> list[str]:
    return [part for part in re.split(r"[\s,;]+", str(ask.get(name) or "")) if part]


def known(ask: Ask, key: str) -> bool:
    info = schema(ask.world.version).method("PUT", f"{ONE}/config")
    return info is None or described(properties(info), key) is not None or key == "vmstate"


def update(ask: Ask, task: Task | None = None) -> None:
    owner = task.upid if task else f"change {id(ask)}"
    guest, names, removed, reverted = prepared(ask)
    take(ask.world, ask.vmid, owner)
    try:
        if task:
            task.work()
        for key in reverted:
            guest.pending.pop(key, None)
            guest.doomed.discard(key)
        for key in removed:
            remove(ask, guest, key)
        for name in sorted(names):
            change(ask, guest, name)
        readded(guest)
    finally:
        drop(ask.world, ask.vmid, owner)


def live(guest: Guest, name: str) -> bool:
    """Whether an option takes effect while the machine runs (see its `hotplug`)."""
    kind = options.base(name)
    if kind in HOTPLUG:
        allowed = str(guest.config.get("hotplug", "1"))
        return HOTPLUG[kind] in ("network,disk,usb" if allowed == "1" else allowed).split(",")
    return name in options.SAFE_LIVE or kind in ("unused", "ipconfig")


def plugged(guest: Guest, name: str, new: Value) -> bool:
    """Whether a value takes effect while the machine runs. Of a disk that is there, its size and limits do, and not
    what the guest was told of it when it started; of a CD-ROM drive its medium (vmconfig_update_disk)."""
    old = guest.config.get(name)
    if old is None or not DRIVE.fullmatch(name):
        return live(guest, name)
    (file, before), (now, after) = disks.split(old), disks.split(new)
    if disks.cdrom(old) and disks.cdrom(new):
        return True
    if file != now:
        return live(guest, name)
    return all(before.get(key) == after.get(key) for key in ("ssd", "ro", "cache", "discard", "iothread", "aio"))


def remove(ask: Ask, guest: Guest, key: str) -> None:
    if key not in guest.config:
        guest.pending.pop(key, None)
        return
    drive = bool(DRIVE.fullmatch(key))
    if drive and int(guest.config.get("protection", 0)):
        raise died(f"can't remove drive '{key}' - protection mode enabled")
    if drive and ask.on("force") and (volume := disks.owned(ask.world, guest, disks.split(guest.config[key])[0])):
        try:
            ask.need(f"/storage/{volume.storage}", "Datastore.AllocateSpace")
        except Refusal as refusal:
            raise wrong(key, f"unable to apply pending change {key} : 403 {refusal.message}\n") from None
    if guest.running and options.base(key) == "net" and not guest.obeys:
        guest.doomed.add(key)
        raise wrong(key, f"hotplug problem - error on hot-unplugging device '{key}' - still busy in guest?\n")
    if guest.running and not live(guest, key):
        guest.pending.pop(key, None)
        guest.doomed.add(key)
    elif drive:
        disks.detach(ask.world, guest, key, force=ask.on("force"))
    elif key.startswith("unused"):
        volume = disks.owned(ask.world, guest, str(guest.config[key]))
        if volume:
            ask.need(f"/storage/{volume.storage}", "Datastore.AllocateSpace")
            disks.free(ask.world, guest, volume)
        del guest.config[key]
    else:
        del guest.config[key]
        if not guest.running:
            guest.pending.pop(key, None)


def change(ask: Ask, guest: Guest, name: str) -> None:
    value = ask.given[name]
    new: Value
    if DRIVE.fullmatch(name):
        new = disks.make_drive(ask, guest, name, value)
        old = disks.split(guest.config[name])[0] if name in guest.config else ""
        if old and old != disks.split(new)[0]:
            order = guest.config.get("boot")
            disks.detach(ask.world, guest, name)
            if order is not None:
                guest.config["boot"] = order
    elif options.base(name) == "net":
        new = hotplugged(ask, guest, name, with_mac(ask.world, str(value)))
    else:
        new = options.typed(name, value)
    guest.doomed.discard(name)
    if guest.running and not plugged(guest, name, new):
        guest.pending[name] = new
        if guest.config.get(name) == new:
            del guest.pending[name]
    else:
        guest.config[name] = new
        if name == "tags" and not new:
            del guest.config[name]


def readded(guest: Guest) -> None:
    """A volume that is attached again is unused no more (qemu-server, QemuServer.pm: write_vm_config)."""
    used = {disks.split(guest.config[key])[0] for key in disks.drives(guest.config)}
    for key in [key for key, value in guest.config.items() if key.startswith("unused") and value in used]:
        del guest.config[key]


def hotplugged(ask: Ask, guest: Guest, name: str, text: str) -> str:
    bridge = text.partition("bridge=")[2].split(",")[0]
    if guest.running and bridge and not has_bridge(ask.world, guest.node, bridge):
        problem = f"VM {guest.vmid} qmp command 'netdev_add' failed - network script"
        script = "/usr/libexec/qemu-server/pve-bridge-hotplug failed with status 512"
        raise wrong(name, f"hotplug problem - {problem} {script}\n")
    return text


def has_bridge(world: World, node: str, bridge: str) -> bool:
    """A bridge of the node itself, or the vnet of an applied SDN configuration, if it has loaded that."""
    if bridge in world.nodes[node].lacks:
        return False
    vnet = world.sdn.applied["vnets"].get(bridge)
    zone = world.sdn.applied["zones"].get(vnet["zone"]) if vnet else None
    nodes = str((zone or {}).get("nodes", "")).split(",") if zone and zone.get("nodes") else [node]
    return bridge in world.nodes[node].bridges or (zone is not None and node in nodes)


def check_card(world: World, node: str, text: str) -> None:
    """A card as it is plugged in when its machine starts: the bridge is there, and tells VLANs apart where a vnet is to
    (pve-network, Zones/Plugin.pm: tap_plug; a bridge of the node gets one more for the VLAN)."""
    bridge = text.partition("bridge=")[2].split(",")[0]
    if bridge and not has_bridge(world, node, bridge):
        raise died(f"bridge '{bridge}' does not exist")
    vnet = world.sdn.applied["vnets"].get(bridge)
    if vnet is not None and not int(vnet.get("vlanaware", 0)) and re.search(r",(tag|trunks)=", text):
        raise died(f"vm vlans are not allowed on vnet {bridge}")


def apply_pending(guest: Guest) -> None:
    """Make the changes that waited for the machine to stop."""
    guest.config.update(guest.pending)
    for key in guest.doomed:
        gone = guest.config.pop(key, None)
        if gone is not None and DRIVE.fullmatch(key) and not disks.cdrom(gone):
            number = next(index for index in range(256) if f"unused{index}" not in guest.config)
            guest.config[f"unused{number}"] = disks.split(gone)[0]
    guest.pending.clear()
    guest.doomed.clear()
