"""The machine that an installer runs in: one as every other, whose only way out is the answer server. Pure."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.argv import Drive, Kernel, Launch
from nestlab.home.paths import MachinePaths
from nestlab.install import relay
from nestlab.install.answer_server import Sockets
from nestlab.install.medium import Medium
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import Machine

NETWORK = "10.0.2"
MAC = "52:54:00:12:34:56"
DISK = "nestlab-root"
"""The serial number of the disk that is installed on."""
NAME = "installer"


def spec_of(machine: Machine) -> Spec:
    """The machine, settled: by itself, on no segment."""
    return Spec(NAME, machine, (), f"{NETWORK}.0/24", "", (), "")


def forwards(sockets: Sockets, python: str = sys.executable) -> tuple[tuple[int, str], ...]:
    """What QEMU runs for a connection to the answer server: HTTP, HTTPS and the log."""
    pairs = ((80, sockets.plain), (443, sockets.tls), (514, sockets.log))
    return tuple((port, shlex.join([python, "-I", "-S", relay.__file__, str(path)])) for port, path in pairs)


def launch_of(
    machine: Machine,
    medium: Medium,
    words: Sequence[str],
    folder: Path,
    disk: Path,
    *,
    accel: Accelerator,
    qemu: Sequence[str],
    version: tuple[int, int, int],
    ways: tuple[tuple[int, str], ...],
) -> Launch:
    """How it is started. The kernel is the installer's, started from outside: a disk that is half installed is never
    booted, and what would restart the machine ends it, so that nothing is installed twice."""
    return Launch(
        lab=f"install-{folder.name.lstrip('.')[:12]}",
        spec=spec_of(machine),
        paths=MachinePaths(str(folder)),
        accel=accel,
        port=0,
        management_mac=MAC,
        qemu=qemu,
        version=version,
        kernel=Kernel(str(medium.kernel), str(medium.initrd), tuple(words)),
        drives=(Drive(str(disk), "qcow2", DISK),),
        cdroms=(str(medium.iso),) if medium.iso else (),
        extra=("-no-reboot",),
        forwards=ways,
    )
