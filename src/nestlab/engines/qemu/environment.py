"""What the embedded engine works with on a host: programs, directories, keys and the switch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nestlab.base.events import Say
from nestlab.engines.qemu.accel import Accelerator
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.home.speeds import Speeds
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.blueprint import mac_of


@dataclass(frozen=True)
class Programs:
    """QEMU on the engine's host: `qemu` gives what runs machines, `qemu_img` what makes their disks."""

    qemu: Callable[[Accelerator, Say], Awaitable[Tool]]
    qemu_img: Callable[[Say], Awaitable[Tool]]


@dataclass(frozen=True)
class Wires:
    """The switch that carries segments between the machines of the lab's own host."""

    lab: str
    directory: Path

    async def ensure(self, segments: Iterable[str], host: Host) -> None:
        from nestlab.network import switch_control

        await switch_control.ensure(self.directory, self.lab, segments, host)

    async def remove(self, segment: str) -> None:

        from nestlab.network import switch_control

        await switch_control.remove(self.directory, (segment,))

    async def observe(self) -> frozenset[str]:

        from nestlab.network import switch_control

        return await switch_control.observe(self.directory)


@dataclass(frozen=True)
class OwnQemu:
    """nestlab's own QEMU: whether a host lacks it, and how it is fetched."""

    lacking: Callable[[Host], Awaitable[bool]]
    install: Callable[[Say], Awaitable[None]]


@dataclass(frozen=True)
class Environment:
    """The engine's surroundings on its host. `wires`: None inside a hypervisor,
    where Linux bridges carry the segments."""

    lab: str
    place: Place
    lab_keys: LabKeys
    library: ImageStore
    programs: Programs
    wires: Wires | None = None
    speeds: Speeds = field(default_factory=Speeds)
    """How slow hosts were, which waits depend on."""
    own_qemu: OwnQemu | None = None
    """None where QEMU is part of the host's image."""
    first_name: str = ""
    """What the lab was called when it was made, if it was renamed since (see `home.former_names`)."""

    def management_mac(self, path: str) -> str:
        """The MAC address of the card between a machine and its host."""
        return mac_of(self.first_name or self.lab, path, "")
