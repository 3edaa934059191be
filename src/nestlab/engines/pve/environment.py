"""What the engine for a Proxmox VE works with."""

from __future__ import annotations

from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.engines.pve.protocols import Door, OpenDoor, OpenHost, Stock
from nestlab.engines.pve.tags import LabNames
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.lab.places import Pve
from nestlab.wire.pve.api import Api


@frozen
class Environment:
    """The engine's surroundings. `door` opens a machine's guest agent, `host` makes a machine a host. `memory`: a file
    in the lab's directory for what need not be asked twice (None: it is asked each time)."""

    lab: str
    pve: Pve
    api: Api
    lab_keys: LabKeys
    stock: Stock
    door: OpenDoor
    host: OpenHost
    memory: Path | None = None
    names: LabNames | None = None
    """By which its machines are known, where it is being renamed or was."""


def environment(
    lab: str,
    pve: Pve,
    api: Api,
    lab_keys: LabKeys,
    library: ImageStore,
    memory: Path | None = None,
    cache: Path | None = None,
    names: LabNames | None = None,
) -> Environment:
    """The usual one: images of this machine's library, and machines reached through their guest agents. `cache`:
    nestlab's cache directory, where disks are prepared (None: the user's)."""
    from nestlab.engines.pve import connections
    from nestlab.engines.pve import images as stock

    def door(node: str, vmid: int, path: str) -> Door:
        return connections.Door(api, node, vmid, path)

    def host(node: str, vmid: int, path: str, user: str, direct: bool) -> Host:
        return connections.host(connections.Door(api, node, vmid, path), lab_keys, path, user, direct=direct)

    return Environment(lab, pve, api, lab_keys, stock.Stock(api, pve, library, cache=cache), door, host, memory, names)
