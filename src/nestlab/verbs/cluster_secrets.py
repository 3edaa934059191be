"""What nodes of a cluster are told by stdin, from the keys of their lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nestlab.engines.pve_node import is_node
from nestlab.home.lab_keys import LabKeys
from nestlab.kinds.clustering import AUTHKEY, password_of
from nestlab.lab.blueprint import Spec
from nestlab.lab.hosts_file import hostname_of
from nestlab.verbs.nest import Secrets


def of(directory: Path) -> Secrets:
    """Of the lab in a directory. LabError where one cannot be read."""

    def find(cluster: str, specs: Sequence[Spec]) -> Mapping[str, bytes]:
        keys = LabKeys(directory)
        nodes = {password_of(hostname_of(spec.path)): spec.path for spec in specs if is_node(spec)}
        passwords = {name: keys.node(path).password.encode() for name, path in nodes.items()}
        return {AUTHKEY: keys.cluster(cluster), **passwords}

    return find
