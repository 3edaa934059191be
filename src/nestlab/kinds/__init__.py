"""The kinds of hypervisor: one file each, found by being here and having a `KIND`. Pure."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nestlab.kinds.base import Kind, Plain
from nestlab.kinds.plain import DEFAULT, IMAGES


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind, by name, in the order of the names."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [kind for module in modules if isinstance(kind := getattr(module, "KIND", None), Kind)]
    return MappingProxyType({kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)})


def names() -> frozenset[str]:
    """The values that `hypervisor:` may have."""
    return frozenset(kinds())


def default_image(kind: str | None) -> str:
    """The built-in image of a hypervisor of that kind, or of a plain guest (None)."""
    return DEFAULT if kind is None else kinds()[kind].image


@cache
def plains() -> Mapping[str, Plain]:
    """The built-in images for plain guests, by name."""
    return MappingProxyType({plain.name: plain for plain in IMAGES})


def images() -> tuple[str, ...]:
    """The names of all built-in images, in order."""
    return tuple(sorted({*plains(), *(kind.image for kind in kinds().values())}))


__all__ = ["Kind", "Plain", "default_image", "images", "kinds", "names", "plains"]
