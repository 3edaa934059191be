"""QEMU's command line for a machine. Pure, with golden files in tests/golden/argv.

What is chosen here and what it saves is measured in docs/images.md and docs/engine.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nestlab.engines.qemu.accel import Accelerator
from nestlab.home.paths import MachinePaths
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import MIB
from nestlab.network.network_script import bridge_name
from nestlab.network.switch import socket_name

QBOOT = "/usr/share/qemu/qboot.rom"
"""A firmware that only starts a kernel, in nestlab's own hypervisors (Debian's qemu-system-data): a fifth of the time
that level 2 takes to boot there is SeaBIOS, devices that nobody uses, and their probing."""

HOTPLUG_PORT = "spare-port"
"""The id of the PCIe port that is kept free for a disk attached while the machine runs (`attached_disk`)."""

MARK = "nestlab"
"""QEMU's -name starts with it: how a process is known to be nestlab's."""


@dataclass(frozen=True)
class Kernel:
    """Direct kernel boot: files on the host that runs QEMU (block devices will do), and words for the kernel."""

    vmlinux: str
    initrd: str
    cmdline: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drive:
    """A virtio disk. `serial`: at most 20 characters, how the guest knows it."""

    file: str
    format: str
    serial: str
    readonly: bool = False


@dataclass(frozen=True)
class Launch:
    """Everything that starting a machine needs to know. `switch`: directory of the segments' sockets on the lab's
    host; None inside a hypervisor, where Linux bridges carry the segments. `version`: QEMU's."""

    lab: str
    spec: Spec
    paths: MachinePaths
    accel: Accelerator
    port: int
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
    extra: tuple[str, ...] = field(default=())


def name_of(lab: str, path: str) -> str:
    """The -name of a machine's QEMU: `nestlab:pair:hv1/web`."""
    return f"{MARK}:{lab}:{path}"


def board_of(launch: Launch) -> str:
    """QEMU's machine type: `pc` boots sooner under a nested KVM, `q35` everywhere else."""
    return "pc" if launch.spec.level > 1 and launch.accel == "kvm" else "q35"


def argv(launch: Launch) -> list[str]:
    """The command line. It daemonizes when the machine is set up, so its exit status tells whether it started."""
    spec = launch.spec
    return [
        *launch.qemu,
        "-name",
        f"{name_of(launch.lab, spec.path)},debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        *_machine(launch),
        *_console(launch),
        *_boot(launch),
        *_drives(launch),
        *_nics(launch),
        *_hotplug(launch),
        "-device",
        "virtio-rng-pci",
        *launch.extra,
        "-pidfile",
        launch.paths.pid,
        "-daemonize",
    ]


def _machine(launch: Launch) -> list[str]:
    machine = launch.spec.machine
    board = board_of(launch)
    if launch.accel == "kvm":
        accel, cpu = "kvm", "host"
    else:
        accel = "tcg,thread=multi,tb-size=256"
        cpu = "EPYC,+svm,+npt" if machine.hypervisor else "max"
    serial = "" if launch.kernel else "graphics=off"
    lean = ["hpet=off", "smm=off", "i8042=off"] if board == "pc" and launch.kernel else []
    bios = ["-bios", QBOOT] if lean else []
    return [
        "-machine",
        ",".join(word for word in (board, "usb=off", "vmport=off", *lean, serial) if word),
        *bios,
        "-accel",
        accel,
        "-cpu",
        cpu,
        "-smp",
        str(machine.cpus),
        "-m",
        f"{machine.memory // MIB}M",
        "-action",
        f"reboot=reset,panic={'pause' if launch.keep else 'exit-failure'}",
    ]


def _console(launch: Launch) -> list[str]:
    paths = launch.paths
    options = [
        "-chardev",
        f"socket,id=con,path={_escape(paths.console)},server=on,wait=off,logfile={_escape(paths.log)},logappend=off",
        "-serial",
        "chardev:con",
        "-chardev",
        f"socket,id=mon,path={_escape(paths.qmp)},server=on,wait=off",
        "-mon",
        "chardev=mon,mode=control",
    ]
    if launch.spec.machine.image.base != "tiny":
        options += [
            "-device",
            "virtio-serial-pci,max_ports=2",
            "-chardev",
            f"socket,id=qga,path={_escape(paths.agent)},server=on,wait=off",
            "-device",
            "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
        ]
    return options


def _boot(launch: Launch) -> list[str]:
    kernel = launch.kernel
    if kernel is None:
        return ["-vga", "std"]
    panic = "panic=0" if launch.keep else "panic=-1"  # 0: it stays as it is
    words = ["console=ttyS0", panic, *kernel.cmdline, *launch.spec.machine.cmdline.split()]
    return ["-device", "pvpanic", "-kernel", kernel.vmlinux, "-initrd", kernel.initrd, "-append", " ".join(words)]


def _drives(launch: Launch) -> list[str]:
    options: list[str] = []
    for number, drive in enumerate(launch.drives):
        cache = "cache=unsafe,discard=unmap" if not drive.readonly else "readonly=on"
        options += [
            "-drive",
            f"if=none,id=d{number},file={_escape(drive.file)},format={drive.format},{cache}",
            "-device",
            f"virtio-blk-pci,drive=d{number},serial={drive.serial}",
        ]
    for number, file in enumerate(launch.cdroms):
        options += [
            "-drive",
            f"if=none,id=c{number},file={_escape(file)},format=raw,media=cdrom,readonly=on",
            "-device",
            f"virtio-blk-pci,drive=c{number}" if launch.kernel else f"ide-cd,drive=c{number}",
        ]
    return options


def _nics(launch: Launch) -> list[str]:
    spec = launch.spec
    network = spec.management.rpartition(".")[0]
    restrict = "off" if spec.machine.internet else "on"
    rom = "romfile=" if launch.kernel else ""
    options = [
        "-netdev",
        f"user,id=mgmt,ipv6=off,net={spec.management},host={network}.2,dns={network}.3,dhcpstart={network}.15,"
        f"restrict={restrict},hostfwd=tcp:127.0.0.1:{launch.port}-{network}.15:22",
        "-device",
        _join("virtio-net-pci,netdev=mgmt", f"mac={launch.management_mac}", rom),
    ]
    for number, nic in enumerate(spec.nics):
        options += [
            "-netdev",
            _segment(launch, number, nic.segment),
            "-device",
            _join(f"virtio-net-pci,netdev=n{number},mac={nic.mac}", f"host_mtu={nic.mtu}", rom),
        ]
    return options


def _hotplug(launch: Launch) -> list[str]:
    """A free port for a disk that is attached while the machine runs. The bus of `pc` takes devices as it is."""
    if launch.kernel is None or board_of(launch) != "q35":
        return []
    return ["-device", f"pcie-root-port,id={HOTPLUG_PORT},chassis=1,slot=1"]


def _segment(launch: Launch, number: int, segment: str) -> str:
    if launch.switch is None:
        return f"bridge,id=n{number},br={bridge_name(segment)}"
    again = ""
    if launch.version >= (9, 2, 0):
        again = ",reconnect-ms=1000"
    elif launch.version >= (8, 0, 0):
        again = ",reconnect=1"
    path = _escape(f"{launch.switch}/{socket_name(segment)}")
    return f"stream,id=n{number},server=off,addr.type=unix,addr.path={path}{again}"


def _join(*words: str) -> str:
    return ",".join(word for word in words if word)


def _escape(path: str) -> str:
    """QEMU's option syntax doubles a comma that is meant."""
    return path.replace(",", ",,")
