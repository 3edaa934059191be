"""The kinds of hypervisor: one file each, found by being here and having a `KIND`; those that nestlab does not work in
are in `foreign`. Pure."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nestlab.kinds.base import Kind, Plain
from nestlab.kinds.foreign import foreign
from nestlab.kinds.foreign.recipe import Foreign
from nestlab.kinds.plain import DEFAULT, IMAGES, could_be_container, makes_containers

_OWN = (
    "nestlab makes none yet. One of yours boots as `hypervisor: other` with `image: {file: ./disk.qcow2}`; nestlab then"
    " makes no machines in it."
)
NOT_YET: Mapping[str, str] = {
    **dict.fromkeys(("xen", "incus", "lxd", "ovirt", "openstack"), _OWN),
    "qemu": "It is called `kvm`.",
    **dict.fromkeys(("proxmox", "proxmox-ve"), "It is called `pve`."),
    "hyperv": "It is called `hyper-v`.",
    "vmware": "It is called `esxi`.",
    "xcpng": "It is called `xcp-ng`.",
    "nutanix": "It is called `nutanix-ce`.",
    "freebsd": "It is called `bhyve`.",
    "wsl": "It is called `windows`.",
    "wsl2": "It is called `windows`.",
}
"""Hypervisors that somebody may name, and what to say instead."""


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind, by name, in the order of the names."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [kind for module in modules if isinstance(kind := getattr(module, "KIND", None), Kind)]
    return MappingProxyType({kind.name: kind for kind in sorted(found, key=lambda kind: kind.name)})


def names() -> frozenset[str]:
    """The values that `hypervisor:` may have."""
    return frozenset(kinds()) | frozenset(foreign())


def is_foreign(kind: str | None) -> bool:
    """Whether nestlab does not work in hypervisors of that kind."""
    return kind is not None and kind in foreign()


def default_image(kind: str | None) -> str:
    """The built-in image of a hypervisor of that kind, or of a plain guest (None). Of one that nestlab does not work
    in there is none, and the plain guest's stands for it."""
    known = kinds().get(kind or "")
    return known.image if known else DEFAULT


@cache
def plains() -> Mapping[str, Plain]:
    """The built-in images for plain guests, by name."""
    return MappingProxyType({plain.name: plain for plain in IMAGES})


def images() -> tuple[str, ...]:
    """The names of all built-in images, in order."""
    return tuple(sorted({*plains(), *(kind.image for kind in kinds().values())}))


__all__ = [
    "Foreign",
    "Kind",
    "Plain",
    "could_be_container",
    "default_image",
    "foreign",
    "images",
    "is_foreign",
    "kinds",
    "makes_containers",
    "names",
    "plains",
]
