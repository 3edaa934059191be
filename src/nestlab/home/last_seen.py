"""What is known of a lab's machines from when they were seen last: all that can be told of what is inside a hypervisor
that does not run. What can be seen counts instead, always."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nestlab.base.errors import LabError
from nestlab.base.files import replace_changed
from nestlab.base.typed import parsed
from nestlab.home.directories import LabHome
from nestlab.lab.disks import made_disks
from nestlab.lab.model import is_path, plain
from nestlab.plan.steps import Seen

NAME = "seen.json"


def load(place: LabHome) -> dict[str, Seen]:
    """By path; nothing where nobody wrote it down, or it cannot be read."""
    try:
        data = parsed((place.root / NAME).read_text(encoding="utf-8"))
        return {path: _seen(path, each) for path, each in data.items() if is_path(path)}
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return {}


def save(place: LabHome, known: Mapping[str, Seen]) -> None:
    """Replace what was known before, in one step. Where that fails, less is known the next time."""
    rows = {
        path: {"digest": seen.digest, "names": seen.names, "root": seen.root, "disk": seen.disk}
        | ({"disks": plain(seen.disks)} if seen.disks else {})
        for path, seen in sorted(known.items())
    }
    with contextlib.suppress(LabError):
        replace_changed({place.root / NAME: (json.dumps(rows).encode(), 0o600)})


def _seen(path: str, row: Mapping[str, Any]) -> Seen:
    disk = row["disk"]
    texts = [None if row[name] is None else str(row[name]) for name in ("digest", "names", "root")]
    seen = Seen(path, "stopped", texts[0], texts[1], root=texts[2], disk=None if disk is None else int(disk))
    return replace(seen, disks=made_disks(row.get("disks", [])))
