"""Which ports of 127.0.0.1 lead to machines of a lab for good: kept in the lab's directory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from nestlab.base import files
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.home.directories import LabHome
from nestlab.lab.model import is_path

NAME = "ports.json"

MOST = 4096
"""Ports that are kept."""


@frozen
class Kept:
    """`local` of 127.0.0.1 leads to `port` of the machine `path`. `asked`: by `nestlab forward --keep`, rather than by
    the lab file."""

    path: str
    port: int
    local: int
    asked: bool = False


def load(place: LabHome) -> tuple[Kept, ...]:
    """Those of a lab; what is damaged is left out, for it can be said again."""
    try:
        rows = parsed((place.root / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(kept for row in rows[:MOST] if (kept := _kept(row))) if isinstance(rows, list) else ()


def save(place: LabHome, kept: Iterable[Kept]) -> None:
    """Keep these and no others. LabError if that cannot be written."""
    import json

    rows = tuple(dict.fromkeys(kept))
    if rows != load(place):
        files.replace(place.root / NAME, json.dumps([asdict(each) for each in rows]).encode(), 0o600)


def _kept(row: object) -> Kept | None:
    if not isinstance(row, dict):
        return None
    path, port, local, asked = (row.get(name) for name in ("path", "port", "local", "asked"))
    if not (isinstance(path, str) and is_path(path) and type(port) is int and type(local) is int):
        return None
    right = 0 < port < 65536 and 0 < local < 65536 and len(path) < 1000
    return Kept(path, port, local, asked is True) if right else None
