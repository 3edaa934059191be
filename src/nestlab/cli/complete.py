"""Shell completion: labs and machines, read from the state directory without asking anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nestlab.home.directories import Home


def labs(incomplete: str) -> list[str]:
    """Names of labs."""
    return [name for name in _labs() if name.startswith(incomplete)]


def machines(incomplete: str) -> list[str]:
    """Machines by path, and as LAB:PATH where several labs exist or a colon was typed."""
    names = _labs()
    with_lab = len(names) > 1 or ":" in incomplete
    found = [f"{name}:{path}" if with_lab else path for name in names for path in paths(name)]
    return [word for word in found if word.startswith(incomplete)]


def labs_and_machines(incomplete: str) -> list[str]:
    """Lab files here, labs, then machines."""
    return [*_files(incomplete), *labs(incomplete), *machines(incomplete)]


def machines_or_files(incomplete: str) -> list[str]:
    """What `cp` takes: a machine with its colon, or a local path."""
    names = _labs()
    found = [f"{path}:" for name in names for path in paths(name)]
    return [*(word for word in found if word.startswith(incomplete)), *_files(incomplete, ending="")]


def goals(incomplete: str) -> list[str]:
    """What `wait --for` takes."""
    return [word for word in ("ssh", "proofs", "port:", "unit:") if word.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """What `graph --format` takes."""
    return [word for word in ("mermaid", "dot") if word.startswith(incomplete)]


def segments(incomplete: str) -> list[str]:
    """Segments of all labs."""
    found = sorted({name for lab in _labs() for name in _segments(lab)})
    return [name for name in found if name.startswith(incomplete)]


def _segments(name: str) -> Iterator[str]:
    try:
        place = _home().existing(name)
        data: Any = json.loads(place.blueprint.read_text()) if place else {}
        yield from (segment["name"] for segment in data.get("segments", ()))
    except Exception:
        return


def _home() -> Home:
    return Home.of(os.environ, Path.home())


def _labs() -> list[str]:
    try:
        return _home().labs()
    except Exception:  # a completion that fails must say nothing: its output would be typed for the user
        return []


def paths(name: str) -> Iterator[str]:
    """The machines of a lab as it was made; none where that cannot be read."""
    try:
        place = _home().existing(name)
        data: Any = json.loads(place.blueprint.read_text()) if place else {}
        yield from (spec["path"] for spec in data.get("specs", ()))
    except Exception:
        return


def _files(incomplete: str, ending: str = ".yaml") -> list[str]:
    folder, _, start = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else "."))
    try:
        found = sorted(entry for entry in base.iterdir() if entry.name.startswith(start))
    except OSError:
        return []
    lead = f"{folder}/" if "/" in incomplete else ""
    words = [f"{lead}{entry.name}{'/' if entry.is_dir() else ''}" for entry in found if entry.name[0] != "."]
    return [word for word in words if word.endswith(("/", ending))]
