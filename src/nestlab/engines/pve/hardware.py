"""A machine as parameters of the Proxmox VE API, versions 8 and 9. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.pve import hardware_options
from nestlab.engines.pve.cpu_types import Cpu
from nestlab.engines.qemu.launch import ID_SERIAL
from nestlab.lab.blueprint import Blueprint, Nic, Spec, mac_of
from nestlab.lab.model import MIB
from nestlab.lab.places import Pve

Params = dict[str, str | int]

IDENTITY = "virtio2"
"""The slot of the disk that says who a machine is; virtio0 is its own disk, virtio1 what it is booted from."""

FIRST_CARGO, LAST_VIRTIO = 3, 15
"""virtio15 is the last there is (qemu-server, Drive.pm: MAX_VIRTIO_DISKS)."""

MOST_CARGO = LAST_VIRTIO - FIRST_CARGO + 1

DRIVE = re.compile(r"(virtio|scsi|sata|ide)\d+")
"""The options that are drives."""

NAME_LIMIT = 63

CARD = re.compile(r"net\d+")
"""The options that are network cards."""

USUAL_MTU = 1500
"""What a card has unless something else is said."""

OUTSIDE = "@bridge"
"""In place of a segment's name: the card on a bridge of the node, which no segment can be called."""


@frozen
class Wire:
    """Where a segment is on a node: a bridge or a vnet, and a VLAN tag on it."""

    bridge: str
    tag: int | None = None

    def of(self, nic: Nic) -> Wire:
        """Where one card is on it: on the VLAN that it says. A card without a tag on a bridge that tells VLANs apart is
        a trunk of all of them (pve-common, Network.pm: bridge_add_interface)."""
        return self if nic.vlan is None else replace(self, tag=nic.vlan)


@frozen
class Choices:
    """The choices made for one machine: `wires` by segment, `outside` the bridge of its card with DHCP."""

    vmid: int
    cpu: Cpu
    storage: str
    wires: Mapping[str, Wire]
    outside: str | None = None
    pool: str = "nestlab"
    first_name: str = ""
    """What the lab was called when it was made, if it was renamed since."""


def name_of(lab: str, path: str) -> str:
    """What a machine is called on a PVE. Nothing depends on it; `up` gives it back to what somebody renamed."""
    return f"{lab}-{path.replace('/', '-')}"[:NAME_LIMIT].rstrip("-")


def outside_mac(lab: str, path: str) -> str:
    """The MAC address of a machine's card on a bridge of its node. `lab`: the first name that it had."""
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
    balloon would take memory from machines inside, which are all pinned. Disks are plugged in or out while it runs only
    where the lab file has some beside its own; else what is changed then holds from its next start.
    """
    params: Params = {
        "name": name_of(lab, spec.path),
        **hardware_options.processors(spec.machine),
        "memory": mebibytes(spec.machine.memory),
        "balloon": 0,
        "cpu": choices.cpu.line,
        "kvm": int(choices.cpu.kvm),
        "machine": hardware_options.board(spec.machine),
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "agent": "enabled=1",
        "serial0": "socket",
        "hotplug": "disk,network,usb" if spec.machine.disks else "network,usb",
        **hardware_options.optional(spec, choices.first_name or lab),
    }
    for number, card in enumerate(_cards(spec, lab, choices)):
        params[f"net{number}"] = card
    return params


def _cards(spec: Spec, lab: str, choices: Choices) -> Iterable[str]:
    for nic in spec.nics:
        yield _card(
            hardware_options.card(nic), choices.wires[nic.segment].of(nic), hardware_options.mtu(nic, USUAL_MTU)
        )
    if choices.outside:
        mac = outside_mac(choices.first_name or lab, spec.path).upper()
        yield _card(f"virtio={mac}", Wire(choices.outside), [])


def moved(options: Iterable[str], spec: Spec, wires: Mapping[str, Wire]) -> dict[str, str]:
    """The cards of a machine, of a container too, whose segment is on another bridge or tag than they were put on, as
    they are to be. `options`: what was set, as `key=value`."""
    kept = dict(line.split("=", 1) for line in options)
    found = {}
    for number, nic in enumerate(spec.nics):
        was, wire = kept.get(f"net{number}"), wires.get(nic.segment)
        if was is None or wire is None:
            continue
        wire = wire.of(nic)
        parts = [f"bridge={wire.bridge}" if part.startswith("bridge=") else part for part in was.split(",")]
        parts = [part for part in parts if not part.startswith("tag=")]
        value = ",".join([*parts, *([f"tag={wire.tag}"] if wire.tag is not None else [])])
        if value != was:
            found[f"net{number}"] = value
    return found


def _card(card: str, wire: Wire, mtu: Sequence[str]) -> str:
    parts = [card, f"bridge={wire.bridge}", "firewall=0", *mtu]
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
        params[f"net{number}"] = _veth(number, nic.mac, choices.wires[nic.segment].of(nic), nic.mtu, nic.addresses)
    if choices.outside:
        last, mac = len(spec.nics), outside_mac(choices.first_name or lab, spec.path)
        params[f"net{last}"] = _veth(last, mac, Wire(choices.outside), USUAL_MTU, ("dhcp",))
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
        if DRIVE.fullmatch(key) and "serial=root" in str(value).split(","):
            return key
    order = str(config.get("boot", "")).partition("order=")[2].split(",")[0].split(";")
    return order[0] if order[0] in config else ""


def size_of(drive: object) -> int:
    """Bytes of a drive as its configuration tells (`size=2560M`); 0 where it does not."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    text = next((part[5:] for part in str(drive).split(",") if part.startswith("size=")), "0")
    scale = units.get(text[-1:], 1)
    number = text.rstrip("KMGT")
    sound = len(number) <= 15 and number.isascii() and number.replace(".", "", 1).isdigit()
    return int(float(number) * scale) if sound else 0


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
        ready, bridged = spec.machine.ready, {each.name for each in blueprint.segments if each.bridge is not None}
        named = any(nic.segment in bridged and nic.addresses for nic in spec.nics)
        if ready.by == "port" and not named and not (spec.machine.internet and pve.bridge):
            found.append(
                f"{spec.path} has `{ready.said}`, and no port of it can be reached from here: put it on a segment with "
                "a `bridge:` of the nodes, or say another `ready`."
            )
        if ready.by == "screen" and not pve.address.startswith("pve://"):
            found.append(
                f"{spec.path} has `{ready.said}`, and no screen can be fetched over pve+ssh or pve+local: reach that "
                "Proxmox VE by its API (`on: pve://…`), or say another `ready`."
            )
        if len(spec.machine.name) and spec.machine.internet and pve.bridge is None:
            found.append(f"{spec.path} has `internet: true`, and the lab names no `bridge` of its Proxmox VE.")
    return found
