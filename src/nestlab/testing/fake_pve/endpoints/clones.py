"""Clones and templates of virtual machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints import options
from nestlab.testing.fake_pve.endpoints.settings import ONE, locked, with_mac
from nestlab.testing.fake_pve.endpoints.vms import join
from nestlab.testing.fake_pve.refusals import Aborted, Refusal, died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Guest, Storage, Value, new_uuid

DROPPED = re.compile(r"unused\d+|snapstate|snaptime|parent|template|lock|vmstate|runningmachine|digest")


@serve("POST", f"{ONE}/clone")
def clone(ask: Ask) -> Any:
    """A copy. Full ones hold the source's lock (shared) and the target's for as long as copying takes."""
    world, newid = ask.world, int(ask["newid"])
    options.in_pool(ask)
    if ask.vmid not in world.guests or world.guests[ask.vmid].node != ask.node:
        raise died(f"unable to find configuration file for VM {ask.vmid} on node '{ask.node}'")
    source = ask.guest()
    target = ask.get("target") or ask.node
    if target not in world.nodes:
        raise died(f"no such cluster node '{target}'")
    full = ask.on("full", not source.template)
    if ask.get("storage"):
        world.storage(ask["storage"])
    locked(source)
    config = snapshot_of(ask, source)
    checked(ask, source, config, full=full, target=target)
    if newid in world.guests:
        raise died(f"unable to create VM {newid}: config file already exists")
    return ask.worker("qmclone", ask.vmid, lambda task: copied(ask, task, source, config, full=full, target=target),
                      locks=(newid, ask.vmid))  # fmt: skip


def snapshot_of(ask: Ask, source: Guest) -> dict[str, Value]:
    name = ask.get("snapname")
    if not name:
        return dict(source.config)
    if name not in source.snapshots:
        raise died(f"snapshot '{name}' does not exist")
    return dict(source.snapshots[name])


def checked(ask: Ask, source: Guest, config: Mapping[str, Value], *, full: bool, target: str) -> None:
    """All that is refused before the task starts."""
    if not full:
        for name in ("storage", "format"):
            if ask.get(name):
                raise died(f"parameter '{name}' not allowed for linked clones")
    for key in disks.drives(config):
        file, _ = disks.split(config[key])
        volume = ask.world.volume(file, source.node)
        if volume is None or volume.content == "iso":
            continue
        copies = full or "-cloudinit" in file
        store = (
            ask.world.storage(ask.get("storage") or volume.storage) if copies else ask.world.storages[volume.storage]
        )
        ask.need(f"/storage/{store.name}", "Datastore.AllocateSpace")
        disks.storage_for(ask, store.name)
        if not copies and not linkable(ask, file):
            what = "a snapshot of " if ask.get("snapname") else ""
            raise died(f"Linked clone feature is not supported for {what}'{file}' ({key})")
        if target != source.node and not store.shared:
            raise died(f"can't clone VM to node '{target}' (VM uses local storage)")
    for key, value in config.items():
        if re.fullmatch(r"net\d+", key) and "bridge=" in str(value):
            options.check_bridge(ask, str(value))


def linkable(ask: Ask, volid: str) -> bool:
    """Whether a volume can be the base of a linked clone: a template's, on a storage that can."""
    store = ask.world.storages[volid.partition(":")[0]]
    volume = ask.world.volume(volid, ask.node)
    base = bool(re.search(r"(^|[:/])base-\d+-", volid))
    return base and volume is not None and (store.type in disks.THIN or store.files)


def copied(ask: Ask, task: Task, source: Guest, config: Mapping[str, Value], *, full: bool, target: str) -> None:
    world, newid = ask.world, int(ask["newid"])
    made: list[str] = []
    task.hold(source.vmid, "shared")
    task.hold(newid)
    if newid in world.guests:
        raise died(f"unable to create VM {newid}: config file already exists")
    task.say(f"creating a clone of VM {source.vmid} with ID {newid}")
    note: dict[str, Value] = {"lock": "clone", "description": " qmclone temporary file"}
    new = world.guests[newid] = Guest(newid, ask.node, "qemu", note)
    try:
        new_config: dict[str, Value] = {}
        for key, value in config.items():
            if DROPPED.fullmatch(key) or (key == "description" and not value):
                continue
            new_config[key] = value
            if re.fullmatch(r"net\d+", key):
                new_config[key] = with_mac(world, re.sub(r"=([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", "", str(value)))
            elif key in set(disks.drives(config)):
                new_config[key] = drive(ask, task, new, key, str(value), full=full, made=made)
        task.work()
    except (Refusal, Aborted) as error:
        for volid in made:
            world.volumes.pop((volid, source.node), None)
            world.volumes.pop((volid, ""), None)
        world.guests.pop(newid, None)
        if isinstance(error, Aborted):
            raise died(
                "clone failed: copy failed: command '/usr/bin/qemu-img convert' failed: interrupted by signal"
            ) from None
        raise disks.only(error, "clone failed: ") from None
    new_config.update(vmgenid=new_uuid(), smbios1=f"uuid={new_uuid()}")
    new_config["name"] = ask.get("name") or f"Copy-of-VM-{source.config.get('name', source.vmid)}"
    if ask.get("description"):
        new_config["description"] = ask["description"]
    new.config, new.node = new_config, target
    join(world, newid, ask.get("pool"))


