"""Labs on this machine: the embedded QEMU engine here, and inside every hypervisor of kind `kvm`, also where those are
on a Proxmox VE."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from nestlab.base.events import Say
from nestlab.engines import Engine
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.engine import Environment, Programs, QemuEngine, Wires
from nestlab.engines.qemu.quick_status import guest_place
from nestlab.home.directories import Home, LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.home.speeds import Speeds
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.images.image_files import Cache
from nestlab.images.qemu_runtime import Tool, choose_qemu
from nestlab.lab.model import Pve
from nestlab.verbs.platform import Platform
from nestlab.verbs.session import Site

GUEST_QEMU = Programs(
    qemu=Tool(("qemu-system-x86_64",), {}, (10, 0, 0)),
    qemu_img=Tool(("qemu-img",), {}, (10, 0, 0)),
)
"""What nestlab's own hypervisor image has: Debian trixie's."""


def site(home: Home) -> Site:
    """How labs are made on this machine."""
    library = Cache(home.cache)

    @cache
    def lab_keys(lab: str) -> LabKeys:
        return LabKeys(home.lab(lab).root)

    @cache
    def speeds(lab: str) -> Speeds:
        return Speeds(home.lab(lab).speeds)

    chosen: dict[Accelerator, Programs] = {}

    async def here(accel: Accelerator, say: Say) -> Programs:
        if accel not in chosen:
            found = await choose_qemu(accel, home.cache, say)
            chosen[accel] = Programs(found.qemu, found.qemu_img)
        return chosen[accel]

    async def there(_: Accelerator, __: Say) -> Programs:
        return GUEST_QEMU

    def on(lab: str, parent: Host) -> Engine:
        place = Place(str(home.lab(lab).root))
        wires = Wires(lab, Path(place.switch))
        return QemuEngine(parent, Environment(lab, place, lab_keys(lab), library, here, wires, speeds(lab)))

    def inside(lab: str, parent: Host) -> Engine:
        environment = Environment(lab, guest_place(lab), lab_keys(lab), library, there, speeds=speeds(lab))
        return QemuEngine(parent, environment)

    def elsewhere(place: LabHome, on: Pve) -> Platform:
        from nestlab.proxmox import platform  # labs on this machine need nothing of it

        return platform.platform(home, place, on, asked())

    return Site(home, LocalHost, on, {"kvm": inside}, elsewhere=elsewhere)


def asked() -> Callable[[str], str] | None:
    """Asks the person at the terminal for a secret, which is not shown; None where there is nobody."""
    import getpass
    import sys

    return getpass.getpass if sys.stdin.isatty() and sys.stderr.isatty() else None
