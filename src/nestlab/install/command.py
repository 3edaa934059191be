"""The machine that an installer runs in: one as every other, whose only way out is the answer server. Pure."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from nestlab.base.frozen import frozen
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.argv import Drive, Kernel, Launch
from nestlab.home.paths import MachinePaths
from nestlab.images.qemu_runtime import Tool
from nestlab.install import relay
from nestlab.install.answer_server import Sockets
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import Format, Machine

NETWORK = "10.0.2"
MAC = "52:54:00:12:34:56"
DISK = "nestlab-root"
"""The serial number of the disk that is installed on."""
NAME = "installer"


def spec_of(machine: Machine) -> Spec:
    """The machine, settled: by itself, on no segment."""
    return Spec(NAME, machine, (), f"{NETWORK}.0/24", "", (), "")


@frozen
class Placed:
    """What an installer's machine is started from, as paths of the host that it runs on: its `folder`, its `disk` of
    the format `form`, kernel, initramfs and ISO; and the `ways` to the answer server (see `forwards`)."""

    folder: str
    disk: str
    form: Format
    kernel: str
    initrd: str
    iso: str | None
    ways: tuple[tuple[int, str], ...]
    qemu: Tool


def forwards(
    sockets: Sockets, python: str = sys.executable, program: str = relay.__file__
) -> tuple[tuple[int, str], ...]:
    """What QEMU runs for a connection to the answer server: HTTP, HTTPS and the log. `program`: where `relay` is."""
    pairs = ((80, sockets.plain), (443, sockets.tls), (514, sockets.log))
    return tuple((port, shlex.join([python, "-I", "-S", program, str(path)])) for port, path in pairs)


def launch_of(machine: Machine, placed: Placed, words: Sequence[str], accel: Accelerator) -> Launch:
    """How it is started. The kernel is the installer's, started from outside: a disk that is half installed is never
    booted, and what would restart the machine ends it, so that nothing is installed twice. Its hardware is the same on
    whatever it runs."""
    return Launch(
        lab=f"install-{placed.folder.rpartition('/')[2].lstrip('.')[:12]}",
        spec=spec_of(machine),
        paths=MachinePaths(placed.folder),
        accel=accel,
        port=0,
        management_mac=MAC,
        qemu=placed.qemu.argv,
        version=placed.qemu.version,
        kernel=Kernel(placed.kernel, placed.initrd, tuple(words)),
        drives=(Drive(placed.disk, placed.form, DISK),),
        cdroms=(placed.iso,) if placed.iso else (),
        extra=("-no-reboot",),
        forwards=placed.ways,
    )
