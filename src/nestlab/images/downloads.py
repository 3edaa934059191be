"""Images that are downloaded: kept by content in the cache, ready to boot, each made once however many labs want it.

`downloads/` in the cache holds, by image key, folders with what QEMU is given; and, while an image is on its way, what
was downloaded, by its checksum. Only what has its checksum gets a name there (`cache.making`, `files.publish`), so a
killed process leaves nothing that counts, and what it had downloaded is gone on with. `fetch` puts them there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from nestlab.base.frozen import frozen
from nestlab.base.typed import check, parsed
from nestlab.lab.model import Format, Image

DESCRIPTION = "image.json"


@frozen
class Ready:
    """A downloaded image. `format`: what QEMU is told (qcow2, raw or iso); `size`: bytes that a guest sees; `name` is
    that in its URL, `url` without what follows a `?`."""

    name: str
    url: str
    checksum: str
    format: Format
    size: int
    was: str = ""
    """What it was converted from, with how it was packed; "" if it is what was downloaded."""


def key_of(image: Image) -> str:
    """The key of an image that is downloaded: of its content where its checksum is known; else (`sums` was not read
    yet) of where that is said."""
    said = (image.checksum,) if image.checksum else (image.url, image.sums, image.signed_by)
    text = json.dumps([*said, image.format, image.compression])
    return "file-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def place(cache: Path) -> Path:
    """Where downloaded images are."""
    return cache / "downloads"


def load(key: str, cache: Path) -> tuple[Ready, Path] | None:
    """A downloaded image with its file, None if it is not there."""
    folder = place(cache) / key
    try:
        data = parsed((folder / DESCRIPTION).read_text())
        found = Ready(**data)
        check(found, Ready, "the image")
    except (OSError, ValueError, TypeError):
        return None
    return found, folder / name_of(found.format)


def ls(cache: Path) -> Iterator[tuple[str, Ready, Path]]:
    """Key, image and folder of all downloaded images."""
    for folder in sorted(place(cache).glob("file-*/")):
        if found := load(folder.name, cache):
            yield folder.name, found[0], folder


def unfinished(cache: Path) -> Iterator[Path]:
    """Downloads of which no image was made."""
    yield from sorted(place(cache).glob("sha*-*/"))


def name_of(form: Format) -> str:
    """The name of a disk in its folder."""
    return f"disk.{form}"


def disk_usage(folder: Path) -> int:
    """Bytes that a downloaded image takes."""
    return sum(os.lstat(each).st_blocks * 512 for each in folder.iterdir())
