"""The snapshots of a lab: each a folder in the lab's directory, there whole or not at all, with what it was made of.

`snapshots/NAME` has `manifest.json`, papers about the lab, and a folder for each machine by the name of its directory.
It is made as `snapshots/.NAME.new` and published by one rename. `snapshot.json` in the lab's directory says what is
being done while machines are paused or put back: whoever works on the lab next ends it. `before` is the lab
as it was, while a snapshot is put in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from nestlab.base import files, holes
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.typed import check, parsed
from nestlab.home.directories import LabHome
from nestlab.lab.model import is_path
from nestlab.lab.snapshots import NAME_LIMIT, Kept, Loads, Manifest, from_json, to_json

FOLDER = "snapshots"

MANIFEST = "manifest.json"

LOADS = "loads.json"

CURRENT = "current"
"""The file that names the snapshot which the lab goes on from."""

WORK = "snapshot.json"

BEFORE = "before"
"""The folder with the lab as it was while it is restored."""

MOVED = "moved"
"""The file in it that is there when all that the lab was is."""

TRIAL = "t"
"""The folder that has, as the lab's own directory, machines which a snapshot is tried with. Short: sockets are in
it."""

PAPERS = ("lab.json", "applied.json", "leases.json", "away.json", "faults.json")
"""What of a lab's directory says what its machines are: those that are there are part of a snapshot."""

LARGEST = 64 << 20
"""Bytes of a manifest."""

PIECE = 1 << 18


@frozen
class Work:
    """What is being done with a snapshot. `verb`: `snapshot` while machines are paused for one (`outer`, `inner`:
    which); `restore` while machines are made from one, `going` once all of them have loaded, and go on."""

    verb: Literal["snapshot", "restore", "going"]
    name: str
    outer: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    park: bool = False


def folder(place: LabHome, name: str) -> Path:
    return place.root / FOLDER / name


def partial(place: LabHome, name: str) -> Path:
    """Where a snapshot is made."""
    return place.root / FOLDER / f".{name}.new"


