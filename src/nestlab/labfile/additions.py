"""What of the additions to one of nestlab's images cannot be, found when the lab file is read rather than by `up`."""

from __future__ import annotations

from collections.abc import Iterator

from nestlab import kinds
from nestlab.labfile.network import Complaint
from nestlab.labfile.nodes import Node
from nestlab.labfile.read import Section

IDENTITY = ("/etc/hosts", "/etc/hostname", "/etc/machine-id", "/etc/resolv.conf")
"""Files that a machine gets from nestlab at each boot, whatever its image has there."""


def additions(section: Section) -> Iterator[Complaint]:
    """What is wrong with an image that says `from`."""
    base = section.values.get("from")
    plain = kinds.plains().get(base or "")
    if plain is not None and not plain.packages:
        for key in ("packages", "script"):
            if section.values.get(key):
                what = f"`{key}` means nothing here: {base} is no Debian system, and takes only files"
                yield section.keys[key], f"{section.key}.{key}", what, "Use `from: debian` for it."
    for node, name in section.values.get("packages") or ():
        if name.startswith("linux-image-"):
            what = f"{name} is a kernel, and the image has one"
            yield node, f"{section.key}.packages", what, f"Say `kernel: {_kernel(name)}` instead."
    yield from own_files(section.values.get("files"))


def own_files(files: Section | None) -> Iterator[Complaint]:
    """Files that would be written over."""
    if files is None:
        return
    for path, node in files.keys.items():
        if path in IDENTITY:
            what = f"{path} is each machine's own: nestlab writes it at every boot"
            yield node, f"{files.key}.{path}", what, "Leave it out."


def added_at(section: Section) -> Node | None:
    """Where an image says what is added to nestlab's own."""
    keys = ("packages", "kernel", "suite", "script", "files", "mirror", "version", "pve_mirror")
    return next((section.keys[key] for key in keys if key in section.keys), None)


def _kernel(package: str) -> str:
    return {"linux-image-amd64": "generic", "linux-image-cloud-amd64": "cloud"}.get(package, package)
