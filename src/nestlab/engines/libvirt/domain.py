"""libvirt's domain for a machine: the same machine that `engines.qemu.argv` starts. Pure, with golden files in
tests/golden/libvirt.

What libvirt has no words for is said to its QEMU in QEMU's own (`qemu:commandline`): the card that leads to its host,
with a port of 127.0.0.1 that leads to its sshd and with no way to anywhere else, and the name by which nestlab knows
its processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from nestlab.base.frozen import frozen
from nestlab.engines.libvirt.mark import Mark, domain_name, domain_uuid, metadata
from nestlab.engines.libvirt.xml import element, written
from nestlab.engines.qemu import argv, disk_devices, hardware_argv
from nestlab.engines.qemu.argv import QBOOT, Drive, Launch
from nestlab.engines.qemu.usernet import NETDEV
from nestlab.lab.blueprint import Nic
from nestlab.lab.disks import Bus
from nestlab.lab.hardware import flags_of, model_of
from nestlab.network.network_script import bridge_name

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"

MANAGEMENT_SLOT = "0x1c"
"""The slot of the card to the host on the first PCI bus: libvirt, which does not know of it, fills them from below."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PREFIX: dict[Bus, str] = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd", "nvme": "nvme"}


@frozen
class Plan:
    """What a domain is made from. `user`: whom QEMU runs as, `+UID:+GID`; "": as libvirt has it. Files are that user's
    already, and change no hands."""

    launch: Launch
    mark: Mark
    user: str = ""

    @property
    def name(self) -> str:
        return domain_name(self.mark.lab, self.mark.path)

    @property
    def uuid(self) -> str:
        return domain_uuid(self.mark.lab, self.mark.path)


def xml(plan: Plan) -> str:
    """The domain's XML, as `virsh define` takes it."""
    launch = plan.launch
    machine = launch.spec.machine
    topology = machine.hardware.topology
    shape = None
    if topology is not None:
        parts = {"sockets": topology.sockets, "dies": 1, "cores": topology.cores, "threads": topology.threads}
        shape = element("topology", "", **parts)
    root = element(
        "domain",
        "",
        element("name", plan.name),
        element("uuid", plan.uuid),
        element("genid", launch.generation) if launch.generation and not argv.is_lean(launch) else None,
        element("title", f"{plan.mark.lab}:{plan.mark.path}"),
        metadata(plan.mark),
        element("memory", str(machine.memory >> 10), unit="KiB"),
        element("vcpu", str(machine.cpus)),
        _os(launch),
        _features(launch),
        _cpu(launch, shape),
        element("clock", "", element("timer", name="hpet", present="no"), offset="utc"),
        element("on_poweroff", "destroy"),
        element("on_reboot", "restart"),
        element("on_crash", "preserve" if launch.keep else "destroy"),
        element("devices", "", *_devices(launch, bool(plan.user))),
        _label(plan.user) if plan.user else None,
        _words(launch),
        type="kvm" if launch.accel == "kvm" else "qemu",
        **{"xmlns:qemu": QEMU_NAMESPACE},
    )
    return written(root)


def _os(launch: Launch) -> Element:
    board = argv.board_of(launch)
    kernel = launch.kernel
    parts = [element("type", "hvm", arch="x86_64", machine=board)]
    if (uefi := launch.uefi) is not None:
        secure = "yes" if uefi.firmware == "secure" else None
        parts.append(element("loader", uefi.code, readonly="yes", type="pflash", secure=secure))
        parts.append(element("nvram", launch.paths.variables(uefi.firmware)))
    if kernel is None:
        return element("os", "", *parts)
    if argv.is_lean(launch):
        parts.append(element("loader", QBOOT, type="rom"))
    words = " ".join(argv.kernel_words(launch))
    image = launch.paths.kernel if kernel.lowered else kernel.vmlinux
    parts += [element("kernel", image), element("initrd", kernel.initrd), element("cmdline", words)]
    return element("os", "", *parts)


def _features(launch: Launch) -> Element:
    """Only firmware in the CPU's management mode writes the variables of a UEFI that checks signatures."""
    secure = launch.uefi is not None and launch.uefi.firmware == "secure"
    mode = element("smm", state="on") if secure else None
    return element("features", "", element("acpi"), element("apic"), element("vmport", state="off"), mode)


def _cpu(launch: Launch, topology: Element | None) -> Element:
    """A model with the flags that it is to have or not. `host` is all that the host has; emulated, `max` is all that
    is emulated."""
    said = hardware_argv.cpu_of(launch.spec.machine, launch.accel)
    model, flags = model_of(said), flags_of(said)
    features = [
        element("feature", policy="require" if value == "on" else "disable", name=name)
        for name, value in flags.items()
        if value in ("on", "off")
    ]
    if model in ("host", "max"):
        mode = "host-passthrough" if model == "host" else "maximum"
        return element("cpu", "", topology, *features, mode=mode, check="none")
    named = element("model", model, fallback="forbid")
    return element("cpu", "", named, topology, *features, mode="custom", match="exact", check="none")


def _label(user: str) -> Element:
    """libvirt gives sockets that it makes for the machine to that user as well: nestlab is on their other end."""
    return element("seclabel", "", element("label", user), type="static", model="dac", relabel="yes")


