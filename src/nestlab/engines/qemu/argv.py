"""QEMU's command line for a machine. Pure, with golden files in tests/golden/argv.

What is chosen here and what it saves is measured in docs/images.md and docs/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from nestlab.base.frozen import frozen
from nestlab.engines.qemu import disk_devices, hardware_argv, room
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.hardware_argv import Uefi, escaped
from nestlab.home.paths import MachinePaths
from nestlab.lab.blueprint import Nic, Spec
from nestlab.lab.disks import Bus
from nestlab.network.network_script import bridge_name
from nestlab.network.switch import socket_name
from nestlab.plan.room import NO_ROOM, Room
from nestlab.plan.steps import NO_PLUGS, Plugs

QBOOT = "/usr/share/qemu/qboot.rom"
"""A firmware that only starts a kernel, in nestlab's own hypervisors (Debian's qemu-system-data): a fifth of the time
that level 2 takes to boot there is SeaBIOS, devices that nobody uses, and their probing."""

HOTPLUG_PORT = "spare-port"
"""The id of the PCIe port that is kept free for a disk attached while the machine runs (`attached_disk`)."""

MARK = "nestlab"
"""QEMU's -name starts with it: how a process is known to be nestlab's."""


@frozen
class Kernel:
    """Direct kernel boot: files on the host that runs QEMU (block devices will do), and words for the kernel."""

    vmlinux: str
    initrd: str
    cmdline: tuple[str, ...] = ()
    lowered: bool = False
    """`vmlinux` is a bzImage, and its initramfs is kept clear of a BIOS's tables (`hardware_argv.lowered`)."""


@frozen
class Drive:
    """A virtio disk. `serial`: at most 20 characters, how the guest knows it."""

    file: str
    format: str
    serial: str
    readonly: bool = False


@frozen
class Launch:
    """Everything that starting a machine needs to know. `switch`: directory of the segments' sockets on the lab's
    host; None inside a hypervisor, where Linux bridges carry the segments. `version`: QEMU's."""

    lab: str
    spec: Spec
    paths: MachinePaths
    accel: Accelerator
    port: int
    """Of 127.0.0.1 of its host, which leads to its sshd; 0: none does."""
    management_mac: str
    """The MAC address of the card between the machine and its host."""
    qemu: Sequence[str] = ("qemu-system-x86_64",)
    version: tuple[int, int, int] = (10, 0, 0)
    kernel: Kernel | None = None
    drives: tuple[Drive, ...] = ()
    cdroms: tuple[str, ...] = ()
    switch: str | None = None
    keep: bool = False
    """A guest whose kernel panics is paused, and its QEMU does not end."""
    generation: str = ""
    """The VM generation ID."""
    uefi: Uefi | None = None
    swtpm: tuple[str, ...] = ()
    """The command of a software TPM, where the machine has one."""
    extra: tuple[str, ...] = field(default=())
    sandbox: bool = True
    """QEMU filters its system calls. False where its build or the kernel cannot."""
    forwards: tuple[tuple[int, str], ...] = ()
    """TCP ports of .4 in the machine's own network, and the command that QEMU runs for each connection to one."""
    cut: frozenset[str] = frozenset()
    """Segments that a container is cut off from its start. (A QEMU waits, by `extra`, until its links are down.)"""
    room: Room = NO_ROOM
    """What it can become while it runs (`room.of`)."""


def name_of(lab: str, path: str) -> str:
    """The -name of a machine's QEMU: `nestlab:pair:hv1/web`."""
    return f"{MARK}:{lab}:{path}"


def board_of(launch: Launch) -> str:
    """QEMU's machine type: `pc` boots sooner under a nested KVM, `q35` everywhere else."""
    hardware = launch.spec.machine.hardware
    if hardware.board is None and (hardware.uefi or hardware.iommu):
        return "q35"
    return hardware.board or ("pc" if launch.spec.level > 1 and launch.accel == "kvm" else "q35")


def is_lean(launch: Launch) -> bool:
    """Whether the firmware is QBOOT, which starts a kernel and knows nothing else."""
    hardware = launch.spec.machine.hardware
    inner = launch.kernel is not None and launch.spec.level > 1 and launch.accel == "kvm"
    more = hardware.display or hardware.smbios or hardware.uefi or hardware.tpm
    return inner and board_of(launch) == "pc" and not more


