"""Labs on this machine: the embedded QEMU engine here, and inside every hypervisor of kind `kvm`, also where those are
on a Proxmox VE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab import kinds
from nestlab.base.events import Say
from nestlab.base.printable import printable
from nestlab.engines import Engine
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.engine import Environment, Programs, QemuEngine, Wires
from nestlab.engines.qemu.environment import OwnQemu
from nestlab.engines.qemu.quick_status import guest_place
from nestlab.home import faults, former_names
from nestlab.home.directories import Home, LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.home.speeds import Speeds
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.images import package_names, qemu_runtime
from nestlab.images.image_files import Cache
from nestlab.images.qemu_runtime import Tool, choose_qemu, choose_qemu_img
from nestlab.install import make as install_image
from nestlab.lab.places import Libvirt, On, Ssh, is_here
from nestlab.verbs.platform import Platform
from nestlab.verbs.site import Site

if TYPE_CHECKING:
    from nestlab.images.firmware_files import Pack

GUEST_QEMU = Tool(("qemu-system-x86_64",), {}, (10, 0, 0))
GUEST_QEMU_IMG = Tool(("qemu-img",), {}, (10, 0, 0))
"""What nestlab's own hypervisor image has: Debian trixie's."""


async def _guest_qemu(_: Accelerator, __: Say) -> Tool:
    return GUEST_QEMU


async def _guest_qemu_img(_: Say) -> Tool:
    return GUEST_QEMU_IMG


def _programs_here(home: Home) -> Programs:
    """QEMU on this machine, chosen once."""
    chosen: dict[Accelerator, Tool] = {}
    disks: list[Tool] = []

    async def qemu(accel: Accelerator, say: Say) -> Tool:
        if accel not in chosen:
            chosen[accel] = (await choose_qemu(accel, home.cache, say)).qemu
        return chosen[accel]

    async def qemu_img(say: Say) -> Tool:
        if not disks:
            disks.append(await choose_qemu_img(home.cache, say))
        return disks[0]

    async def ipxe(say: Say) -> Path:
        from nestlab.images import ipxe_files

        return await ipxe_files.loader(home.cache, say)

    return Programs(qemu, qemu_img, _firmware(home.cache), ipxe)


def guest_programs(cache: Path) -> Programs:
    """Those of nestlab's own hypervisors; firmware is carried into them. `cache`: nestlab's, on the lab's own host."""
    return Programs(_guest_qemu, _guest_qemu_img, _firmware(cache))


def _firmware(cache: Path) -> Callable[[Say], Awaitable[Pack]]:
    async def firmware(say: Say) -> Pack:
        from nestlab.images import firmware_files

        return await firmware_files.pack(cache, say)

    return firmware


def _own_qemu(home: Home) -> OwnQemu:
    """nestlab's own QEMU on this machine, and whether it is needed and not there, asked once."""
    asked_before: dict[str, bool] = {}

    async def lacking(host: Host) -> bool:
        if qemu_runtime.unpacked(home.cache):
            return False
        if "qemu" not in asked_before:
            accel: Accelerator = "kvm" if (await host.facts()).hardware else "tcg"
            asked_before["qemu"] = await qemu_runtime.lacking(accel, home.cache)
        return asked_before["qemu"]

    async def install(say: Say) -> None:
        await qemu_runtime.runtime(home.cache, say)
        asked_before.clear()

    return OwnQemu(lacking, install)


def site(home: Home, *, consent: Callable[[str], bool] | None = None) -> Site:
    """The site of labs on this machine. `consent`: asks the person at the terminal; None where there is nobody."""
    library = Cache(home.cache, install_image)

    @cache
    def lab_keys(lab: str) -> LabKeys:
        return LabKeys(home.lab(lab).root)

    @cache
    def speeds(lab: str) -> Speeds:
        return Speeds(home.lab(lab).speeds)

    here, own = _programs_here(home), _own_qemu(home)

    def outer(lab: str) -> Environment:
        at = home.lab(lab)
        place, first = Place(str(at.root)), former_names.first(at)
        wires = Wires(lab, Path(place.switch))
        kept = partial(faults.load, at)
        return Environment(lab, place, lab_keys(lab), library, here, wires, speeds(lab), own, kept, first)

    def on(lab: str, parent: Host) -> Engine:
        return QemuEngine(parent, outer(lab))

    there = guest_programs(home.cache)

    def inner(lab: str) -> Environment:
        first = former_names.first(home.lab(lab))
        place, keys, kept = guest_place(first), lab_keys(lab), partial(faults.load, home.lab(lab))
        return Environment(lab, place, keys, library, there, speeds=speeds(lab), faults=kept, first_name=first)

    def inside(lab: str, parent: Host) -> Engine:
        return QemuEngine(parent, inner(lab))

    def by_libvirt(lab: str, parent: Host) -> Engine:
        from nestlab.engines.libvirt.engine import LibvirtEngine  # few labs have such a hypervisor

        return LibvirtEngine(parent, inner(lab))

    def in_node(lab: str, parent: Host) -> Engine:
        from nestlab.engines.pve.in_node import engine  # labs without a node of Proxmox VE need nothing of it

        at = home.lab(lab)
        return engine(lab, parent, inside(lab, parent), lab_keys(lab), library, at, home.cache)

    makers = {**dict.fromkeys(kinds.kinds(), inside), "libvirt": by_libvirt, "pve": in_node}

    return Site(
        home, LocalHost, on, makers, elsewhere=partial(_elsewhere, home, outer, consent), names=package_names.fetch
    )


def _elsewhere(
    home: Home,
    outer: Callable[[str], Environment],
    consent: Callable[[str], bool] | None,
    place: LabHome,
    on: On,
    named: bool,
) -> Platform:
    """The platform of a lab that is not this machine's own. `outer`: the surroundings of a lab's engine here."""
    if isinstance(on, Ssh) or (isinstance(on, Libvirt) and not is_here(on)):
        from nestlab.verbs import ssh_platform  # labs on this machine need nothing of it

        return ssh_platform.platform(
            home,
            place,
            on,
            lambda uploads: ssh_platform.environment(outer(place.name), uploads),
            named=named,
            ask=consent,
        )
    if isinstance(on, Libvirt):
        from nestlab.verbs import libvirt_platform  # labs elsewhere need nothing of it

        return libvirt_platform.platform(LocalHost(), outer(place.name), home.cache)
    from nestlab.proxmox import platform  # labs on this machine need nothing of it

    return platform.platform(home, place, on, asked(), named=named)


def asked() -> Callable[[str], str] | None:
    """Asks the person at the terminal for a secret, which is not shown; None where there is nobody."""
    import getpass
    import sys

    def ask(prompt: str) -> str:
        return getpass.getpass(printable(prompt))  # which writes to the terminal itself

    return ask if sys.stdin.isatty() and sys.stderr.isatty() else None