def _devices(launch: Launch, owned: bool) -> Iterator[Element]:
    hardware = launch.spec.machine.hardware
    order = argv.boot_order(launch)
    yield from _disks(launch, order, owned)
    yield element("controller", type="usb", index=0, model="none")
    for number, nic in enumerate(launch.spec.nics):
        yield _interface(launch, nic, disk_devices.index_of(order, f"net{number}").get("bootindex"))
    yield element(
        "serial",
        "",
        element("source", mode="bind", path=launch.paths.console),
        element("log", file=launch.paths.log, append="on"),
        element("target", type="isa-serial", port=0),
        type="unix",
    )
    if launch.spec.machine.image.base != "tiny":
        source = element("source", mode="bind", path=launch.paths.agent)
        target = element("target", type="virtio", name="org.qemu.guest_agent.0")
        yield element("channel", "", source, target, type="unix")
    if launch.kernel is None or hardware.display:
        yield element("video", "", element("model", type="vga"))
    if hardware.watchdog:
        yield element("watchdog", model="i6300esb", action="reset")
    yield element("memballoon", model="none")
    yield element("rng", "", element("backend", "/dev/urandom", model="random"), model="virtio")
    if launch.kernel is not None:
        yield element("panic", model="isa")


def _disks(launch: Launch, order: list[str], owned: bool) -> Iterator[Element]:
    names = {bus: iter(_targets(prefix)) for bus, prefix in _PREFIX.items()}
    names["sata"] = names["scsi"]  # both are sd…
    for drive in launch.drives:
        bus = argv.bus_of(launch, drive)
        turn = disk_devices.index_of(order, drive.serial).get("bootindex")
        yield _disk(drive, next(names[bus]), bus, turn, owned=owned)
    for disk in launch.spec.disks:
        drive = Drive(disk_devices.file_of(launch.paths, disk), "qcow2", disk.serial)
        turn = disk_devices.index_of(order, disk.id).get("bootindex")
        yield _disk(drive, next(names[disk.bus]), disk.bus, turn, ssd=disk.ssd, owned=owned)
    cdrom: Bus = "sata" if argv.board_of(launch) == "q35" else "ide"
    for number, file in enumerate(launch.cdroms):
        turn = disk_devices.index_of(order, f"cdrom{number}").get("bootindex")
        drive = Drive(file, "raw", "", readonly=True)
        yield _disk(drive, next(names[cdrom]), cdrom, turn, device="cdrom", owned=owned)
    if "scsi" in {launch.spec.machine.bus if launch.kernel is None else "", *(disk.bus for disk in launch.spec.disks)}:
        yield element("controller", type="scsi", index=0, model="virtio-scsi")


def _targets(prefix: str) -> Iterator[str]:
    yield from (f"{prefix}{letter}" for letter in _LETTERS)
    yield from (f"{prefix}{first}{second}" for first in _LETTERS for second in _LETTERS)


def _disk(
    drive: Drive,
    target: str,
    bus: Bus,
    turn: int | None,
    *,
    device: str = "disk",
    ssd: bool = False,
    owned: bool = False,
) -> Element:
    """`turn`: when firmware tries it, None: never. A block device is one by its name. `owned`: it has the owner that
    QEMU runs as, and libvirt leaves that as it is."""
    driver = {"name": "qemu", "type": drive.format}
    driver |= {} if drive.readonly else {"cache": "unsafe", "discard": "unmap"}
    return element(
        "disk",
        "",
        element("driver", "", **driver),
        source(drive.file, owned=owned),
        element("target", dev=target, bus=bus, rotation_rate=1 if ssd and bus != "virtio" else None),
        element("readonly") if drive.readonly else None,
        element("serial", drive.serial) if drive.serial else None,
        element("boot", order=turn) if turn is not None else None,
        type="block" if drive.file.startswith("/dev/") else "file",
        device=device,
    )


def source(file: str, *, owned: bool) -> Element:
    """The element of a disk that says what is on it: see `_disk`."""
    kept = element("seclabel", model="dac", relabel="no") if owned else None
    return element("source", "", kept, **{"dev" if file.startswith("/dev/") else "file": file})


def _interface(launch: Launch, nic: Nic, turn: int | None) -> Element:
    """Inside a hypervisor a segment is a bridge; on the lab's own level it is a network of nestlab's (`networks`)."""
    network = launch.switch
    on = {"network": f"{network}.{nic.segment}"} if network else {"bridge": bridge_name(nic.segment)}
    return element(
        "interface",
        "",
        element("mac", address=nic.mac),
        element("source", **on),
        element("model", type=nic.card),
        element("mtu", size=nic.mtu),
        element("boot", order=turn) if turn is not None else None,
        element("rom", enabled="no") if launch.kernel is not None else None,
        type="network" if network else "bridge",
    )


def _words(launch: Launch) -> Element:
    """What libvirt is to pass on. QEMU takes the later of two names."""
    spec = launch.spec
    bus = "pcie.0" if argv.board_of(launch) == "q35" else "pci.0"
    card = [hardware_argv.DEVICES[spec.machine.card], f"netdev={NETDEV}", f"mac={launch.management_mac}"]
    card += ["romfile="] if launch.kernel is not None else []
    words = ["-name", argv.name_of(launch.lab, spec.path)]
    words += ["-netdev", argv.management(launch)]
    words += ["-device", ",".join([*card, f"bus={bus}", f"addr={MANAGEMENT_SLOT}"])]
    # libvirt knows TPMs of others only from 9.1 on, and its own keep their state outside of the lab's directory.
    words += hardware_argv.tpm(launch.paths) if launch.swtpm else []
    return element("qemu:commandline", "", *(element("qemu:arg", value=word) for word in words))
