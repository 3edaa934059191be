"""The files of an image on the lab's host: built ones in the cache, the user's where they are; and its key."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from nestlab.base import regular
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.images import installed, pve
from nestlab.images.archives import checksum_of
from nestlab.images.recipes import BUILTIN, Recipe, extend
from nestlab.images.recipes import File as RecipeFile
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import NO_IMAGE, SOURCE_LIMIT, Format, Image
from nestlab.lab.pve_packages import PvePackages
from nestlab.labfile.disk_header import examine


@frozen
class ImageFiles:
    """An image's files on the lab's host, by role: `kernel`, `initrd` and `boot` (a disk with both), `root` (a disk of
    `format`, or a container template), or `cdrom`. `size`: bytes of the root disk as the guest sees it, 0 without one.
    `bzimage`: the kernel as boot loaders want it, and UEFI; `agent`: an archive that they load over the initrd."""

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
    base = _base(image)
    files = []
    for file in image.files:
        if file.source is None:
            files.append(RecipeFile(file.path, (file.text or "").encode(), file.mode))
            continue
        try:
            data = regular.read(Path(file.source), SOURCE_LIMIT)
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
        drivers=image.drivers,
        words=image.words,
        called=title_of(image),
        said=image.said or "",
    )


def _base(image: Image) -> Recipe:
    """The recipe of what an image starts from. LabError: the keyring of its packages is missing."""
    if image.base != pve.NAME:
        return BUILTIN[image.base or "debian"]
    packages = image.pve or PvePackages()
    return pve.recipe(packages, packages.keys_checksum or checksum_of(packages.keys))


def key_of(image: Image) -> str:
    """The key of an image: the digest of its recipe; of a user's file, of its place, size and time of change; of a
    downloaded one, of its content."""
    if image.url is not None:
        from nestlab.images import downloads

        return downloads.key_of(image)
    if image.base == NO_IMAGE:
        return NO_IMAGE
    if image.install is not None:
        return installed.key_of(image.install)
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


Installer = Callable[[str, Image, Path, Say], Awaitable[None]]
"""Given the key of an image, the image, and nestlab's cache."""


@frozen
class Cache:
    """See `image_files.ImageStore`. `root`: nestlab's cache directory. `install`: makes an image by running its
    installer; it is of a room above."""

    root: Path
    install: Installer | None = None

    async def artifacts(self, key: str, image: Image) -> ImageFiles:
        if image.base == NO_IMAGE:
            return ImageFiles(key, {})
        if image.file is not None:
            return await asyncio.to_thread(_of_file, key, image)
        if image.url is not None:
            return _downloaded(key, image, self.root)
        if image.install is not None:
            return _installed(key, image, self.root)
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
        if image.url is not None:
            from nestlab.images import fetch

            await fetch.get(image, self.root, say)
            return
        if image.install is not None:
            assert self.install is not None, "whoever builds images of lab files brings the installer"
            await self.install(key, image, self.root, say)
            return
        from nestlab.images import build

        await build(recipe_of(image), self.root, say)

    def present(self) -> frozenset[str]:
        from nestlab.images.image_cache import ls

        return frozenset(image.digest for image in ls(self.root)) | self.downloaded() | self.installed()

    def downloaded(self) -> frozenset[str]:
        """Keys of images that were downloaded."""
        from nestlab.images import downloads

        return frozenset(key for key, _, _ in downloads.ls(self.root))

    def installed(self) -> frozenset[str]:
        """Keys of images that an installer made."""
        return frozenset(each.key for each in installed.ls(self.root))


def _downloaded(key: str, image: Image, root: Path) -> ImageFiles:
    from nestlab.images import downloads

    found = downloads.load(key, root)
    if found is None or not found[1].is_file():
        what = f"The image {title_of(image)} ({key[:12]}) is not downloaded."
        raise LabError(what, hint="`nestlab up` downloads it; so does `nestlab images pull`.")
    ready, path = found
    if ready.format == "iso":
        return ImageFiles(key, {"cdrom": path}, "raw")
    size = 0 if ready.format == "tar" else _virtual_size(path, ready.format)
    return ImageFiles(key, {"root": path}, ready.format, size=size)


def _installed(key: str, image: Image, root: Path) -> ImageFiles:
    found = installed.load(key, root)
    if found is None:
        what = f"The image {title_of(image)} ({key}) is not installed."
        raise LabError(what, hint="`nestlab up` installs it; so does `nestlab images build`.")
    return ImageFiles(key, {"root": found.disk}, "qcow2", size=found.size)


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
    size = _virtual_size(path, image.format or "raw")
    if image.format == "iso":
        return ImageFiles(key, {"cdrom": path}, "raw")
    return ImageFiles(key, {"root": path}, image.format or "raw", size=size)


def _virtual_size(path: Path, form: Format) -> int:
    """Bytes that a guest sees. LabError where QEMU may not be given the file: it may have changed since the lab file
    was read."""
    found = examine(str(path), form)
    if isinstance(found, tuple):
        raise LabError(f"image file {found[0]}.", hint=found[1])
    return found.size


__all__ = ["Cache", "key_of", "keys_of", "recipe_of"]
