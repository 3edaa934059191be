"""A machine as parameters of the Proxmox VE API, versions 8 and 9. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nestlab.base.errors import LabError
from nestlab.engines.pve.cpu_types import Cpu
from nestlab.engines.qemu.launch import ID_SERIAL
from nestlab.lab.blueprint import Blueprint, Spec, mac_of
from nestlab.lab.model import MIB, Pve

Params = dict[str, str | int]

IDENTITY = "virtio2"
"""The slot of the disk that says who a machine is; virtio0 is its own disk, virtio1 what it is booted from."""

FIRST_CARGO, LAST_VIRTIO = 3, 15
"""virtio15 is the last there is (qemu-server, Drive.pm: MAX_VIRTIO_DISKS)."""

MOST_CARGO = LAST_VIRTIO - FIRST_CARGO + 1

NAME_LIMIT = 63

CARD = re.compile(r"net\d+")
"""The options that are network cards."""

USUAL_MTU = 1500
"""What a card has unless something else is said."""

OUTSIDE = "@bridge"
"""In place of a segment's name: the card on a bridge of the node, which no segment can be called."""


@dataclass(frozen=True)
class Wire:
    """Where a segment is on a node: a bridge or a vnet, and a VLAN tag on it."""

    bridge: str
    tag: int | None = None


@dataclass(frozen=True)
class Choices:
    """The choices made for one machine: `wires` by segment, `outside` the bridge of its card with DHCP."""

    vmid: int
    cpu: Cpu
    storage: str
    wires: Mapping[str, Wire]
    outside: str | None = None
    pool: str = "nestlab"


def name_of(lab: str, path: str) -> str:
    """What a machine is called on a PVE. Nothing depends on it; `up` gives it back to what somebody renamed."""
    return f"{lab}-{path.replace('/', '-')}"[:NAME_LIMIT].rstrip("-")


def outside_mac(lab: str, path: str) -> str:
    """The MAC address of a machine's card on a bridge of its node."""
    return mac_of(lab, path, OUTSIDE)


def outside_of(spec: Spec, pve: Pve) -> str | None:
    """The bridge of the node that a machine has a card on: only with `internet: true`. LabError where none is named."""
    if not spec.machine.internet:
        return None
    if pve.bridge is None:
        what = f"{spec.path} has `internet: true`, and the lab names no bridge of its Proxmox VE that leads there."
        raise LabError(what, hint="Name one that has DHCP: `on: {pve: …, bridge: vmbr0}`.")
    return pve.bridge


def machine(spec: Spec, lab: str, choices: Choices) -> Params:
    """The configuration of a virtual machine, without its disks and its marks.

    The guest's own bridges must see all frames, so no card has a firewall (its macfilter knows one address only); a
    balloon would take memory from machines inside, which are all pinned. Disks are not plugged in or out while it runs:
    what is changed then holds from its next start.
    """
    params: Params = {
        "name": name_of(lab, spec.path),
        "cores": spec.machine.cpus,
        "sockets": 1,
        "memory": mebibytes(spec.machine.memory),
        "balloon": 0,
        "cpu": choices.cpu.line,
        "kvm": int(choices.cpu.kvm),
        "machine": "q35" if spec.machine.hypervisor else "pc",
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "agent": "enabled=1",
        "serial0": "socket",
        "hotplug": "network,usb",
    }
    for number, card in enumerate(_cards(spec, lab, choices)):
        params[f"net{number}"] = card
    return params


def _cards(spec: Spec, lab: str, choices: Choices) -> Iterable[str]:
    for nic in spec.nics:
        yield _card(nic.mac, choices.wires[nic.segment], nic.mtu)
    if choices.outside:
        yield _card(outside_mac(lab, spec.path), Wire(choices.outside), USUAL_MTU)


def _card(mac: str, wire: Wire, mtu: int) -> str:
    parts = [f"virtio={mac.upper()}", f"bridge={wire.bridge}", "firewall=0"]
    parts += [f"mtu={mtu}"] if mtu != USUAL_MTU else []
    parts += [f"tag={wire.tag}"] if wire.tag is not None else []
    return ",".join(parts)


