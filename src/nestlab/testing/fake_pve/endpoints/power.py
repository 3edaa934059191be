"""/status/…, templates, resize, consoles: what is done to a machine as a whole."""

from __future__ import annotations

import re
import time
from typing import Any

from nestlab.base.keyboard import KEYS
from nestlab.testing.fake_pve import availability as ha
from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints.settings import ONE, apply_pending, check_card, locked
from nestlab.testing.fake_pve.refusals import Refusal, died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import Guest, Typed, Volume, guest_digest

STATUS = f"{ONE}/status"
NO_KVM = "KVM virtualisation configured, but not available. Either disable in VM configuration or enable in BIOS."
IOTHREAD = "iothread is only valid with virtio disk or virtio-scsi-single controller, ignoring"


def running(ask: Ask) -> Guest:
    """The machine, which must run; a missing one is told in other words here."""
    if ask.vmid not in ask.world.guests or ask.world.guests[ask.vmid].node != ask.node:
        raise died(f"unable to find configuration file for VM {ask.vmid} on node '{ask.node}'")
    guest = ask.guest()
    if not guest.running:
        raise died(f"VM {ask.vmid} not running")
    return guest


@serve("POST", f"{STATUS}/start")
def start(ask: Ask) -> Any:
    ask.only_root("skiplock", "force-cpu", "stateuri", "migratedfrom", "migration_type", "migration_network")
    if (requested := ha.requested(ask, "started")) is not None:
        return requested

    def work(task: Task, guest: Guest) -> None:
        start_vm(ask, task, guest)

    return ask.locked_worker("qmstart", work)


def start_vm(ask: Ask, task: Task, guest: Guest) -> None:
    """Start a machine as `qm start`: refused for templates, absent bridges and volumes, and KVM that is not there."""
    node = ask.world.nodes[guest.node]
    if guest.config.get("lock") not in (None, "suspended"):
        locked(guest)
    if guest.template:
        raise died("you can't start a vm if it's a template")
    if guest.running:
        raise died(f"VM {guest.vmid} already running")
    apply_pending(guest)
    if any("-cloudinit" in str(guest.config[key]) for key in disks.drives(guest.config)):
        task.say("generating cloud-init ISO")
    kvm = str(guest.config.get("kvm", 1)) == "1"
    cpu = str(guest.config.get("cpu", "")).removeprefix("cputype=").split(",")[0]
    if kvm and not node.kvm:
        raise died(NO_KVM)
    if not kvm and cpu == "host":
        raise died("start failed: QEMU exited with code 1")
    asked = int(guest.config.get("sockets", 1)) * int(guest.config.get("cores", 1))
    if asked > node.cpus:
        raise died(f"MAX {node.cpus} vcpus allowed per VM on this node")
    check_start(ask, task, guest)
    task.work()
    if node.starting > int(ask.get("timeout") or 30):
        command = f"/usr/bin/kvm -id {guest.vmid} -name '{guest.name},debug-threads=on' {'-device x ' * 500}".strip()
        raise died(f"start failed: command '{command}' failed: got timeout")
    if guest.config.pop("lock", None):
        for key in ("vmstate", "runningmachine", "runningcpu", "running-nets-host-mtu"):
            if key == "vmstate" and key in guest.config:
                ask.world.volumes.pop((str(guest.config[key]), guest.node), None)
            guest.config.pop(key, None)
    guest.running, guest.paused, guest.started = True, False, time.time()
    guest.machine = dict(guest.config)
    if ask.world.iron is not None:
        keys = {key: disks.split(guest.config[key])[0] for key in disks.drives(guest.config)}
        found = {key: ask.world.volume(file, guest.node) for key, file in keys.items()}
        guest.agent = ask.world.iron.start(guest, {key: volume for key, volume in found.items() if volume})


