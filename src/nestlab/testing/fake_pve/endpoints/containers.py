"""/nodes/{node}/lxc: containers."""

from __future__ import annotations

import re
import time
from typing import Any

from nestlab.testing.fake_pve import availability as ha
from nestlab.testing.fake_pve.availability import managed
from nestlab.testing.fake_pve.endpoints import drives as disks
from nestlab.testing.fake_pve.endpoints import options
from nestlab.testing.fake_pve.endpoints.cluster import cores, memory
from nestlab.testing.fake_pve.endpoints.settings import check_card, listed, locked
from nestlab.testing.fake_pve.endpoints.vms import destroy, join
from nestlab.testing.fake_pve.refusals import Refusal, denied, died
from nestlab.testing.fake_pve.routes import Ask, serve
from nestlab.testing.fake_pve.tasks import Task
from nestlab.testing.fake_pve.world import GIB, Guest, Lxc, Value, guest_digest

BASE = "/nodes/{node}/lxc"
ONE = f"{BASE}/{{vmid}}"
NOT_CONFIG = {
    "node",
    "vmid",
    "ostemplate",
    "pool",
    "start",
    "storage",
    "password",
    "ssh-public-keys",
    "unique",
    "force",
    "restore",
    "bwlimit",
    "ignore-unpack-errors",
    "ha-managed",
    "delete",
    "revert",
    "digest",
}
ROOT_ONLY = "is only allowed for root@pam"


@serve("GET", BASE)
def listing(ask: Ask) -> Any:
    here = [guest for guest in ask.world.guests.values() if guest.node == ask.node and guest.kind == "lxc"]
    return [current(ask, guest) for guest in here if ask.has(f"/vms/{guest.vmid}", "VM.Audit")]


def current(ask: Ask, guest: Guest) -> dict[str, Any]:
    row: dict[str, Any] = {
        "vmid": guest.vmid, "name": guest.name, "type": "lxc", "status": "running" if guest.running else "stopped",
        "cpus": cores(guest), "maxmem": memory(guest), "maxswap": int(guest.config.get("swap", 512)) << 20,
        "maxdisk": disks.disk_size(ask.world, guest), "disk": 0, "mem": 0, "swap": 0, "cpu": 0, "netin": 0, "netout": 0,
        "diskread": 0, "diskwrite": 0, "uptime": 0,
    }  # fmt: skip
    if guest.running:
        row.update(pid=3000 + guest.vmid, mem=10 << 20, uptime=int(time.time() - guest.started))
        row.update(
            {
                f"pressure{what}": "0.00"
                for what in ("cpusome", "cpufull", "iosome", "iofull", "memorysome", "memoryfull")
            }
        )
    for name in ("tags", "lock"):
        if guest.config.get(name):
            row[name] = guest.config[name]
    if guest.template:
        row["template"] = 1
    return row


@serve("GET", f"{ONE}/status/current")
def state(ask: Ask) -> Any:
    guest = ask.guest()
    return {**current(ask, guest), "ha": {"managed": int(managed(guest))}}


def check(ask: Ask, names: set[str], old: dict[str, Value], unprivileged: bool) -> None:
    """What a container's options need; features other than nesting, devices and host folders need root itself."""
    path = f"/vms/{ask.vmid}"
    if "features" in names and not ask.root:
        features_for(ask, str(ask["features"]), str(old.get("features", "")), unprivileged)
    for name in sorted(names):
        kind = options.base(name)
        if kind in ("rootfs", "mp"):
            options.need(ask, path, "VM.Config.Disk")
            check_mount(ask, str(ask[name]))
        elif name == "tags" and not ask.root:
            options.tagged(ask, str(old.get("tags", "")), str(ask[name]))
        elif kind == "dev" and not ask.root:
            raise denied(f"configuring device passthrough {ROOT_ONLY}")
        elif name == "hookscript" and not ask.root:
            raise denied(f"changing the hookscript {ROOT_ONLY}")
        elif kind in ("net", "nameserver", "searchdomain", "hostname"):
            options.need(ask, path, "VM.Config.Network")
        elif name in ("cores", "cpulimit", "cpuunits"):
            options.need(ask, path, "VM.Config.CPU")
        elif name in ("memory", "swap"):
            options.need(ask, path, "VM.Config.Memory")
        elif name not in ("features", "unprivileged", "tags", "hookscript") and kind != "dev":
            options.need(ask, path, "VM.Config.Options")
    for name in sorted(names):
        if options.base(name) == "net" and "bridge=" in str(ask[name]):
            options.check_bridge(ask, str(ask[name]))


def features_for(ask: Ask, new: str, old: str, unprivileged: bool) -> None:
    if not unprivileged:
        raise denied(f"changing feature flags for privileged container {ROOT_ONLY}")
    others = [{part for part in text.split(",") if part and not part.startswith("nesting=")} for text in (new, old)]
    if others[0] or others[1]:
        raise denied(f"changing feature flags (except nesting) {ROOT_ONLY}")
    options.need(ask, f"/vms/{ask.vmid}", "VM.Allocate")


