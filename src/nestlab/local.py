"""Labs on this machine: the embedded QEMU engine here, and inside every hypervisor of kind `kvm`, also where those are
on a Proxmox VE."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from nestlab.engines import Engine, Say
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.engine import Programs, QemuEngine, Setting, Wires
from nestlab.engines.qemu.paths import Place
from nestlab.engines.qemu.quick import guest_place
from nestlab.ground import Ground
from nestlab.home import Home, LabHome
from nestlab.host import Host
from nestlab.hosts import LocalHost
from nestlab.library import Cache
from nestlab.model import Pve
from nestlab.runtime import Tool, choose_qemu
from nestlab.session import Site
from nestlab.vault import Vault

GUEST_QEMU = Programs(
    qemu=Tool(("qemu-system-x86_64",), {}, (10, 0, 0)),
    qemu_img=Tool(("qemu-img",), {}, (10, 0, 0)),
)
"""What nestlab's own hypervisor image has: Debian trixie's."""


def site(home: Home) -> Site:
    """How labs are made on this machine."""
    library = Cache(home.cache)

    @cache
    def vault(lab: str) -> Vault:
        return Vault(home.lab(lab).root)

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
        return QemuEngine(parent, Setting(lab, place, vault(lab), library, here, wires))

    def inside(lab: str, parent: Host) -> Engine:
        return QemuEngine(parent, Setting(lab, guest_place(lab), vault(lab), library, there))

    def elsewhere(place: LabHome, on: Pve) -> Ground:
        from nestlab import proxmox  # labs on this machine need nothing of it

        return proxmox.ground(home, place, on, asked())

    return Site(home, LocalHost, on, {"kvm": inside}, elsewhere=elsewhere)


def asked() -> Callable[[str], str] | None:
    """Asks the person at the terminal for a secret, which is not shown; None where there is nobody."""
    import getpass
    import sys

    return getpass.getpass if sys.stdin.isatty() and sys.stderr.isatty() else None