def check_start(ask: Ask, task: Task, guest: Guest) -> None:
    for key in list(disks.drives(guest.config)):
        file, options = disks.split(guest.config[key])
        if options.get("iothread") == "1" and guest.config.get("scsihw") != "virtio-scsi-single" and "scsi" in key:
            task.warn(IOTHREAD)
        if file not in ("none", "cdrom") and not file.startswith("/") and not ask.world.volume(file, guest.node):
            raise died(f"volume '{file}' does not exist")
    for key, value in sorted(guest.config.items()):
        if re.fullmatch(r"net\d+", key):
            check_card(ask.world, guest.node, str(value))


def halted(ask: Ask, guest: Guest, *, gently: bool = False) -> None:
    if ask.world.iron is not None:
        ask.world.iron.stop(guest.vmid, gently=gently)
    guest.running = guest.paused = False
    guest.machine = {}
    guest.agent = None
    apply_pending(guest)


@serve("POST", f"{STATUS}/stop")
def stop(ask: Ask) -> Any:
    """Pull the plug; of a stopped machine that is a success, and a `backup` lock does not prevent it."""
    ask.only_root("skiplock", "keepActive", "migratedfrom")
    if (requested := ha.requested(ask, "stopped")) is not None:
        return requested
    return ask.worker("qmstop", ask.vmid, lambda task: stopping(ask, task), locks=(ask.vmid,))


def found(ask: Ask) -> Guest:
    guest = ask.world.guests.get(ask.vmid)
    if guest is None or guest.node != ask.node or guest.kind != "qemu":
        raise died(f"unable to find configuration file for VM {ask.vmid} on node '{ask.node}'")
    return guest


def stopping(ask: Ask, task: Task) -> None:
    guest = found(ask)
    task.hold(ask.vmid)
    if not guest.running:
        return
    locked(guest)
    task.work()
    halted(ask, guest)


@serve("POST", f"{STATUS}/shutdown")
def shutdown(ask: Ask) -> Any:
    """Ask the machine to go down; one that does not is an error after `timeout`, or stopped with `forceStop`."""
    ask.only_root("skiplock")
    guest = ask.world.guests.get(ask.vmid)
    if guest and guest.running and guest.paused and not ask.on("forceStop"):
        raise died("VM is paused - cannot shutdown")
    if (requested := ha.requested(ask, "stopped")) is not None:
        return requested
    return ask.worker("qmshutdown", ask.vmid, lambda task: going_down(ask, task), locks=(ask.vmid,))


def going_down(ask: Ask, task: Task) -> None:
    guest = found(ask)
    task.hold(ask.vmid)
    if not guest.running:
        return
    locked(guest)
    task.work()
    if not guest.obeys and not ask.on("forceStop"):
        if "agent" in guest.config:
            task.say(f"QEMU Guest Agent is not running - VM {guest.vmid} qga command 'guest-ping' failed - got timeout")
        raise died("VM quit/powerdown failed - got timeout")
    if not guest.obeys:
        task.say("VM quit/powerdown failed - terminating now with SIGTERM")
    halted(ask, guest, gently=guest.obeys)


@serve("POST", f"{STATUS}/reboot")
def reboot(ask: Ask) -> Any:
    guest = running(ask)
    if guest.paused:
        raise died("VM is paused - cannot shutdown")

    def work(task: Task, machine: Guest) -> None:
        if not machine.obeys:
            raise died("VM quit/powerdown failed - got timeout")
        task.work()
        agent = machine.agent
        halted(ask, machine)
        machine.running, machine.started, machine.agent = True, time.time(), agent

    return ask.locked_worker("qmreboot", work)


@serve("POST", f"{STATUS}/reset")
def reset(ask: Ask) -> Any:
    running(ask)
    return ask.locked_worker("qmreset", lambda task, guest: task.work())