def names(place: LabHome) -> list[str]:
    try:
        found = [each.name for each in os.scandir(place.root / FOLDER) if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(each for each in found if not each.startswith(".") and len(each) <= NAME_LIMIT)


def blueprints(place: LabHome) -> list[Path]:
    """The files that say what the machines in snapshots are, and which images they stand on."""
    return [path for name in names(place) if (path := folder(place, name) / "lab.json").is_file()]


def manifest(place: LabHome, name: str) -> Manifest:
    """The manifest of a snapshot. LabError where there is no such snapshot, or it is damaged."""
    if name not in names(place):
        known = ", ".join(names(place))
        hint = f"It has: {known}." if known else f"`nestlab snapshot {place.name} NAME` makes one."
        raise LabError(f"Lab {place.name} has no snapshot {name}.", hint=hint)
    path = folder(place, name) / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST)
        found = from_json(text)
        if found.name != name:
            raise ValueError(f"it is of a snapshot {found.name!r}")
    except (OSError, ValueError, TypeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        what = f"Snapshot {name} of lab {place.name} cannot be used: {path}: {said}."
        raise LabError(what, hint=f"`nestlab snapshots rm {place.name} {name}` removes it.") from error
    return found


def kept(place: LabHome, name: str) -> Kept:
    """A snapshot with what is known of it, usable or not."""
    known, why = None, ""
    try:
        known = manifest(place, name)
    except LabError as error:
        why = error.what
    size = disk_usage(folder(place, name))
    return Kept(name, known, size, loads(place, name), current(place) == name, why)


def listing(place: LabHome) -> tuple[Kept, ...]:
    return tuple(kept(place, name) for name in names(place))


def current(place: LabHome) -> str:
    """The snapshot that the lab goes on from; "": none."""
    try:
        found = (place.root / FOLDER / CURRENT).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return found if found in names(place) else ""


def set_current(place: LabHome, name: str) -> None:
    files.replace(place.root / FOLDER / CURRENT, f"{name}\n".encode(), 0o600)


def loads(place: LabHome, name: str) -> Loads:
    try:
        data = parsed((folder(place, name) / LOADS).read_text(encoding="utf-8"))
        found = Loads(data["loads"], data["failures"])
        check(found, Loads, "the loads")
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return Loads()


def count(place: LabHome, name: str, *, failed: bool, at: Path | None = None) -> None:
    """One load more. `at`: the folder of a snapshot that is not published yet."""
    known = loads(place, name) if at is None else Loads()
    more = replace(known, loads=known.loads + 1, failures=known.failures + int(failed))
    data = json.dumps({"loads": more.loads, "failures": more.failures}).encode()
    with contextlib.suppress(LabError):  # a count that cannot be kept is no reason to fail
        files.replace((at or folder(place, name)) / LOADS, data, 0o600, synced=False)


def publish(place: LabHome, made: Manifest) -> None:
    """What was made becomes the snapshot, on the disk when this returns. LabError where that fails."""
    at = partial(place, made.name)
    files.replace(at / MANIFEST, to_json(made), 0o600)
    try:
        files.publish(at, folder(place, made.name))
    except OSError as error:
        raise files.refused(f"The snapshot {folder(place, made.name)} cannot be written", error) from error


def remove(place: LabHome, name: str) -> int:
    """Remove a snapshot: at once it is none, then its files go. The bytes freed. LabError where that cannot be."""
    at, doomed = folder(place, name), place.root / FOLDER / f".{name}.removed"
    size = disk_usage(at)
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        files.move(at, doomed)
    except OSError as error:
        raise files.refused(f"{at} cannot be removed", error) from error
    shutil.rmtree(doomed, ignore_errors=True)
    return size


def sweep(place: LabHome) -> None:
    """Remove what killed processes left: half a snapshot, and one that was being removed. For who has the lab's
    lock."""
    with contextlib.suppress(OSError):
        for each in list(os.scandir(place.root / FOLDER)):
            if each.name.startswith(".") and each.name.endswith((".new", ".removed")):
                shutil.rmtree(each.path, ignore_errors=True)
    shutil.rmtree(place.root / TRIAL, ignore_errors=True)


def work(place: LabHome) -> Work | None:
    """What somebody began who may be gone. LabError where the file is damaged."""
    path = place.root / WORK
    try:
        data = parsed(path.read_text(encoding="utf-8"))
        found = Work(data["verb"], data["name"], tuple(data["outer"]), tuple(data["inner"]), data["park"])
        check(found, Work, "the work")
        if not all(map(is_path, (*found.outer, *found.inner))):
            raise ValueError("it names what is no machine")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{path}, which says what was being done with a snapshot, cannot be read: {error}."
        raise LabError(what, hint="Move it away; then see `nestlab status`: machines may be paused.") from error


def set_work(place: LabHome, now: Work | None) -> None:
    """What is being done from now on; None: nothing."""
    path = place.root / WORK
    if now is None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    data = {"verb": now.verb, "name": now.name, "outer": now.outer, "inner": now.inner, "park": now.park}
    files.replace(path, json.dumps(data).encode(), 0o600)


def disk_usage(path: Path) -> int:
    """Bytes that a file, or all in a folder, takes on the disk."""
    return sum(_blocks(path))


def _blocks(path: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for each in os.scandir(path):
                yield from _blocks(Path(each.path))
        else:
            yield path.lstat().st_blocks * 512


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 of what a file holds, and how many bytes of it are written: of its size, and of every piece that is not
    all zeros with its place, wherever the file has holes. OSError where it cannot be read."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        found = hashlib.sha256(f"{size}\n".encode())
        zeros, count, at = bytes(PIECE), 0, 0
        for start, end in holes.written(file.fileno(), size):
            count += end - start
            at = max(at, start - start % PIECE)  # two stretches may be in one piece
            while at < end and (data := os.pread(file.fileno(), PIECE, at)):
                if data != zeros[: len(data)]:
                    found.update(f"{at}\n".encode())
                    found.update(data)
                at += PIECE
        return found.hexdigest(), count
