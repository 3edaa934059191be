"""What the embedded engine works with on a host: programs, directories, keys and the switch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.accel import Accelerator
from nestlab.home.lab_keys import LabKeys
from nestlab.home.paths import Place
from nestlab.home.speeds import Speeds
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.images.qemu_runtime import Tool
from nestlab.lab.blueprint import Spec, mac_of
from nestlab.lab.faults import Faults, Impairment

if TYPE_CHECKING:
    from nestlab.images.firmware_files import Pack
    from nestlab.network.netboot_offer import Offer


@frozen
class Programs:
    """QEMU on the engine's host: `qemu` gives what runs machines, `qemu_img` what makes their disks. `firmware`: UEFI
    and a software TPM, on the lab's own host."""

    qemu: Callable[[Accelerator, Say], Awaitable[Tool]]
    qemu_img: Callable[[Say], Awaitable[Tool]]
    firmware: Callable[[Say], Awaitable[Pack]]
    ipxe: Callable[[Say], Awaitable[Path]] | None = None
    """iPXE for UEFI, on the lab's own host."""


@frozen
class Wires:
    """The switch that carries segments between the machines of the lab's own host."""

    lab: str
    directory: Path

    async def ensure(self, segments: Iterable[str], host: Host, vlans: Mapping[str, Collection[int]]) -> None:
        from nestlab.network import switch_control

        await switch_control.ensure(self.directory, self.lab, segments, host, vlans)

    async def impair(self, rules: Mapping[str, Mapping[str, Impairment]]) -> None:
        """See `switch_control.Rules`."""
        from nestlab.network import switch_control

        await switch_control.impair(self.directory, rules)

    async def serve(self, segment: str, offer: Offer | None, host: Host, say: Say) -> None:
        """Serve an offer, or nothing, to what boots from a segment."""
        from nestlab.network import netboot_control

        if offer is None:
            netboot_control.withdraw(self.directory, segment)
        else:
            await netboot_control.ensure(self.directory, self.lab, offer, host)

    async def served(self) -> Mapping[str, str]:
        """By segment that is served: the digest of what is offered."""
        if not self.directory.is_dir():
            return {}
        from nestlab.network import netboot_control

        return netboot_control.observe(self.directory)

    async def remove(self, segment: str) -> None:
        from nestlab.network import netboot_control, switch_control

        await switch_control.remove(self.directory, (segment,))
        netboot_control.withdraw(self.directory, segment)

    async def observe(self) -> frozenset[str]:

        from nestlab.network import switch_control

        return await switch_control.observe(self.directory)


@frozen
class OwnQemu:
    """nestlab's own QEMU: whether a host lacks it, and how it is fetched."""

    lacking: Callable[[Host], Awaitable[bool]]
    install: Callable[[Say], Awaitable[None]]


class Uploads(Protocol):
    """What keeps files of this machine on the lab's own host, where that is another one."""

    async def file(self, source: Path, say: Say) -> str:
        """The path there of a file with this content, which is sent if it is not there. LabError where that fails."""

    def software_tpm(self) -> tuple[str, ...]:
        """The command of the swtpm that is installed there. LabError where none is."""


@frozen
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
    faults: Callable[[], Faults] = tuple
    """Those that the user wants the lab to have."""
    first_name: str = ""
    """What the lab was called when it was made, if it was renamed since (see `home.former_names`)."""
    uploads: Uploads | None = None
    """None on this machine, and inside hypervisors."""

    def management_mac(self, spec: Spec) -> str:
        """The MAC address of the card between a machine and its host."""
        return mac_of(self.first_name or self.lab, spec.born or spec.path, "")
