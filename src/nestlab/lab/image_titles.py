"""Titles of images for people, with what was added to each. Pure."""

from __future__ import annotations

from nestlab.lab.model import Image
from nestlab.lab.urls import name_in


def title_of(image: Image) -> str:
    """Its name in the lab file; else that of its file, or nestlab's name with what was added (`debian+curl`)."""
    if image.name:
        return image.name
    if image.file:
        return image.file.rpartition("/")[2]
    if image.url:
        return name_in(image.url)
    if image.install is not None:
        return f"install+{image.install.family}"
    parts = [*filter(None, (image.suite, image.kernel)), *image.packages]
    parts += [*(["files"] if image.files else []), *(["script"] if image.script else [])]
    return "+".join([image.base or "?", *parts[:2]]) + ("+…" if len(parts) > 2 else "")