def check_mount(ask: Ask, text: str) -> None:
    file, _ = disks.split(text)
    if file.startswith("/"):
        if not ask.root:
            raise denied(f"mount point type bind {ROOT_ONLY}")
        return
    name = file.partition(":")[0]
    ask.world.storage(name)
    ask.need(f"/storage/{name}", "Datastore.AllocateSpace")
    disks.storage_for(ask, name, "rootdir")


@serve("POST", BASE)
def create(ask: Ask) -> Any:
    world, vmid = ask.world, ask.vmid
    options.in_pool(ask)
    pool = ask.get("pool")
    if not (ask.has(f"/vms/{vmid}", "VM.Allocate") or (pool and ask.has(f"/pool/{pool}", "VM.Allocate"))):
        raise denied()
    template = str(ask["ostemplate"])
    if (keys := ask.get("ssh-public-keys")) and not options.good_keys(str(keys)):
        raise died("SSH public key validation error")
    if template.startswith("/") and not ask.root:
        raise died(disks.NO_PATHS)
    if vmid in world.guests:
        there = world.guests[vmid]
        raise died(f"{'VM' if there.kind == 'qemu' else 'CT'} {vmid} already exists on node '{there.node}'")
    names = {name for name in ask.given if name not in NOT_CONFIG}
    check(ask, names, {}, ask.on("unprivileged"))
    ask.need(f"/storage/{template.partition(':')[0]}", "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)
    if "rootfs" not in names:
        check_mount(ask, f"{ask.get('storage', 'local')}:4")
    world.guests[vmid] = Guest(vmid, ask.node, "lxc", {"lock": "create"})
    return ask.worker("vzcreate", vmid, lambda task: made(ask, task, names))


def made(ask: Ask, task: Task, names: set[str]) -> None:
    world, vmid = ask.world, ask.vmid
    guest = world.guests[vmid]
    try:
        task.hold(vmid)
        config: dict[str, Value] = {"memory": 512, "swap": 512, "arch": "amd64", "ostype": "debian"}
        for name in sorted(names | {"rootfs"}):
            value = ask.get(name, f"{ask.get('storage', 'local')}:4")
            config[name] = option(ask, guest, name, value)
        guest.config = config
        template = world.volume(ask["ostemplate"], ask.node)
        if template is None:
            raise died(f"volume '{ask['ostemplate']}' does not exist")
        task.say(f"extracting archive '{ask['ostemplate']}'")
        if isinstance(world.iron, Lxc):
            world.iron.unpack(guest, template)
        task.work()
    except BaseException as error:
        for volume in list(world.volumes.values()):
            if volume.vmid == vmid and volume.content == "rootdir" and volume.node in ("", ask.node):
                world.drop(volume)
        world.guests.pop(vmid, None)
        if isinstance(error, Refusal):
            raise disks.only(error, f"unable to create CT {vmid} - ") from None
        raise
    if "nesting=1" not in str(config.get("features", "")):
        task.warn("Systemd 257 detected. You may need to enable nesting.")
    join(world, vmid, ask.get("pool"))
    if ask.on("start"):
        task.release()
        ask.tasks.start(ask.node, "vzstart", str(vmid), ask.user, lambda new: started(ask, new, guest))


def option(ask: Ask, guest: Guest, name: str, value: Any) -> Value:
    """One option as the configuration keeps it: volumes made, network cards with an address."""
    if options.base(name) in ("rootfs", "mp") and not str(value).startswith("/"):
        file, given = disks.split(value)
        store, _, rest = file.partition(":")
        if re.fullmatch(r"\d+(\.\d+)?", rest):
            form = "subvol" if ask.world.storage(store).type == "zfspool" else "raw"
            volume = disks.allocate(ask.world, store, guest.node, guest.vmid, int(float(rest) * GIB), form)
            volume.content = "rootdir"
            return disks.joined(volume.volid, {**given, "size": disks.sized(volume.size)})
    if options.base(name) == "net":
        given = dict(part.partition("=")[::2] for part in str(value).split(","))
        given.setdefault("hwaddr", ask.world.mac())
        given.setdefault("type", "veth")
        first = {"name": given.pop("name", "eth0")}
        return ",".join(f"{key}={item}" for key, item in {**first, **dict(sorted(given.items()))}.items())
    return options.typed(name, value, "lxc")


@serve("PUT", f"{ONE}/config")
def configure(ask: Ask) -> Any:
    guest = ask.guest()
    names = {name for name in ask.given if name not in NOT_CONFIG}
    check(ask, names, guest.config, str(guest.config.get("unprivileged", 0)) == "1")
    if ask.get("digest") and ask["digest"] != guest_digest(guest):
        raise died("detected modified configuration - file changed by other user? Try again.")
    locked(guest)
    for key in listed(ask, "delete"):
        guest.config.pop(key, None)
    for name in sorted(names):
        guest.config[name] = option(ask, guest, name, ask[name])


def stopped(ask: Ask, word: str = "CT") -> Guest:
    guest = ask.guest()
    if not guest.running:
        raise died(f"{word} {guest.vmid} not running")
    return guest


@serve("POST", f"{ONE}/status/start")
def start(ask: Ask) -> Any:
    guest = ask.world.guests.get(ask.vmid)
    if guest and guest.running:
        raise died(f"CT {ask.vmid} already running")
    if (requested := ha.requested(ask, "started")) is not None:
        return requested
    return ask.locked_worker("vzstart", lambda task, found: started(ask, task, found))


def started(ask: Ask, task: Task, guest: Guest) -> None:
    locked(guest)
    if guest.template:
        raise died("you can't start a CT if it's a template")
    for key, value in sorted(guest.config.items()):
        if re.fullmatch(r"net\d+", key):
            check_card(ask.world, guest.node, str(value))
    task.work()
    if isinstance(ask.world.iron, Lxc):
        ask.world.iron.contain(guest)
    guest.running, guest.started = True, time.time()


@serve("POST", f"{ONE}/status/stop", f"{ONE}/status/shutdown")
def stop(ask: Ask) -> Any:
    stopped(ask)
    if (requested := ha.requested(ask, "stopped")) is not None:
        return requested
    kind = "vzstop" if ask.path.endswith("stop") else "vzshutdown"

    def work(task: Task, guest: Guest) -> None:
        task.work()
        if isinstance(ask.world.iron, Lxc):
            ask.world.iron.release(guest.vmid)
        guest.running = False

    return ask.locked_worker(kind, work)


@serve("POST", f"{ONE}/status/reboot")
def reboot(ask: Ask) -> Any:
    stopped(ask, "VM")
    return ask.locked_worker("vzreboot", lambda task, guest: task.work())


@serve("GET", f"{ONE}/interfaces")
def interfaces(ask: Ask) -> Any:
    """Addresses inside; null while the container is stopped."""
    guest = ask.guest()
    if not guest.running:
        return None
    rows: list[dict[str, Any]] = [{
        "name": "lo", "hwaddr": "00:00:00:00:00:00", "hardware-address": "00:00:00:00:00:00",
        "inet": "127.0.0.1/8", "inet6": "::1/128",
        "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "inet", "prefix": "8"},
                         {"ip-address": "::1", "ip-address-type": "inet6", "prefix": "128"}],
    }]  # fmt: skip
    for key, value in sorted(guest.config.items()):
        if not re.fullmatch(r"net\d+", key):
            continue
        given = dict(part.partition("=")[::2] for part in str(value).split(","))
        mac, address = given["hwaddr"].lower(), given.get("ip", "")
        row: dict[str, Any] = {"name": given["name"], "hwaddr": mac, "hardware-address": mac, "ip-addresses": []}
        if "/" in address:
            ip, _, prefix = address.partition("/")
            row["inet"] = address
            row["ip-addresses"] = [{"ip-address": ip, "ip-address-type": "inet", "prefix": prefix}]
        rows.append(row)
    return rows


