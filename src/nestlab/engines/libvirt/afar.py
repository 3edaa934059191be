"""The engine of a lab's outermost machines on the libvirt of a host that ssh reaches: `on: qemu+ssh://HOST/system`."""

from __future__ import annotations

from dataclasses import dataclass

from nestlab.engines.afar.engine import AfarEngine
from nestlab.engines.libvirt.outer import OuterLibvirtEngine


@dataclass
class AfarLibvirtEngine(AfarEngine, OuterLibvirtEngine):
    """What is there of nestlab is as `AfarEngine` has it; what runs machines, as `OuterLibvirtEngine`."""


__all__ = ["AfarLibvirtEngine"]
