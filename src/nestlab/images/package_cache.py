"""Downloaded Debian packages, kept between builds."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

ABANDONED = 3600.0
"""Seconds after which a file that takes a moment to write is no longer being written."""


def folder(cache: Path) -> Path:
    """Where the .deb files are; made if absent."""
    place = cache / "packages"
    place.mkdir(parents=True, exist_ok=True)
    return place


def keep(archive: Path, cache: Path) -> int:
    """Moves the .deb files of a tar archive into the cache, each whole or not at all; returns how many."""
    place = folder(cache)
    count = 0
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if member.isfile() and name.endswith(".deb") else None
            if content is None:
                continue
            partial = place / f".{name}.{archive.parent.name}"
            partial.write_bytes(content.read())
            partial.rename(place / name)
            count += 1
    return count


def superseded(cache: Path) -> tuple[Path, ...]:
    """All but the newest file of every package and architecture."""
    newest: dict[tuple[str, str], Path] = {}
    older = []
    for path in sorted((cache / "packages").glob("*.deb"), key=lambda path: path.stat().st_mtime):
        package, _, rest = path.name.partition("_")
        key = (package, rest.rpartition("_")[2])
        if key in newest:
            older.append(newest[key])
        newest[key] = path
    return tuple(older)


def unfinished(cache: Path) -> tuple[Path, ...]:
    """Files that a killed build left half written."""
    now = time.time()
    return tuple(path for path in (cache / "packages").glob(".*.deb.*") if now - path.stat().st_mtime > ABANDONED)
