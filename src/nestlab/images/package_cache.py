"""Downloaded Debian packages, kept between builds. A build takes those that have the digest which Debian's signed lists
say (`debian`), whoever put them there."""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

from nestlab.base import files

ABANDONED = 3600.0
"""Seconds after which a file that takes a moment to write is no longer being written."""


def folder(cache: Path) -> Path:
    """Where the .deb files are; made if absent. They are no secrets, and the root of a user namespace reads them."""
    place = cache / "packages"
    place.mkdir(parents=True, exist_ok=True)
    if place.stat().st_mode & 0o777 != 0o755:
        place.chmod(0o755)
    return place


def keep(archive: Path, cache: Path) -> int:
    """Moves the .deb files of a tar archive into the cache, each whole or not at all; returns how many."""
    place = folder(cache)
    count = 0
    some: dict[Path, tuple[bytes, int]] = {}
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if member.isfile() and name.endswith(".deb") else None
            if content is None:
                continue
            some[place / name] = (content.read(), 0o644)
            count += 1
            if len(some) == files.AT_ONCE:
                files.replace_all(some)
                some.clear()
    files.replace_all(some)
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
    found = [*(cache / "packages").glob(".*.deb.*"), *(cache / "packages").glob("*.deb.????????.new")]
    return tuple(path for path in found if now - path.stat().st_mtime > ABANDONED)