def drive(ask: Ask, task: Task, new: Guest, key: str, value: str, *, full: bool, made: list[str]) -> str:
    """One drive of the copy: copied, linked, or, for an ISO, shared."""
    world = ask.world
    file, given = disks.split(value)
    volume = world.volume(file, new.node)
    if volume is None or volume.content == "iso":
        return value
    cloudinit = "-cloudinit" in file
    if full or cloudinit:
        task.say(f"create full clone of drive {key} ({file})")
        store: Storage = world.storage(ask.get("storage") or volume.storage)
        form = ask.get("format") or volume.format
        stem = f"vm-{new.vmid}-cloudinit" if cloudinit else ""
        copy = disks.allocate(world, store.name, new.node, new.vmid, volume.size, form, stem, used=volume.used)
        given = {**given, "size": disks.sized(volume.size)}
    else:
        task.say(f"create linked clone of drive {key} ({file})")
        form = "qcow2" if world.storages[volume.storage].files else volume.format  # clone_image: over any base
        copy = disks.allocate(world, volume.storage, new.node, new.vmid, volume.size, form, used=4096)
        world.drop(copy)
        if world.storages[volume.storage].files:
            copy.volid = f"{file}/{copy.volid.partition(':')[2]}"
        copy.parent = file
        world.keep(copy)
    copy.file = volume.file
    made.append(copy.volid)
    return disks.joined(copy.volid, given)


@serve("POST", f"{ONE}/template")
def template(ask: Ask) -> Any:
    """Make a machine a template: its disks become bases, which are never written again."""
    guest = ask.guest()
    locked(guest)
    if guest.snapshots:
        raise died("unable to create template, because VM contains snapshots")
    if guest.template and not ask.get("disk"):
        raise died("you can't convert a template to a template")
    if guest.running:
        raise died("you can't convert a VM to template if VM is running")
    guest.config["template"] = 1
    return ask.locked_worker("qmtemplate", lambda task, found: converted(ask, task, found))


def converted(ask: Ask, task: Task, guest: Guest) -> None:
    task.work()
    for key in disks.drives(guest.config):
        file, given = disks.split(guest.config[key])
        volume = disks.owned(ask.world, guest, file)
        if volume is None or "-cloudinit" in file or (ask.get("disk") and ask["disk"] != key):
            continue
        ask.world.drop(volume)
        for name in ("volid", "path"):
            setattr(volume, name, getattr(volume, name).replace(f"vm-{guest.vmid}-", f"base-{guest.vmid}-"))
        ask.world.keep(volume)
        guest.config[key] = disks.joined(volume.volid, given)


@serve("GET", f"{ONE}/feature", "/nodes/{node}/lxc/{vmid}/feature")
def feature(ask: Ask) -> Any:
    guest = ask.guest()
    volumes = [volume.volid for volume in disks.volumes_of(ask.world, guest) if "-cloudinit" not in volume.volid]
    can = {
        "snapshot": disks.can_snapshot(ask.world, guest),
        "clone": bool(volumes) and all(linkable(ask, volid) for volid in volumes),
        "copy": True,
    }[ask["feature"]]
    return {"hasFeature": int(can), "nodes": [guest.node]} if guest.kind == "qemu" else {"hasFeature": int(can)}


@serve("POST", f"{ONE}/move_disk")
def move_disk(ask: Ask) -> Any:
    """A disk is copied whole to a storage; to its own one only in another format (API2/Qemu.pm, move_vm_disk)."""
    guest, key = ask.guest(), str(ask["disk"])
    if key not in guest.config:
        raise died(f"disk '{key}' does not exist")
    file, given = disks.split(guest.config[key])
    volume = ask.world.volume(file, guest.node)
    if volume is None:
        raise died(f"disk '{key}' has no associated volume")
    storage, form = str(ask["storage"]), str(ask.get("format") or volume.format)
    if storage == volume.storage and form == volume.format:
        raise died("you can't move to the same storage with same format")
    locked(guest)

    def work(task: Task, found: Guest) -> None:
        task.work()
        made = disks.allocate(ask.world, storage, found.node, found.vmid, volume.size, form, used=volume.size)
        found.config[key] = disks.joined(made.volid, {**given, "size": disks.sized(made.size)})
        if ask.on("delete"):
            ask.world.drop(volume)

    return ask.locked_worker("qmmove", work)