def argv(launch: Launch) -> list[str]:
    """The command line: of QEMU, or of a shell that becomes it when what it needs is there."""
    spec, board = launch.spec, board_of(launch)
    script = before(launch)
    return [
        *(["sh", "-c", script, "before"] if script else []),
        *launch.qemu,
        "-name",
        f"{name_of(launch.lab, spec.path)},debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        *_machine(launch),
        *hardware_argv.firmware(launch.uefi, launch.paths),
        *hardware_argv.first_devices(spec.machine.hardware),
        *_console(launch),
        *_boot(launch),
        *_drives(launch),
        *_nics(launch),
        *_hotplug(launch),
        "-device",
        "virtio-rng-pci",
        *(hardware_argv.tpm(launch.paths) if launch.swtpm else []),
        *hardware_argv.devices(spec.machine.hardware),
        *_generation(launch),
        *room.cpus(launch.room, spec.machine, hardware_argv.cpu_of(spec.machine, launch.accel).partition(",")[0]),
        *room.ports(launch.room, pcie=board == "q35"),
        *room.plugged(launch.room, spec.machine, pcie=board == "q35"),
        *launch.extra,
        "-pidfile",
        launch.paths.pid,
        *_sandbox(launch),
    ]


def before(launch: Launch) -> str:
    """A script that is run before QEMU, with the command that comes after it; "" where there is nothing to do."""
    return hardware_argv.before(launch.uefi, launch.swtpm, launch.paths, _lowered(launch))


def _lowered(launch: Launch) -> str:
    kernel = launch.kernel
    if kernel is None or not kernel.lowered:
        return ""
    return hardware_argv.lowered(kernel.vmlinux, launch.paths, launch.spec.machine.memory)


def _sandbox(launch: Launch) -> list[str]:
    """QEMU's filter of system calls: a guest that breaks into its QEMU cannot start a program, raise its rights, load
    a module, mount or trace. On a bridge of the host, QEMU itself starts a program that changes its user; for a
    forward, one that passes a connection on."""
    if not launch.sandbox:
        return []
    bridged = (launch.switch is None and launch.spec.nics) or launch.forwards
    words = ["on", "obsolete=deny", "resourcecontrol=deny"]
    return ["-sandbox", ",".join(words if bridged else [*words, "elevateprivileges=deny", "spawn=deny"])]


def _machine(launch: Launch) -> list[str]:
    machine = launch.spec.machine
    board = board_of(launch)
    accel = "kvm" if launch.accel == "kvm" else "tcg,thread=multi,tb-size=256"
    serial = "" if launch.kernel else "graphics=off"
    lean = ["hpet=off", "smm=off", "i8042=off"] if is_lean(launch) else []
    more = hardware_argv.board_words(machine.hardware, launch.accel)
    bios = ["-bios", QBOOT] if lean else []
    return [
        "-machine",
        ",".join(word for word in (board, "usb=off", "vmport=off", *lean, *more, serial) if word),
        *bios,
        "-accel",
        accel,
        "-cpu",
        hardware_argv.cpu_of(machine, launch.accel),
        "-smp",
        room.smp(launch.room) or hardware_argv.smp_of(machine),
        "-m",
        room.memory(launch.room, machine),
        "-action",
        f"reboot=reset,panic={'pause' if launch.keep else 'exit-failure'}",
    ]


def _console(launch: Launch) -> list[str]:
    paths = launch.paths
    options = [
        "-chardev",
        f"socket,id=con,path={escaped(paths.console)},server=on,wait=off,logfile={escaped(paths.log)},logappend=on",
        "-serial",
        "chardev:con",
        "-chardev",
        f"socket,id=mon,path={escaped(paths.qmp)},server=on,wait=off",
        "-mon",
        "chardev=mon,mode=control",
    ]
    if launch.spec.machine.image.base != "tiny":
        options += [
            "-device",
            "virtio-serial-pci,max_ports=2",
            "-chardev",
            f"socket,id=qga,path={escaped(paths.agent)},server=on,wait=off",
            "-device",
            "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
        ]
    return options


def _boot(launch: Launch) -> list[str]:
    kernel = launch.kernel
    hardware = launch.spec.machine.hardware
    shown = hardware_argv.display(hardware, escaped(launch.paths.vnc), by_firmware=kernel is None)
    if kernel is None:
        return [*shown, *(["-boot", "strict=on"] if boot_order(launch) else [])]
    file = launch.paths.kernel if kernel.lowered else kernel.vmlinux
    start = ["-kernel", file, "-initrd", kernel.initrd, "-append", " ".join(kernel_words(launch))]
    return ["-device", "pvpanic", *start, *shown]


def kernel_words(launch: Launch) -> list[str]:
    """What a kernel that QEMU starts is told."""
    hardware = launch.spec.machine.hardware
    panic = "panic=0" if launch.keep else "panic=-1"  # 0: it stays as it is
    told = hardware_argv.emulation_words(launch.accel) + hardware_argv.iommu_words(hardware)
    own = launch.kernel.cmdline if launch.kernel is not None else ()
    told += room.words(launch.room)
    return ["console=ttyS0", panic, *own, *told, *launch.spec.machine.cmdline.split()]