def disks(storage: str, identity: str, cargo: Sequence[tuple[str, str]]) -> Params:
    """The disks beside those of its template, imported from uploaded volumes: `identity`, and `cargo` by serial."""
    found: Params = {IDENTITY: identity_disk(storage, identity)}
    for number, (serial, volid) in enumerate(cargo[:MOST_CARGO], FIRST_CARGO):
        found[f"virtio{number}"] = f"{storage}:0,import-from={volid},serial={serial},ro=1,backup=0"
    return found


def identity_disk(storage: str, volid: str) -> str:
    return f"{storage}:0,import-from={volid},serial={ID_SERIAL},ro=1"


def container(spec: Spec, lab: str, choices: Choices, *, ostemplate: str, disk: int, authorized: str) -> Params:
    """Everything to make a container: unprivileged, with nesting, which is all that an API token may ask for."""
    params: Params = {
        "vmid": choices.vmid,
        "ostemplate": ostemplate,
        "hostname": spec.machine.name,
        "pool": choices.pool,
        "unprivileged": 1,
        "features": "nesting=1",
        "cores": spec.machine.cpus,
        "memory": mebibytes(spec.machine.memory),
        "swap": 0,
        "rootfs": f"{choices.storage}:{-(-disk // (1 << 30))}",
        "ssh-public-keys": authorized.strip(),
    }
    for number, nic in enumerate(spec.nics):
        params[f"net{number}"] = _veth(number, nic.mac, choices.wires[nic.segment], nic.mtu, nic.addresses)
    if choices.outside:
        last = len(spec.nics)
        params[f"net{last}"] = _veth(last, outside_mac(lab, spec.path), Wire(choices.outside), USUAL_MTU, ("dhcp",))
    return params


def _veth(number: int, mac: str, wire: Wire, mtu: int, addresses: Sequence[str]) -> str:
    parts = [f"name=eth{number}", f"bridge={wire.bridge}", f"hwaddr={mac.upper()}", "firewall=0"]
    parts += [f"{'ip6' if ':' in address else 'ip'}={address}" for address in addresses]
    parts += [f"mtu={mtu}"] if mtu != USUAL_MTU else []
    parts += [f"tag={wire.tag}"] if wire.tag is not None else []
    return ",".join(parts)


def mebibytes(size: int) -> int:
    """Memory in MiB as PVE counts it, rounded up; at least 16."""
    return max(16, -(-size // MIB))


def root_key(config: Mapping[str, object]) -> str:
    """Which drive is the machine's own disk: that with the serial number `root`, else the first that it boots."""
    for key, value in sorted(config.items()):
        if key.startswith("virtio") and "serial=root" in str(value).split(","):
            return key
    order = str(config.get("boot", "")).partition("order=")[2].split(",")[0].split(";")
    return order[0] if order[0] in config else ""


def size_of(drive: object) -> int:
    """Bytes of a drive as its configuration tells (`size=2560M`); 0 where it does not."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    text = next((part[5:] for part in str(drive).split(",") if part.startswith("size=")), "0")
    scale = units.get(text[-1:], 1)
    number = text.rstrip("KMGT")
    return int(float(number) * scale) if number.replace(".", "", 1).isdigit() else 0


def volume_of(drive: object) -> str:
    """The volume of a drive."""
    first = str(drive).split(",")[0]
    return first.removeprefix("file=")


def refused(blueprint: Blueprint, pve: Pve) -> list[str]:
    """Keys that machines on a Proxmox VE cannot have, a sentence each."""
    found = []
    for spec in blueprint.children(""):
        if spec.machine.cmdline:
            found.append(
                f"{spec.path} has kernel words of its own (`cmdline`), and on a Proxmox VE all machines of an image "
                "share the disk that has them."
            )
        if spec.machine.container and spec.machine.hypervisor:
            found.append(f"{spec.path} is a container, and machines inside it would need one of its own kernel.")
        if len(spec.machine.name) and spec.machine.internet and pve.bridge is None:
            found.append(f"{spec.path} has `internet: true`, and the lab names no `bridge` of its Proxmox VE.")
    return found
