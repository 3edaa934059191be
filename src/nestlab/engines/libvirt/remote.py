"""The engine of a lab's outermost machines on the libvirt of a host that ssh reaches: `on: qemu+ssh://HOST/system`."""

from __future__ import annotations

from dataclasses import dataclass

from nestlab.engines.libvirt.outer import OuterLibvirtEngine
from nestlab.engines.ssh_host.engine import SshHostEngine


@dataclass
class RemoteLibvirtEngine(SshHostEngine, OuterLibvirtEngine):
    """What is there of nestlab is as `SshHostEngine` has it; what runs machines, as `OuterLibvirtEngine`."""


__all__ = ["RemoteLibvirtEngine"]