@serve("PUT", f"{ONE}/resize")
def resize(ask: Ask) -> Any:
    guest = ask.guest()
    key, text = ask["disk"], str(ask["size"])
    if key not in guest.config:
        raise died(f"no such mount point '{key}'")
    file, given = disks.split(guest.config[key])
    volume = ask.world.volume(file, guest.node)
    if volume is None:
        raise died(f"volume '{file}' does not exist")
    size = disks.bytes_of(text.removeprefix("+")) + (volume.size if text.startswith("+") else 0)
    if size < volume.size:
        raise died("unable to shrink disk size")

    def work(task: Task, found: Guest) -> None:
        task.work()
        volume.size = size
        found.config[key] = disks.joined(file, {**given, "size": disks.sized(size)})
        task.say("Image resized.")

    return ask.locked_worker("resize", work)


@serve("POST", f"{ONE}/template")
def template(ask: Ask) -> Any:
    guest = ask.guest()
    locked(guest)
    if guest.template:
        raise died("you can't convert a template to a template")
    if guest.running:
        raise died("you can't convert a CT to template if the CT is running")
    guest.config["template"] = 1


@serve("DELETE", ONE)
def delete(ask: Ask) -> Any:
    guest = ask.guest()
    if int(guest.config.get("protection", 0)):
        raise died(f"can't remove CT {ask.vmid} - protection mode enabled")
    if guest.running and not ask.on("force"):
        raise died(f"unable to destroy CT {ask.vmid} - container is running")

    def work(task: Task, found: Guest) -> None:
        found.running = False
        if ask.on("purge"):
            task.say(f"purging CT {found.vmid} from related configurations..")
        destroy(ask, task, found)

    return ask.locked_worker("vzdestroy", work)
