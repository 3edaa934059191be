"""Images that an installer made: a folder of the cache for each, with its disk and what it was made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from nestlab.answers.proxmox import HOOK
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.images import downloads
from nestlab.lab.install import Install
from nestlab.lab.model import digest_of

DESCRIPTION = "installed.json"
DISK = "disk.qcow2"
_LAYOUT = 1
"""Counts changes of what is made from the same words."""

PREFIX = "install-"
"""How the key of an installed image begins."""


@frozen
class Installed:
    """An installed image. `size`: bytes of its disk as a guest sees it; `called`: what the lab file calls it; `inside`:
    the hypervisor that its installer ran in, `LAB:MACHINE`."""

    key: str
    folder: Path
    size: int
    family: str
    called: str = ""
    inside: str = ""

    @property
    def disk(self) -> Path:
        return self.folder / DISK

    @property
    def disk_usage(self) -> int:
        """Bytes that it takes on this disk."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def key_of(install: Install) -> str:
    """`install-` and 16 hex digits (paths of unix sockets are short) over all that decides what is installed; of an
    ISO over its place, size and time of change, as of a disk of the user's. LabError: the ISO cannot be read."""
    medium = downloads.key_of(install.source) if install.source is not None else ""
    if install.iso is not None:
        try:
            found = Path(install.iso).stat()
        except OSError as error:
            raise LabError(
                f"the installer's ISO {install.iso} cannot be read: {error.strerror}.",
                hint="Correct `iso` in the lab file; it is relative to the lab file's directory.",
            ) from None
        medium = f"{found.st_size}\0{found.st_mtime_ns}"
    hook = HOOK if install.family == "proxmox" else ""
    text = f"{_LAYOUT}{hook}\0{digest_of(replace(install, cpus=1, memory=0, source=None))}\0{medium}"
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_of(key: str, cache: Path) -> Path:
    """Where the image of a key is, or will be."""
    return cache / "installed" / key


def describe(install: Install, called: str, inside: str = "") -> str:
    """The text of its description. What the installer was answered is not in it: that may be secret."""
    found = {"family": install.family, "size": install.disk, "called": called, **({"inside": inside} if inside else {})}
    return json.dumps(found, indent=2) + "\n"


def load(key: str, cache: Path) -> Installed | None:
    """The image of a key, if the cache has it."""
    folder = folder_of(key, cache)
    try:
        value = parsed((folder / DESCRIPTION).read_text())
        called, inside = str(value.get("called", "")), str(value.get("inside", ""))
        found = Installed(key, folder, int(value["size"]), str(value["family"]), called, inside)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.disk.is_file() else None


def ls(cache: Path) -> tuple[Installed, ...]:
    """All of them, by their names."""
    keys = [folder.name for folder in (cache / "installed").glob(f"{PREFIX}*/")]
    found = [image for key in keys if (image := load(key, cache)) is not None]
    return tuple(sorted(found, key=lambda image: (image.called, image.key)))