def _drives(launch: Launch) -> list[str]:
    options: list[str] = []
    order = boot_order(launch)
    for number, drive in enumerate(launch.drives):
        cache = "cache=unsafe,discard=unmap" if not drive.readonly else "readonly=on"
        options += [
            "-drive",
            f"if=none,id=d{number},file={escaped(drive.file)},format={drive.format},{cache}",
            *_disk_device(launch, drive, f"drive=d{number},serial={drive.serial}{_turn(order, drive.serial)}"),
        ]
    own: Bus = next((bus_of(launch, drive) for drive in launch.drives if not drive.readonly), "virtio")
    options += disk_devices.options(board_of(launch), launch.paths, launch.spec.disks, order, own)
    for number, file in enumerate(launch.cdroms):
        options += [
            "-drive",
            f"if=none,id=c{number},file={escaped(file)},format=raw,media=cdrom,readonly=on",
            "-device",
            f"ide-cd,drive=c{number}{_turn(order, f'cdrom{number}')}",
        ]
    return options


def _disk_device(launch: Launch, drive: Drive, said: str) -> list[str]:
    """The device of a drive, with its controller where it needs one of its own: only a machine's own disk does."""
    devices = disk_devices.own(board_of(launch), bus_of(launch, drive), said)
    return [word for device in devices for word in ("-device", device)]


def bus_of(launch: Launch, drive: Drive) -> Bus:
    """What a drive is on."""
    return launch.spec.machine.bus if not (drive.readonly or launch.kernel) else "virtio"


def boot_order(launch: Launch) -> list[str]:
    """See `disk_devices.boot_order`; nothing where QEMU is handed a kernel."""
    return [] if launch.kernel else disk_devices.boot_order(launch.spec.machine, launch.spec.disks)


def _turn(order: Sequence[str], device: str) -> str:
    return "".join(f",{name}={value}" for name, value in disk_devices.index_of(order, device).items())


def _nics(launch: Launch) -> list[str]:
    spec = launch.spec
    rom = "romfile=" if launch.kernel else ""
    order = boot_order(launch)
    options = [
        "-netdev",
        management(launch),
        "-device",
        _join(f"{hardware_argv.DEVICES[spec.machine.card]},netdev=mgmt", f"mac={launch.management_mac}", rom),
    ]
    for number, nic in enumerate(spec.nics):
        options += [
            "-netdev",
            _segment(launch, number, nic),
            "-device",
            _join(*hardware_argv.card(nic, f"n{number}", spec.machine.hardware), _tags(nic), rom)
            + _turn(order, f"net{number}"),
        ]
    return options


def management(launch: Launch) -> str:
    """The network between the machine and its host (-netdev)."""
    spec = launch.spec
    network = spec.management.rpartition(".")[0]
    restrict = "off" if spec.machine.internet else "on"
    ways = [f"hostfwd=tcp:127.0.0.1:{launch.port}-{network}.15:22"] if launch.port else []
    ways += [f"guestfwd=tcp:{network}.4:{port}-cmd:{escaped(command)}" for port, command in launch.forwards]
    options = f"user,id=mgmt,ipv6=off,net={spec.management},host={network}.2,dns={network}.3,dhcpstart={network}.15"
    return ",".join([options, f"restrict={restrict}", *ways])


def _generation(launch: Launch) -> list[str]:
    """Where the firmware is QBOOT there is none: it stops at what it does not know."""
    if not launch.generation or is_lean(launch):
        return []
    return ["-device", f"vmgenid,guid={launch.generation}"]


def _hotplug(launch: Launch) -> list[str]:
    """A free port for a disk that is attached while the machine runs. The bus of `pc` takes devices as it is."""
    if launch.kernel is None or board_of(launch) != "q35":
        return []
    return ["-device", f"pcie-root-port,id={HOTPLUG_PORT},chassis=1,slot=1"]


def _tags(nic: Nic) -> str:
    """A virtio card that gets all VLANs filters none: a guest would have to tell it each of 4,093."""
    return "ctrl_vlan=off" if nic.trunk and nic.card == "virtio" else ""


def plugs(launch: Launch) -> Plugs:
    """The disks that it takes while it runs."""
    if launch.spec.machine.container:
        return NO_PLUGS
    board = board_of(launch)
    if board != "q35" and launch.kernel is None:
        return NO_PLUGS  # what its system does with them is not known
    return disk_devices.plugs(board, launch.spec.disks, spare=launch.kernel is not None)


def _segment(launch: Launch, number: int, nic: Nic) -> str:
    """Inside a hypervisor `vlan_ports` says which VLAN a port is in, once it is there."""
    if launch.switch is None:
        return f"bridge,id=n{number},br={bridge_name(nic.segment)}"
    again = ""
    if launch.version >= (9, 2, 0):
        again = ",reconnect-ms=1000"
    elif launch.version >= (8, 0, 0):
        again = ",reconnect=1"
    path = escaped(f"{launch.switch}/{socket_name(nic.segment, nic.port)}")
    return f"stream,id=n{number},server=off,addr.type=unix,addr.path={path}{again}"


def _join(*words: str) -> str:
    return ",".join(word for word in words if word)
