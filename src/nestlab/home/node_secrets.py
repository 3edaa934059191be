"""What a node of Proxmox VE has beside the keys of every machine: root's password, and keys of RSA, which an emulated
node would take minutes to make."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.home.key_pairs import RsaPair, generate_pem, generate_rsa

PASSWORD = 24
"""Characters of base64: 144 bits."""


MADE = {"ca": 4096, "authkey": 2048, "www": 2048, "ssl": 2048}
"""Keys of its API, and their bits: of its CA, of tickets, against forged requests, of its certificate."""


@frozen
class NodeSecrets:
    """`password`: root's, for its web pages and its API. `host`: sshd's key of RSA, the only kind that Proxmox's ssh
    between nodes knows. `root`: root's key, with which nodes log in to each other. `made`: private keys by their names
    in MADE; a node makes those that are missing."""

    password: str = field(repr=False)
    host: RsaPair
    root: RsaPair
    made: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


def new_node(machine: str) -> dict[str, str]:
    """New ones, as they are kept."""
    host, root = generate_rsa(3072, machine), generate_rsa(4096, f"root@{machine.rpartition('/')[2]}")
    made = {"host": host.private, "host_public": host.public, "root": root.private, "root_public": root.public}
    own = {f"made_{name}": generate_pem(bits) for name, bits in MADE.items()}
    return {"password": secrets.token_urlsafe(PASSWORD * 3 // 4), **made, **own}


def read_node(data: Mapping[str, Any]) -> NodeSecrets:
    """As they are kept. KeyError, TypeError or ValueError for anything else."""
    if not all(isinstance(data[name], str) for name in ("password", "host", "host_public", "root", "root_public")):
        raise ValueError("not the keys of a node")
    host, root = RsaPair(data["host"], data["host_public"]), RsaPair(data["root"], data["root_public"])
    own = {name: data[f"made_{name}"] for name in MADE if f"made_{name}" in data}
    if not all(isinstance(each, str) for each in own.values()):
        raise ValueError("not the keys of a node")
    return NodeSecrets(data["password"], host, root, MappingProxyType(own))
