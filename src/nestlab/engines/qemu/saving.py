"""What of a machine of the lab's own host is saved and put back: what its QEMU is, and the files of its directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.engines.qemu import memory_file
from nestlab.engines.qemu.engine import QemuEngine
from nestlab.lab.snapshots import Built
from nestlab.wire.qmp import Monitor

MEMORY = "memory"
"""The file with a machine's memory in its folder of a snapshot."""

PAPERS = ("making", "made", "identity", "seed.iso", "boot", "stopped", "answered", "kernel")
"""Files of a machine's directory that say what it is."""


def written(root: Path) -> Iterator[str]:
    """The files of a machine's directory that are part of it, by their names in there."""
    found = [each.name for each in os.scandir(root) if each.is_file(follow_symlinks=False)]
    for name in sorted(found):
        if name in PAPERS or name.endswith(".fd") or (name.startswith("disk") and name.endswith(".qcow2")):
            yield name
    if (root / "tpm").is_dir():
        for each in sorted(os.scandir(root / "tpm"), key=lambda entry: entry.name):
            if each.is_file(follow_symlinks=False) and not each.name.startswith(".lock"):
                yield f"tpm/{each.name}"


def copy(source: Path, target: Path, names: Sequence[str]) -> None:
    """Copy files of a machine, shared where the file system can, else with their holes. Nothing is synced: whoever
    publishes them does that. LabError where that fails."""
    for name in names:
        files.fill(source / name, target / name, 0o600, synced=False)


def copy_all(source: Path, target: Path) -> tuple[str, ...]:
    """Copy all that a machine is in its directory; the names. LabError where that fails."""
    try:
        names = tuple(written(source))
    except OSError as error:
        raise LabError(f"{source} cannot be read: {error.strerror}.", hint="Whose directory is it?") from error
    copy(source, target, names)
    return names


async def built(engine: QemuEngine, monitor: Monitor, path: str) -> Built:
    """What the QEMU of a machine that runs is."""
    line = (await engine.parent.read(engine.environment.place.of(path).pid)).decode(errors="replace").strip()
    if not line.isdigit():
        raise LabError(f"Which process runs {path} is not known.", hint=f"`nestlab restart {path}` first.")
    words = (await engine.parent.read(f"/proc/{line}/cmdline")).decode(errors="replace").split("\0")
    version = memory_file.said(await memory_file.version(monitor))
    return of_words(version, words, await memory_file.devices(monitor))


def of_words(version: str, words: Sequence[str], devices: str = "") -> Built:
    """What a QEMU with this command line is."""

    def after(option: str) -> str:
        return words[words.index(option) + 1] if option in words[:-1] else ""

    return Built(version, after("-machine"), after("-cpu"), after("-accel").partition(",")[0], devices)
