"""The cache of built images: one directory per digest, described by its image.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.images import pve
from nestlab.images.recipes import BUILTIN, Recipe
from nestlab.lab.pve_packages import PvePackages

DESCRIPTION = "image.json"


@frozen
class Part:
    """One file of an image: `size` in bytes; `sha256` over its contents (see `checksum` for sparse files)."""

    file: str
    size: int
    sha256: str


@frozen
class BuiltImage:
    """An image on disk. `root` is None for images that live in their initramfs."""

    name: str
    digest: str
    folder: Path
    kernel_version: str
    cmdline: tuple[str, ...]
    parts: Mapping[str, Part]
    suite: str = ""
    called: str = ""
    """What the user called it when it was built; "" for nestlab's own."""
    added: tuple[str, ...] = ()
    """What was added to nestlab's own: packages, paths of files, `script`."""

    @property
    def kernel(self) -> Path:
        """An uncompressed ELF kernel with a PVH entry, for QEMU's -kernel."""
        return self.folder / self.parts["kernel"].file

    @property
    def bzimage(self) -> Path:
        """The same kernel as the package has it, packed, for boot loaders."""
        return self.folder / self.parts["bzimage"].file

    @property
    def initrd(self) -> Path:
        """An uncompressed newc archive, for QEMU's -initrd."""
        return self.folder / self.parts["initrd"].file

    @property
    def root(self) -> Path | None:
        """A raw sparse ext4 filesystem, to be used as a read-only backing file."""
        part = self.parts.get("root")
        return self.folder / part.file if part else None

    @property
    def agent(self) -> Path | None:
        """An uncompressed newc archive with the guest agent, loaded over the initrd where that is the only way in."""
        part = self.parts.get("agent")
        return self.folder / part.file if part else None

    @property
    def disk_usage(self) -> int:
        """Bytes that the image takes on this disk (its root is sparse)."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def folder_of(digest: str, cache: Path) -> Path:
    """Where the image of a digest is, or will be."""
    return cache / "images" / digest


def find(recipe: Recipe, cache: Path) -> BuiltImage | None:
    """The built image of a recipe, if the cache has it."""
    return load(folder_of(recipe.digest, cache))


def ls(cache: Path) -> tuple[BuiltImage, ...]:
    """All built images, by name, then digest."""
    folders = sorted((cache / "images").glob("[0-9a-f]*/"))
    images = [image for folder in folders if (image := load(folder)) is not None]
    return tuple(sorted(images, key=lambda image: (image.name, image.digest)))


def rm(cache: Path, digest: str) -> None:
    """Removes one image; absence is fine. Machines that run from it must be gone: it is their backing file."""
    from nestlab.home.cache import remove

    remove(folder_of(digest, cache))


def load(folder: Path) -> BuiltImage | None:
    """The image in a folder, or None if there is none or its description cannot be read."""
    try:
        value = parsed((folder / DESCRIPTION).read_text())
        parts = {role: Part(**part) for role, part in value["parts"].items()}
        recipe = value.get("recipe", {})
        return BuiltImage(
            name=value["name"],
            digest=value["digest"],
            folder=folder,
            kernel_version=value["kernel_version"],
            cmdline=tuple(value["cmdline"]),
            parts=parts,
            suite=str(recipe.get("suite", "")),
            called=str(recipe.get("called", "")),
            added=_added(value["name"], recipe),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _added(name: str, recipe: Mapping[str, Any]) -> tuple[str, ...]:
    own = pve.recipe(PvePackages(), "") if name == pve.NAME else BUILTIN.get(name)
    packages = [each for each in recipe.get("packages", ()) if own is None or each not in own.packages]
    files = [each for each in recipe.get("files", ()) if own is None or each not in [file.path for file in own.files]]
    return (*map(str, packages), *map(str, files), *(["script"] if recipe.get("script") else []))


def describe(image: BuiltImage, recipe: Recipe) -> str:
    """The text of image.json."""
    own = BUILTIN.get(recipe.name)
    value = {
        "name": image.name,
        "digest": image.digest,
        "kernel_version": image.kernel_version,
        "cmdline": list(image.cmdline),
        "parts": {role: asdict(part) for role, part in image.parts.items()},
        "recipe": {
            "base": recipe.base,
            "suite": recipe.suite,
            "kernel": recipe.kernel,
            "packages": list(recipe.packages),
            "files": [file.path for file in recipe.files],
            "mirror": recipe.mirror,
            "script": recipe.script not in ("", own.script if own else ""),
            "called": recipe.called,
        },
    }
    return json.dumps(value, indent=2) + "\n"
