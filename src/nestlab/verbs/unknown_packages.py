"""Packages of a lab's images that Debian does not have, found before anything is made. What is known of Debian's is in
the cache; only `learn` asks a mirror."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from nestlab.base.errors import Mistake, Mistakes
from nestlab.base.events import Say
from nestlab.images import package_names
from nestlab.images.package_names import Archive, Names
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.image_titles import title_of
from nestlab.lab.model import Image
from nestlab.plan.steps import Build, Plan
from nestlab.verbs.site import Site

MOST = 20
"""Unknown packages that are told at once."""


def check(images: Iterable[Image], cache: Path) -> None:
    """Mistakes, all at once, for packages that are in no list of their archive, as far as the cache has lists that are
    not old. Nothing is asked and nothing else is opened."""
    lists: dict[Archive, Names | None] = {}
    found: list[Mistake] = []
    for image in dict.fromkeys(images):
        archive = package_names.archive_of(image)
        if archive is None:
            continue
        if archive not in lists:
            lists[archive] = package_names.load(archive, cache)
        if (names := lists[archive]) is not None:
            found += itertools.islice(_mistakes(image, archive, names), MOST - len(found))
        if len(found) == MOST:
            break
    if found:
        raise Mistakes(found, more=len(found) == MOST)


def built(blueprint: Blueprint, todo: Plan) -> tuple[Image, ...]:
    """The images that a plan builds."""
    return tuple(dict.fromkeys(blueprint.images[step.image] for step in todo.steps if isinstance(step, Build)))


async def learn(site: Site, images: Iterable[Image], say: Say) -> None:
    """Asks for the names that `check` needs for images that are to be built: of archives of which none are kept, and
    of those that lacked a package an hour ago or longer. LabError where a mirror does not answer."""
    if (fetch := site.names) is None or site.needs():
        return
    asked, cache = set(), site.home.cache
    for image in dict.fromkeys(images):
        archive = package_names.archive_of(image)
        if archive is None or archive in asked:
            continue
        names = package_names.load(archive, cache)
        unknown = names is not None and not names.known.issuperset(package_names.wanted(image))
        if names is None or (unknown and names.age > package_names.FRESH):
            asked.add(archive)
            await fetch(archive, cache, say)


def _mistakes(image: Image, archive: Archive, names: Names) -> Iterator[Mistake]:
    file, _, line = (image.said or "").rpartition(":")
    where = f" at {archive.mirror}" if archive.mirror else ""
    date = time.strftime("%-d %B", time.localtime(time.time() - names.age))
    for name in package_names.wanted(image):
        if name in names.known:
            continue
        key = "kernel" if name == image.kernel else "packages"
        what = f"Debian {archive.suite} has no package {name}{where} (its list of {date})"
        near = package_names.nearest(name, names.known)
        hint = f"Did you mean `{near}`?" if near else "Correct its name, or choose another `suite`."
        yield Mistake(file or "the lab file", int(line or 1), 1, f"image {title_of(image)}: {key}", what, hint)
