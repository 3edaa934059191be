"""`nestlab images`: which images are on this machine, which labs need them, and building them ahead of `up`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nestlab.base.errors import LabError
from nestlab.base.events import Began, Ended, Event, Failed, Finished, Said, Started
from nestlab.base.frozen import frozen
from nestlab.home import snapshots
from nestlab.home.directories import Home
from nestlab.images import downloads, firmware_files, image_cache, installed, ipxe_files, pve
from nestlab.images.recipes import BUILTIN, COMMON
from nestlab.lab import blueprint_file
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image
from nestlab.lab.netboot import service_of

if TYPE_CHECKING:
    from nestlab.images.image_files import Installer
    from nestlab.images.unused import Unused

Emit = Callable[[Event], None]


@frozen
class StoredImage:
    """One image in the cache as shown: its name for the user, and what it was made from. `size` in bytes on the disk;
    `used`: the labs that need it."""

    name: str
    digest: str
    size: int
    kernel: str = ""
    used: tuple[str, ...] = ()
    base: str = ""
    suite: str = ""
    added: str = ""


def used(home: Home) -> dict[str, tuple[str, ...]]:
    """By image key: the labs that need it, also those of other state directories with the same cache. LabError when a
    lab cannot be read: then nothing is known to be unused."""
    labs: dict[str, dict[str, None]] = {}
    for lab, key, _ in _needed(home):
        labs.setdefault(key, {})[lab] = None
    return {key: tuple(names) for key, names in labs.items()}


def _needed(home: Home) -> Iterator[tuple[str, str, Image]]:
    """(lab, key, image) of every image that a lab needs."""
    for shown, blueprint in _blueprints(home):
        for key, image in blueprint.images.items():
            yield shown, key, image


def _files(home: Home) -> Iterator[str]:
    """The digests of the files of Debian's that machines of labs are started with."""
    for _, blueprint in _blueprints(home):
        if any(spec.machine.hardware.uefi or spec.machine.hardware.tpm for spec in blueprint.specs):
            yield firmware_files.FILES.digest
        if any((found := service_of(blueprint, each.name)) and found.loader for each in blueprint.segments):
            yield ipxe_files.FILES.digest


def _blueprints(home: Home) -> Iterator[tuple[str, Blueprint]]:
    """Of every lab what it is, what was made of it, and what its snapshots are of, with its name as shown."""
    for each in home.joined():
        for name in each.labs():
            place = each.existing(name)
            shown = name if each == home else f"{name} (in {each.state})"
            for path in (place.blueprint, place.applied, *snapshots.blueprints(place)) if place else ():
                if (blueprint := blueprint_file.load(path, name)) is not None:
                    yield shown, blueprint


def shelved(home: Home) -> list[StoredImage]:
    """All built, installed and downloaded images, with the labs that need them."""
    needed = used(home)
    names = {key: image.name for _, key, image in _needed(home) if image.name}
    fetched = [
        StoredImage(
            each.name, key, downloads.disk_usage(folder), used=needed.get(key, ()), base=_origin(each), added=each.was
        )
        for key, each, folder in downloads.ls(home.cache)
    ]
    shown = [
        StoredImage(
            names.get(each.digest) or each.called or each.name,
            each.digest,
            each.disk_usage,
            each.kernel_version,
            needed.get(each.digest, ()),
            each.name,
            each.suite,
            _listed(each.added),
        )
        for each in image_cache.ls(home.cache)
    ]
    made = [
        StoredImage(
            names.get(each.key) or each.called or f"install+{each.family}",
            each.key,
            each.disk_usage,
            used=needed.get(each.key, ()),
            base=f"{each.family}'s installer" + (f", in {each.inside}" if each.inside else ""),
        )
        for each in installed.ls(home.cache)
    ]
    return sorted([*shown, *fetched, *made], key=lambda each: (each.name, each.digest))


def _origin(image: downloads.Ready) -> str:
    """The host that a downloaded image is from."""
    return urlsplit(image.url).hostname or "?"


