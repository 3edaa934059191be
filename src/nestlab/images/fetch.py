"""Downloads an image into the cache and makes it ready: once, also where several processes want it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.paint import human
from nestlab.home import cache as folders
from nestlab.images import make_disk
from nestlab.images.downloads import DESCRIPTION, Ready, key_of, load, place
from nestlab.images.mmdebstrap import disk_errors
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import MAX_SIZE, Image
from nestlab.lab.urls import name_in, shown_url
from nestlab.wire.download import download

LULL = 2.0
"""Seconds between two figures of a download."""


async def get(image: Image, cache: Path, say: Say) -> None:
    """Download an image and make it ready, if it is not there. LabError when that fails; what had the right checksum is
    kept then, and what came of an interrupted download."""
    key, title = key_of(image), title_of(image)
    if load(key, cache) is not None:
        return
    if image.checksum is None or image.url is None:
        what = f"What is to be at {shown_url(image.url or '')} is not known yet: its checksum file was not read."
        raise LabError(what, hint="`nestlab images pull LABFILE` reads it; so does `nestlab up`.")
    folders.private(place(cache))
    with disk_errors(f"The image {title}", cache):
        async with folders.making(place(cache) / key, say, title) as partial:
            if partial is not None:
                async with _downloaded(image, cache, say) as data:
                    form, size = await make_disk.make(image, data, partial, cache, say)
                was = " ".join(filter(None, (image.format if image.format != form else "", image.compression)))
                made = Ready(name_in(image.url), shown_url(image.url), image.checksum, form, size, was)
                (partial / DESCRIPTION).write_text(json.dumps(asdict(made), indent=2) + "\n")
    blob = _blob(image.checksum, cache)
    async with _alone(blob, title, say):
        folders.remove(blob)


def _blob(checksum: str, cache: Path) -> Path:
    return place(cache) / checksum.replace(":", "-")


def _alone(blob: Path, title: str, say: Say) -> contextlib.AbstractAsyncContextManager[None]:
    return folders.alone(blob.with_name(f".{blob.name}.lock"), title, say)


@contextlib.asynccontextmanager
async def _downloaded(image: Image, cache: Path, say: Say) -> AsyncIterator[Path]:
    """What is at its URL, whole and with the right checksum. It stays until an image is made of it."""
    assert image.url is not None
    assert image.checksum is not None
    blob = _blob(image.checksum, cache)
    async with _alone(blob, title_of(image), say):
        if not blob.is_dir():
            partial = blob.with_name(f".{blob.name}.partial")
            partial.mkdir(mode=0o700, exist_ok=True)
            say(f"downloading {shown_url(image.url)}")
            most = image.max_size or MAX_SIZE
            try:
                await download(image.url, partial, image.checksum, most, _teller(say))
            except LabError:
                if not (partial / "data").exists() or not (partial / "data").stat().st_size:
                    folders.remove(partial)
                raise
            await asyncio.to_thread(files.publish, partial, blob)
        yield blob / "data"


def _teller(say: Say) -> Callable[[int, int], None]:
    """Says how far a download is, now and then: `12M of 600M, 5.1M/s`."""
    start, told = time.monotonic(), [time.monotonic()]
    first: list[int] = []

    def tell(size: int, total: int) -> None:
        first.append(size) if not first else None
        now = time.monotonic()
        if now - told[0] < LULL:
            return
        told[0] = now
        of = f" of {human(total)}" if total else ""
        say(f"{human(size)}{of}, {human(int((size - first[0]) / max(now - start, 0.001)))}/s")

    return tell