@serve("POST", f"{STATUS}/suspend")
def suspend(ask: Ask) -> Any:
    """Pause, or with `todisk` hibernate: the machine is then stopped and locked as `suspended`."""
    guest = running(ask)
    locked(guest)
    if not ask.on("todisk"):
        return ask.locked_worker("qmpause", lambda task, found: setattr(found, "paused", True))

    def work(task: Task, machine: Guest) -> None:
        task.work()
        name = ask.get("statestorage") or next(iter(disks.volumes_of(ask.world, machine))).storage
        stem = f"vm-{machine.vmid}-state-suspend-{time.strftime('%Y-%m-%d')}"
        volume = disks.allocate(ask.world, name, machine.node, machine.vmid, 1 << 30, "raw", stem)
        halted(ask, machine)
        machine.config.update({
            "lock": "suspended", "vmstate": volume.volid, "runningmachine": "pc-i440fx-10.0+pve1",
            "runningcpu": str(machine.config.get("cpu", "kvm64")), "running-nets-host-mtu": "net0=1500",
        })  # fmt: skip

    return ask.locked_worker("qmsuspend", work)


@serve("POST", f"{STATUS}/resume")
def resume(ask: Ask) -> Any:
    running(ask)
    return ask.locked_worker("qmresume", lambda task, guest: setattr(guest, "paused", False))


@serve("PUT", f"{ONE}/resize")
def resize(ask: Ask) -> Any:
    """Grow a disk, in a task; that it cannot be shrunk is the task's error and no 400."""
    ask.only_root("skiplock")
    return ask.locked_worker("resize", lambda task, guest: grow(ask, task, guest))


def asked_size(volume: Volume, text: str) -> int:
    """The size a disk is to have: `+10G` is more than now."""
    return disks.bytes_of(text.removeprefix("+")) + (volume.size if text.startswith("+") else 0)


def resize_failed(volume: Volume, ask: Ask) -> Refusal:
    command = f"qemu-img resize '--preallocation=metadata' -f {volume.format} {volume.path}"
    return died(f"command '/usr/bin/{command} {asked_size(volume, str(ask['size']))}' failed: exit code 1")


def grow(ask: Ask, task: Task, guest: Guest) -> None:
    key, text = ask["disk"], str(ask["size"])
    if ask.get("digest") and ask["digest"] != guest_digest(guest):
        raise died("checksum mismatch (file change by other user?)")
    locked(guest)
    if key not in guest.config:
        raise died(f"disk '{key}' does not exist")
    if disks.cdrom(guest.config[key]):
        raise died("you can't resize a cdrom")
    file, options = disks.split(guest.config[key])
    volume = ask.world.volume(file, guest.node)
    if volume is None:
        raise died(f"volume '{file}' does not exist")
    ask.need(f"/storage/{volume.storage}", "Datastore.AllocateSpace")
    if guest.template:
        raise resize_failed(volume, ask)
    size = asked_size(volume, text)
    if size < volume.size:
        raise died("shrinking disks is not supported")
    if size == volume.size:
        return
    if (
        volume.used >= volume.size
        and ask.world.used(volume.storage, guest.node) + size > ask.world.storages[volume.storage].total
    ):
        raise resize_failed(volume, ask)
    task.work()
    volume.size = size
    task.say("Image resized.")
    guest.config[key] = disks.joined(file, {**options, "size": disks.sized(size)})


@serve("PUT", f"{ONE}/sendkey")
def sendkey(ask: Ask) -> Any:
    """What QEMU says of a key that it does not know is lost: the request succeeds."""
    running(ask)
    keys = tuple(str(ask["key"]).split("-"))
    if set(keys) <= KEYS:
        ask.guest().keys.append(keys)


@serve("POST", f"{ONE}/monitor")
def monitor(ask: Ask) -> Any:
    """The human monitor: few commands for those who are not root; a stopped machine is told in the data."""
    guest = ask.guest()
    word = str(ask["command"]).split()[0]
    if word in ("migrate", "migrate_set_parameter", "dump-guest-memory") and not ask.root:
        raise died(f"root-only command '{word}'")
    if word not in ("info", "help", "?", "cont", "stop", "sendkey", "quit") and not ask.root:
        raise died(f"command '{word}' non-existent or not assigned a required permission yet, limiting to root user")
    if not guest.running:
        return f"ERROR: VM {guest.vmid} not running\n"
    if isinstance(ask.world.iron, Typed):
        return ask.world.iron.typed(guest.vmid, str(ask["command"]))
    return "VM status: running\r\n" if str(ask["command"]) == "info status" else ""
