"""The files of an image on the lab's host: built ones in the cache, the user's where they are; and its key."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.images.recipes import BUILTIN, Recipe, extend
from nestlab.images.recipes import File as RecipeFile
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import Image


@dataclass(frozen=True)
class ImageFiles:
    """An image's files on the lab's host, by role: `kernel`, `initrd` and `boot` (a disk with both), `root` (a disk of
    `format`), or `cdrom`. `size`: bytes of the root disk as the guest sees it, 0 without one. `bzimage`: the kernel as
    boot loaders want it, which no QEMU of ours is given; `agent`: an archive that they load over the initrd."""

    key: str
    files: Mapping[str, Path]
    format: str = "raw"
    cmdline: tuple[str, ...] = ()
    size: int = 0
    bzimage: Path | None = None
    agent: Path | None = None


class ImageStore(Protocol):
    """The images of the lab's host."""

    async def artifacts(self, key: str, image: Image) -> ImageFiles:
        """The files of a built image; LabError if it is not built or its file is gone."""

    async def build(self, key: str, image: Image, say: Say) -> None: ...

    def present(self) -> frozenset[str]:
        """Keys of images that are built."""


def recipe_of(image: Image) -> Recipe:
    """The recipe of one of nestlab's images, with the lab file's additions. LabError: a source file is missing."""
    base = BUILTIN[image.base or "debian"]
    files = []
    for file in image.files:
        if file.source is None:
            files.append(RecipeFile(file.path, (file.text or "").encode(), file.mode))
            continue
        try:
            data = Path(file.source).read_bytes()
        except OSError as error:
            raise LabError(
                f"image {title_of(image)}: {file.source} cannot be read: {error.strerror}.",
                hint=f"It is to become {file.path} in the image; correct its `source`.",
            ) from None
        files.append(RecipeFile(file.path, data, file.mode))
    return extend(
        base,
        packages=image.packages,
        files=files,
        script=image.script or "",
        mirror=image.mirror,
        suite=image.suite,
        kernel=image.kernel,
        called=title_of(image),
        said=image.said or "",
    )


def key_of(image: Image) -> str:
    """The key of an image: the digest of its recipe; of a user's file, of its place, size and time of change."""
    if image.file is None:
        return recipe_of(image).digest
    try:
        found = Path(image.file).stat()
    except OSError as error:
        raise LabError(
            f"image file {image.file} cannot be read: {error.strerror}.",
            hint="Correct `file` in the lab file; it is relative to the lab file's directory.",
        ) from None
    text = f"{image.file}\0{found.st_size}\0{found.st_mtime_ns}\0{image.format}"
    return "file-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def keys_of(images: Iterable[Image]) -> dict[Image, str]:
    """The keys of all images of a lab."""
    return {image: key_of(image) for image in dict.fromkeys(images)}


@dataclass(frozen=True)
class Cache:
    """See `image_files.ImageStore`. `root`: nestlab's cache directory."""

    root: Path

    async def artifacts(self, key: str, image: Image) -> ImageFiles:
        if image.file is not None:
            return await asyncio.to_thread(_of_file, key, image)
        from nestlab.images.image_cache import folder_of, load

        built = load(folder_of(key, self.root))
        if built is None:
            raise LabError(
                f"The image {title_of(image)} ({key[:12]}) is not built.",
                hint="`nestlab up` builds it; so does `nestlab images build`.",
            )
        files = {"kernel": built.kernel, "initrd": built.initrd, "boot": built.folder / built.parts["boot"].file}
        size = 0
        if built.root is not None:
            files["root"], size = built.root, built.parts["root"].size
        return ImageFiles(key, files, "raw", built.cmdline, size, built.bzimage, built.agent)

    async def build(self, key: str, image: Image, say: Say) -> None:
        if image.file is not None:
            await asyncio.to_thread(_of_file, key, image)
            return
        from nestlab.images import build

        await build(recipe_of(image), self.root, say)

    def present(self) -> frozenset[str]:
        from nestlab.images.image_cache import ls

        return frozenset(image.digest for image in ls(self.root))


def _of_file(key: str, image: Image) -> ImageFiles:
    """A user's file is there as long as its key is what it was when the lab was read."""
    if key_of(image) != key:
        raise LabError(
            f"image file {image.file} changed while the lab was brought up.",
            hint="Run the same command again: the machines that boot it are made anew.",
        )
    path = Path(image.file or "")
    if not path.stat().st_size:
        raise LabError(f"image file {path} is empty.", hint="Nothing could boot from it; name another file.")
    if image.format == "iso":
        return ImageFiles(key, {"cdrom": path}, "raw")
    return ImageFiles(key, {"root": path}, image.format or "raw", size=_virtual_size(path, image.format or "raw"))


def _virtual_size(path: Path, form: str) -> int:
    """Bytes that a guest sees. Of qcow2 they stand at offset 24 of the header, and where the name of its backing file
    is, and how long, at 8 and 16 (QEMU's docs/interop/qcow2)."""
    if form != "qcow2":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(32)
        if len(header) < 32 or header[:4] != b"QFI\xfb":
            raise LabError(
                f"image file {path} is not a qcow2 image.",
                hint="Say `format: raw` (or `iso`) if that is what it is.",
            )
        _, _, place, length, _, size = struct.unpack(">4sIQIIQ", header)
        file.seek(min(place, path.stat().st_size))
        backing = file.read(min(length, 1023)).decode(errors="replace") if place else ""
    if backing and ":" not in backing and not (path.parent / backing).exists():
        raise LabError(
            f"image file {path} is a layer over {backing}, which is not there.",
            hint="Put that file back, or use a whole image: qemu-img convert -O qcow2 makes one.",
        )
    return int(size)


__all__ = ["Cache", "key_of", "keys_of", "recipe_of"]
