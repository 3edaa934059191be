"""What a machine can become while it runs, as options of QEMU's command line and arguments of its monitor. Pure.

Memory above what it was started with is in one virtio-mem device, which is plugged in when it is first wanted: until
then it costs an address range, and on `q35` a free port. More CPUs come into sockets that are empty at its start. Linux
takes those only where it knows that it is in a machine: an emulated one looks to it like hardware, whose firmware lists
CPUs that will never be there (arch/x86/kernel/acpi/boot.c, acpi_is_processor_usable; seen with Debian's 6.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nestlab.engines.qemu.accel import Accelerator
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import MIB, Machine
from nestlab.plan.room import ANY_SIZE, NO_ROOM, Room

GIB = 1 << 30

LEAST, MOST = 4 * GIB, 16 * GIB
"""Bytes that a machine may get above what it was started with: twice that, at least and at most so many. (The addresses
of some processors end at 64 GiB.)"""

CPUS = 8
"""CPUs that a machine may have, where it was not started with more."""

PORT = "memory-port"
"""The PCIe port that is kept free for the device."""

BACKEND, DEVICE = "more", "more-memory"
"""The ids of the memory, and of its device."""

PLACE = ("socket-id", "core-id", "thread-id")
"""Where a CPU is."""

SMALL = 2 * GIB
"""Bytes of memory that leave none above 4 GiB, where only cards and disks of this century reach."""


def of(spec: Spec, accel: Accelerator, *, by_kernel: bool) -> Room:
    """What a machine has when it is started. `by_kernel`: QEMU starts its kernel, which is one of nestlab's images'. In
    others nobody would bring a CPU or memory into use."""
    machine = spec.machine
    if machine.container:
        return ANY_SIZE
    if not (by_kernel and machine.by_ssh and machine.image.own):
        return NO_ROOM
    cards, disks = {machine.card, *(nic.card for nic in spec.nics)}, {disk.bus for disk in spec.disks}
    reached = "rtl8139" not in cards and "ide" not in disks and not machine.cdroms
    more = min(max(LEAST, 2 * machine.memory), MOST) if reached and machine.image.base != "tiny" else 0
    sockets = max(1, CPUS // machine.cpus) if accel == "kvm" and machine.hardware.topology is None else 0
    return Room(machine.memory, more, machine.cpus if sockets else 0, machine.cpus * sockets)


def smp(room: Room) -> str:
    """QEMU's -smp; "" where the machine has no room for CPUs."""
    if not room.cores:
        return ""
    return f"{room.cores},sockets={room.cpus // room.cores},cores={room.cores},threads=1,maxcpus={room.cpus}"


def cpus(room: Room, machine: Machine, model: str) -> list[str]:
    """The CPUs that came since its start, for a machine that moves: by those that it was started with QEMU decides how
    many queues its disks have."""
    more = range(room.cores, machine.cpus) if room.cores else ()
    return [word for number in more for word in ("-device", _joined(cpu(f"{model}-x86_64-cpu", _at(room, number))))]


def _at(room: Room, number: int) -> dict[str, int]:
    socket, core = divmod(number, room.cores)
    return {"socket-id": socket, "core-id": core, "thread-id": 0}


def cpu(driver: str, place: Mapping[str, int]) -> dict[str, Any]:
    """The arguments of device_add for a CPU. `place`: as query-hotpluggable-cpus tells it."""
    where = [place.get(name, 0) for name in PLACE]
    named = {name: value for name, value in place.items() if name != "node-id"}
    return {"driver": driver, "id": "cpu-" + "-".join(map(str, where)), **named}


def memory(room: Room, machine: Machine) -> str:
    """QEMU's -m."""
    if not room.more:
        return f"{machine.memory // MIB}M"
    return f"{room.memory // MIB}M,maxmem={(room.memory + room.more) // MIB}M"


def ports(room: Room, *, pcie: bool) -> list[str]:
    """The port that the device comes to; the bus of `pc` takes devices as it is."""
    return ["-device", f"pcie-root-port,id={PORT},chassis=200,slot=200"] if room.more and pcie else []


def plugged(room: Room, machine: Machine, *, pcie: bool) -> list[str]:
    """The device, for a machine that had it where it comes from."""
    if not room.plugged:
        return []
    place = {"bus": PORT} if pcie else {}
    return ["-object", _joined(backend(room)), "-device", _joined(device(machine.memory - room.memory, **place))]


def backend(room: Room) -> dict[str, Any]:
    """The arguments of object-add: memory that costs nothing until it is used."""
    return {"qom-type": "memory-backend-ram", "id": BACKEND, "size": room.more, "reserve": False}


def device(size: int, **place: Any) -> dict[str, Any]:
    """The arguments of device_add. `size`: bytes that the machine gets by it."""
    return {"driver": "virtio-mem-pci", "id": DEVICE, "memdev": BACKEND, **place, "requested-size": size}


def words(room: Room) -> tuple[str, ...]:
    """What the kernel is told. As soon as there may be memory above 4 GiB, it puts 64 MiB aside for devices that do not
    reach there: no machine with room has one, so the least is enough (1 MiB)."""
    return ("swiotlb=512",) if room.more and room.memory <= SMALL else ()


def _joined(arguments: Mapping[str, Any]) -> str:
    """Arguments of the monitor as an option, whose first word is what is made."""
    kind, *rest = arguments.items()
    words = [f"{key}={('off', 'on')[value] if isinstance(value, bool) else value}" for key, value in rest]
    return ",".join([kind[1], *words])
