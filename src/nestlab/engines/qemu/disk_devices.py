"""Disks beside a machine's own as QEMU's devices, on its command line and through its monitor alike. Pure.

What goes in and out while the machine runs: on `q35` each virtio and nvme disk has a PCIe port of its own, and a few
more are kept free; the bus of `pc` takes devices as it is. A controller is there where a disk needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nestlab.home.paths import MachinePaths
from nestlab.lab.disks import BOOTS, Bus, MadeDisk
from nestlab.lab.model import NO_IMAGE, Machine
from nestlab.plan.steps import Plugs

PORT = "disk-port-"
"""What the ids of PCIe ports for disks begin with; a number follows."""

SPARE = 4
"""Such ports that are kept free."""

_SLOT, _FUNCTIONS = 0x18, 8
"""The first slot of the ports, which share slots: those below are left to cards and what else there is."""

_ON_PC = 8
"""Disks that a bus of `pc`, with its 32 slots, is said to take while the machine runs."""

ON_PCI: tuple[Bus, ...] = ("virtio", "nvme")

Options = dict[str, Any]


def file_of(paths: MachinePaths, disk: MadeDisk) -> str:
    """The file of a disk in its machine's directory: always a qcow2 layer."""
    return f"{paths.root}/{disk.id}.qcow2"


def device_of(disk: MadeDisk) -> str:
    """The id of its device."""
    return f"{disk.id}-device"


def blockdev(paths: MachinePaths, disk: MadeDisk) -> Options:
    """The arguments of blockdev-add (QEMU's qapi/block-core.json); as the machine's own disk, nothing is synced."""
    cache = {"no-flush": True}
    below = {"driver": "file", "filename": file_of(paths, disk), "discard": "unmap", "cache": cache}
    return {"driver": "qcow2", "node-name": disk.id, "discard": "unmap", "cache": cache, "file": below}


def device(disk: MadeDisk, **place: Any) -> Options:
    """The arguments of device_add. `place`: where on its bus, and its turn at booting."""
    made = {"id": device_of(disk), "drive": disk.id, "serial": disk.serial, **place}
    turns = {"rotation_rate": 1} if disk.ssd else {}
    match disk.bus:
        case "virtio":
            return {"driver": "virtio-blk-pci", **made}
        case "nvme":
            return {"driver": "nvme", **made}
        case "scsi":
            return {"driver": "scsi-hd", "bus": "scsi.0", **made, **turns}
    return {"driver": "ide-hd", **made, **turns}


def options(
    board: str, paths: MachinePaths, disks: Sequence[MadeDisk], order: Sequence[str], own_bus: Bus = "virtio"
) -> list[str]:
    """The words of the command line. `order`: see `boot_order`; `own_bus`: what the machine's own disk is on."""
    if not disks:
        return []
    words: list[str] = []
    buses = {disk.bus for disk in disks}
    on_ports = board == "q35"
    if on_ports:
        count = sum(disk.bus in ON_PCI for disk in disks) + SPARE
        words += [word for number in range(count) for word in ("-device", _port(number))]
    if "scsi" in buses:
        words += ["-device", "virtio-scsi-pci,id=scsi"]
    if "sata" in buses:
        words += ["-device", "ich9-ahci,id=sata"]
    if "ide" in buses and on_ports:
        words += ["-device", "piix3-ide,id=pata"]
    for disk, place in zip(disks, _places(disks, on_ports, own_bus), strict=True):
        place |= index_of(order, disk.id)
        words += ["-blockdev", _json(blockdev(paths, disk)), "-device", _json(device(disk, **place))]
    return words


def own(board: str, bus: Bus, said: str) -> list[str]:
    """The devices of a machine's own disk, its controller first. `q35` has SATA on board, and `pc` IDE."""
    match bus:
        case "virtio":
            return [f"virtio-blk-pci,{said}"]
        case "nvme":
            return [f"nvme,{said}"]
        case "scsi":
            return ["virtio-scsi-pci,id=own", f"scsi-hd,bus=own.0,{said}"]
        case "sata":
            return [f"ide-hd,bus=ide.0,{said}"] if board == "q35" else ["ich9-ahci,id=own", f"ide-hd,bus=own.0,{said}"]
    return ["piix3-ide,id=own", f"ide-hd,bus=own.0,{said}"] if board == "q35" else [f"ide-hd,bus=ide.0,{said}"]


def _port(number: int) -> str:
    slot, function = divmod(number, _FUNCTIONS)
    address = f"{_SLOT + slot:#x}.{function}"
    shared = ",multifunction=on" if not function else ""
    return f"pcie-root-port,id={PORT}{number},chassis={number + 2},addr={address}{shared},io-reserve=0"


def _places(disks: Iterable[MadeDisk], on_ports: bool, own_bus: Bus) -> Iterator[Options]:
    """Where each disk is on its bus. On `pc` the IDE channels are those of the board, its own disk first."""
    taken = {"ide": 0} if own_bus == "ide" and not on_ports else {}
    for disk in disks:
        kind = "pci" if disk.bus in ON_PCI else disk.bus
        number = taken[kind] = taken.get(kind, -1) + 1
        if kind == "pci":
            yield {"bus": f"{PORT}{number}"} if on_ports else {}
        elif kind == "sata":
            yield {"bus": f"sata.{number}"}
        elif kind == "ide":
            yield {"bus": f"{'pata' if on_ports else 'ide'}.{number // 2}", "unit": number % 2}
        else:
            yield {}


def plugs(board: str, disks: Sequence[MadeDisk], *, spare: bool) -> Plugs:
    """What a machine takes while it runs. `spare`: it has the port that is kept free on every `q35` (`argv`)."""
    scsi = any(disk.bus == "scsi" for disk in disks)
    if board != "q35":
        return Plugs(_ON_PC, scsi, out=True)
    return Plugs(int(spare) + (SPARE if disks else 0), scsi, out=True)


def boot_order(machine: Machine, disks: Sequence[MadeDisk]) -> list[str]:
    """The devices that firmware tries, in order: `root`, ids of disks, `cdrom0` …, `net0` …; [] where nothing is said
    and there is nothing to choose from: then firmware tries its disk and its CD-ROM, as ever."""
    if not (machine.boot or machine.disks or machine.cdroms or machine.image.base == NO_IMAGE):
        return []
    medium = int(machine.image.format == "iso")
    cards = [f"net{number}" for number in range(len(machine.links))]
    found = {
        "disk": ["root", *(disk.id for disk in disks)],
        "cdrom": [f"cdrom{number}" for number in range(medium + len(machine.cdroms))],
        "network": cards,
    }
    return [device for word in machine.boot or BOOTS for device in found[word]]


def index_of(order: Sequence[str], device: str) -> Options:
    """The turn of a device at booting, as an option."""
    return {"bootindex": order.index(device) + 1} if device in order else {}


def _json(value: Options) -> str:
    return json.dumps(value, separators=(",", ":"))
