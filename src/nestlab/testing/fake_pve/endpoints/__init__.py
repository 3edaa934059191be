"""The endpoints, one file for each part of the API; importing them fills the table of routes."""

from __future__ import annotations

import importlib

PARTS = [
    "accounts",
    "agent",
    "cluster",
    "clones",
    "containers",
    "firewall",
    "ha",
    "jobs",
    "migrate",
    "networks",
    "nodes",
    "pools",
    "power",
    "sdn",
    "settings",
    "snapshots",
    "stores",
    "terminals",
    "uploads",
    "vms",
    "cloudinit",
]


def load() -> None:
    """Put every endpoint into the table of routes."""
    for part in PARTS:
        importlib.import_module(f"{__name__}.{part}")
