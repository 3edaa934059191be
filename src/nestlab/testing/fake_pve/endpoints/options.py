"""Options of a VM's configuration: who may set which, what type each has, which need the VM to be stopped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from nestlab.testing.fake_pve.endpoints.drives import cdrom, check_drive
from nestlab.testing.fake_pve.formats import DRIVE
from nestlab.testing.fake_pve.refusals import denied, died
from nestlab.testing.fake_pve.routes import Ask
from nestlab.testing.fake_pve.world import Value

NOT_CONFIG = {
    "node",
    "vmid",
    "pool",
    "start",
    "storage",
    "unique",
    "force",
    "archive",
    "bwlimit",
    "live-restore",
    "import-working-storage",
    "ha-managed",
    "delete",
    "revert",
    "digest",
    "skiplock",
    "background_delay",
}
CPU = {"cores", "cpu", "cpulimit", "cpuunits", "numa", "smp", "sockets", "vcpus"}
MEMORY = {"memory", "balloon", "shares", "allow-ksm"}
HARDWARE = {
    "acpi",
    "hotplug",
    "kvm",
    "machine",
    "scsihw",
    "smbios1",
    "tablet",
    "vga",
    "watchdog",
    "audio0",
    "rng0",
}
OPTIONS = {
    "agent",
    "autostart",
    "bios",
    "description",
    "keyboard",
    "localtime",
    "migrate_downtime",
    "migrate_speed",
    "name",
    "onboot",
    "ostype",
    "protection",
    "reboot",
    "startdate",
    "startup",
    "tdf",
    "template",
}
POWER = {"freeze"}
DISK = {"boot", "bootdisk", "vmstatestorage"}
CLOUDINIT = {"cicustom", "cipassword", "citype", "ciupgrade", "ciuser", "nameserver", "searchdomain", "sshkeys"}
SAFE_LIVE = {
    "description",
    "lock",
    "name",
    "onboot",
    "shares",
    "startup",
    "protection",
    "vmstatestorage",
    "hookscript",
    "tags",
} | CLOUDINIT
INTEGERS = {
    "acpi",
    "allow-ksm",
    "autostart",
    "balloon",
    "ciupgrade",
    "console",
    "cores",
    "debug",
    "freeze",
    "keephugepages",
    "kvm",
    "localtime",
    "memory-lxc",
    "migrate_speed",
    "numa",
    "onboot",
    "protection",
    "reboot",
    "shares",
    "smp",
    "sockets",
    "swap",
    "tablet",
    "tdf",
    "template",
    "tty",
    "unprivileged",
    "vcpus",
    "cpuunits",
}


def typed(name: str, value: Value, kind: str = "qemu") -> Value:
    """An option's value as the API shows it: integers and booleans as numbers, all others as text."""
    if name in INTEGERS or (name == "memory" and kind == "lxc"):
        return int(value)
    return str(value)


def base(name: str) -> str:
    return re.sub(r"\d+$", "", name)


def permitted(ask: Ask, name: str, value: str, path: str) -> None:
    """Refusal unless the caller may set this option of a VM (check_vm_modify_config_perm)."""
    kind = base(name)
    table = ((CPU, "VM.Config.CPU"), (MEMORY, "VM.Config.Memory"), (HARDWARE, "VM.Config.HWType"),
             (OPTIONS, "VM.Config.Options"), (POWER, "VM.PowerMgmt"), (DISK, "VM.Config.Disk"))  # fmt: skip
    for names, privilege in table:
        if name in names:
            return need(ask, path, privilege)
    if name in CLOUDINIT or kind == "ipconfig":
        return need(ask, path, "VM.Config.Cloudinit", "VM.Config.Network")
    if kind == "net":
        return need(ask, path, "VM.Config.Network")
    if kind == "serial" and value in ("socket", ""):
        return need(ask, path, "VM.Config.HWType")
    if kind in ("unused", "vmstate") or DRIVE.fullmatch(name):
        if DRIVE.fullmatch(name) and cdrom(value) and not ask.path.endswith("/qemu"):
            return need(ask, path, "VM.Config.CDROM")
        return None if ask.method == "POST" and ask.path.endswith("/qemu") else need(ask, path, "VM.Config.Disk")
    if name == "tags":
        return None if ask.path.endswith("/qemu") else tagged(ask, str(ask.guest().config.get("tags", "")), value)
    if ask.root:
        return None
    suffix = " for non-mapped devices" if kind == "hostpci" and "mapping=" not in value else ""
    raise died(f"only root can set '{name}' config{suffix}")


