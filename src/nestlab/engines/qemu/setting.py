"""What the embedded engine works with on a host: programs, directories, keys, and the switch between machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nestlab.engines import Say
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.paths import Place
from nestlab.engines.qemu.stock import Library
from nestlab.host import Host
from nestlab.runtime import Tool
from nestlab.vault import Vault


@dataclass(frozen=True)
class Programs:
    """QEMU on the engine's host."""

    qemu: Tool
    qemu_img: Tool


@dataclass(frozen=True)
class Wires:
    """The switch that carries segments between the machines of the lab's own host."""

    lab: str
    directory: Path

    async def ensure(self, segments: Iterable[str], host: Host) -> None:
        from nestlab import switches

        await switches.ensure(self.directory, self.lab, segments, host)

    async def remove(self, segment: str) -> None:
        from nestlab import switches

        await switches.remove(self.directory, (segment,))

    async def observe(self) -> frozenset[str]:
        from nestlab import switches

        return await switches.observe(self.directory)


@dataclass(frozen=True)
class Setting:
    """What the engine works with on its host. `qemu(accel)` gives the programs; `wires`: None inside a hypervisor,
    where Linux bridges carry the segments."""

    lab: str
    place: Place
    vault: Vault
    library: Library
    qemu: Callable[[Accelerator, Say], Awaitable[Programs]]
    wires: Wires | None = None
