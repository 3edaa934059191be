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
from nestlab.lab.places import Pve
from nestlab.wire.pve.daemon import Daemon, Node

POOL = "nestlab"
"""The pool of the node's that machines are in."""


def engine(
    lab: str, node: Host, bare: Engine, keys: LabKeys, library: ImageStore, place: LabHome, cache: Path
) -> NodeEngine:
    """`bare`: of what runs on the node without Proxmox VE. `place`: the lab's directory. What is in the node goes by
    the lab's first name, as all in machines does. Nothing is asked yet."""
    if not hasattr(node, "tcp"):
        raise LabError(f"{node.path} is reached by nothing that leads to its API.", hint="Report this.")
    first, own = former_names.first(place), node.path.replace("/", ".")
    api = Daemon(cast(Node, node), kept=place.root / f"pve.{own}.ticket")
    names, memory = LabNames(first, parent=node.path), place.root / f"pve.{own}.json"
    made = surroundings.environment(first, Pve(node.path, pool=POOL), api, keys, library, memory, cache, names)
    return NodeEngine(environment=made, node=node, templates=NodeTemplates(api, node, library), bare=bare)