def _listed(added: Sequence[str]) -> str:
    """What was added to an image, in few words."""
    files = [each for each in added if "/" in each]
    words = [each for each in added if "/" not in each]
    if files:
        words.append(files[0] if len(files) == 1 else f"{len(files)} files")
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def chosen(home: Home, words: Sequence[str]) -> list[StoredImage]:
    """The images meant by names or by the start of digests. LabError for a word that means none, and for an image
    that a lab needs."""
    shelf = shelved(home)
    meant: list[StoredImage] = []
    for word in words:
        found = [each for each in shelf if each.name == word or each.digest.startswith(word)]
        if not found:
            names = ", ".join(dict.fromkeys(each.name for each in shelf)) or "none"
            raise LabError(f"No image is called {word}, and no digest starts with it.", hint=f"Images: {names}.")
        meant += [each for each in found if each not in meant]
    needed = [each for each in meant if each.used]
    if needed:
        each = needed[0]
        raise LabError(
            f"The image {each.name} ({each.digest[:12]}) is under disks of {' and '.join(each.used)}.",
            hint="End that first (nestlab down), or name other images by their digests.",
        )
    return meant


def remove(home: Home, each: StoredImage) -> None:
    """Remove one image."""
    if each.digest.startswith("file-"):
        from nestlab.home import cache as folders

        folders.remove(downloads.place(home.cache) / each.digest)
    elif each.digest.startswith(installed.PREFIX):
        from nestlab.home import cache as folders

        folders.remove(installed.folder_of(each.digest, home.cache))
    else:
        image_cache.rm(home.cache, each.digest)


def unused(home: Home) -> tuple[Unused, ...]:
    """All that is in the cache and no lab needs. LabError when a lab cannot be read."""
    from nestlab.images.unused import unused as look

    return look(home.cache, {*used(home), *_files(home)})


def collect(home: Home, found: Sequence[Unused] | None = None) -> int:
    """Remove what was found unused (None: all that is). Returns the bytes freed."""
    from nestlab.home import cache as folders
    from nestlab.images.unused import PLACES
    from nestlab.images.unused import remove as take

    still = {each.paths: each for each in unused(home)}
    freed = sum(take(still[each.paths]) for each in (still.values() if found is None else found) if each.paths in still)
    for name in PLACES:
        if (home.cache / name).is_dir():
            folders.sweep(home.cache / name)
    return freed


def to_build(words: Sequence[str], environ: Mapping[str, str]) -> dict[str, Image]:
    """The images meant by the words: names of nestlab's own (none: the common ones), or lab files, whose images are."""
    from nestlab.images.image_files import keys_of

    wanted: list[Image] = []
    for word in words or COMMON:
        if word in (*BUILTIN, pve.NAME):
            wanted.append(Image(base=word))
        elif word.endswith((".yaml", ".yml")):
            from nestlab.labfile import parse

            wanted += [placed.machine.image for placed in parse(Path(word), environ=environ).walk()]
        else:
            hint = f"Say one of {', '.join((*BUILTIN, pve.NAME))}, or name a lab file."
            raise LabError(f"There is no image {word}.", hint=hint)
    return {key: image for image, key in keys_of(wanted).items() if image.own or image.install}


async def build(
    home: Home, wanted: Mapping[str, Image], emit: Emit, verb: str = "build", install: Installer | None = None
) -> None:
    """Build images one after another, install them, or download them (`pull`); what is there stays as it is. LabError
    when one cannot be had."""
    from nestlab.images.image_files import Cache

    library = Cache(home.cache, install)
    began = time.monotonic()
    left = [f"{verb}:{key}" for key in wanted]
    emit(Began(time.time(), verb=f"images {verb}", steps=tuple(left)))
    try:
        for key, image in wanted.items():
            step, start = f"{verb}:{key}", time.monotonic()
            emit(Started(time.time(), step))
            try:
                await library.build(key, image, _teller(step, emit))
            except LabError as error:
                emit(Failed(time.time(), step, what=error.what, hint=error.hint, detail=error.detail))
                raise
            emit(Finished(time.time(), step, seconds=time.monotonic() - start))
            left.remove(step)
    finally:
        emit(Ended(time.time(), ok=not left, seconds=time.monotonic() - began, left=tuple(left)))


def _teller(step: str, emit: Emit) -> Callable[[str], None]:
    return lambda text: emit(Said(time.time(), step, text=text))