def tagged(ask: Ask, old: str, new: str) -> None:
    """assert_tag_permissions of pve-guest-common: never by the pool that a guest is yet to be in, and only tags that
    `user-tag-access` lets everybody choose."""
    ask.need(f"/vms/{ask.vmid}", "VM.Config.Options")
    if ask.has("/", "Sys.Modify"):
        return
    access = ask.world.options.get("user-tag-access", {})
    allowed = set(access.get("user-allow-list", [])) if access.get("user-allow") != "none" else set()
    if access.get("user-allow") == "existing":
        allowed |= {tag for guest in ask.world.guests.values() for tag in tags_of(guest.config.get("tags", ""))
                    if ask.has(f"/vms/{guest.vmid}", "VM.Audit")}  # fmt: skip
    for tag in sorted(tags_of(old) ^ tags_of(new)):
        free = access.get("user-allow", "free") == "free" or tag in allowed
        if not free or tag in ask.world.options.get("registered-tags", []):
            raise denied(f"/, Sys.Modify for modifying tag '{tag}'")


def tags_of(text: Value) -> set[str]:
    return set(filter(None, re.split(r"[\s,;]+", str(text))))


def need(ask: Ask, path: str, *wanted: str) -> None:
    """The privilege on the VM, or, while it is being made, on the pool it is to be in."""
    pool = ask.get("pool")
    if pool and ask.has(f"/pool/{pool}", *wanted, any_of=True):
        return
    ask.need(path, *wanted, any_of=True)


def check(ask: Ask, names: Iterable[str]) -> None:
    """All that is refused of options before a task starts."""
    path = f"/vms/{ask.vmid}"
    if (keys := ask.get("sshkeys")) and not good_keys(unquote(str(keys))):
        raise died("SSH public key validation error")
    for name in sorted(names):
        if ask.given[name] is None:
            raise died(f"unable to parse value of '{name}' - got undefined value")
        if DRIVE.fullmatch(name):
            check_drive(ask, name, ask.given[name])
    for name in sorted(names):
        permitted(ask, name, str(ask.given[name]), path)
    for name in sorted(names):
        if base(name) == "net" and "bridge=" in str(ask.given[name]):
            check_bridge(ask, str(ask.given[name]))


def good_keys(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return all(re.match(r"(\S+ )?(ssh-|ecdsa-|sk-)\S+ AAAA\S{20,}", line) for line in lines)


def check_bridge(ask: Ask, text: str) -> None:
    """SDN.Use on the bridge, or on the vnet of that name in its zone; with a VLAN, on that VLAN of it. Whether there is
    such a bridge is not asked (check_vnet_access of pve-guest-common)."""
    bridge = text.partition("bridge=")[2].split(",")[0]
    vnet = ask.world.sdn.config["vnets"].get(bridge)
    tag = re.search(r",tag=(\d+)", text)
    path = f"/sdn/zones/{vnet['zone'] if vnet else 'localnetwork'}/{bridge}"
    ask.need(f"{path}/{tag[1]}" if tag else path, "SDN.Use")


def in_pool(ask: Ask) -> None:
    """A pool that is named must be there: a 403 where it is not."""
    if ask.get("pool") and ask["pool"] not in ask.world.pools:
        raise denied(f"pool '{ask['pool']}' does not exist")
