"""What LOOK printed: domains as they were defined and as they are, and what is changed of them by hand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from nestlab.engines.libvirt import drift
from nestlab.engines.libvirt.xml import Unreadable, parsed
from nestlab.plan.steps import Drift

LIMIT = 32 << 20
"""Letters of all that is read: three times some 6 KiB for each of a thousand machines, and what people add."""


def drifts(text: str, cut: str, paths: Mapping[str, str]) -> dict[str, tuple[Drift, ...]]:
    """By path, what is not as nestlab defined it. `cut`: LOOK's word; `paths`: by the names of directories. What cannot
    be read, or is not there, tells of no change: it is defined anew at the next start."""
    found: dict[str, tuple[Drift, ...]] = {}
    for folder, parts in _by_folder(text[:LIMIT], cut):
        wanted, defined = _read(parts.get("")), _read(parts.get("defined"))
        if folder in paths and wanted is not None and defined is not None:
            found[paths[folder]] = drift.changes(wanted, defined, _read(parts.get("running")))
    return found


def _by_folder(text: str, cut: str) -> Iterator[tuple[str, dict[str, str]]]:
    folder, parts, part = "", dict[str, list[str]](), ""
    for line in text.split("\n"):
        if not line.startswith(f"{cut} "):
            parts.setdefault(part, []).append(line)
            continue
        word = line[len(cut) + 1 :].strip()
        if word in ("defined", "running"):
            part = word
            continue
        if folder:
            yield folder, {name: "\n".join(lines) for name, lines in parts.items()}
        folder, parts, part = word, {}, ""
    if folder:
        yield folder, {name: "\n".join(lines) for name, lines in parts.items()}


def _read(text: str | None) -> Element | None:
    try:
        return parsed(text.strip()) if text and text.strip() else None
    except Unreadable:
        return None
