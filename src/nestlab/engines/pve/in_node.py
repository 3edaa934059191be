"""Makes the engine of the machines inside a node of Proxmox VE that nestlab made, with what it works with."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from nestlab.base.errors import LabError
from nestlab.engines import Engine
from nestlab.engines.pve import environment as surroundings
from nestlab.engines.pve.node_containers import NodeTemplates
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.pve.tags import LabNames
from nestlab.home import former_names
from nestlab.home.directories import LabHome
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host
from nestlab.images.image_files import ImageStore
from nestlab.lab.model import Pve
from nestlab.wire.pve.daemon import Daemon, Node

POOL = "nestlab"
"""The pool of the node's that machines are in."""


def engine(
    lab: str, node: Host, bare: Engine, keys: LabKeys, library: ImageStore, place: LabHome, cache: Path
) -> NodeEngine:
    """`bare`: of what runs on the node without Proxmox VE. `place`: the lab's directory. Nothing is asked yet."""
    if not hasattr(node, "tcp"):
        raise LabError(f"{node.path} is reached by nothing that leads to its API.", hint="Report this.")
    api = Daemon(cast(Node, node))
    names = LabNames(lab, former_names.load(place), *former_names.intended(place), parent=node.path)
    memory = place.root / f"pve.{node.path.replace('/', '.')}.json"
    made = surroundings.environment(lab, Pve(node.path, pool=POOL), api, keys, library, memory, cache, names)
    return NodeEngine(environment=made, node=node, templates=NodeTemplates(api, node, library), bare=bare)
