"""What a person calls an image, and what was added to it. Pure."""

from __future__ import annotations

from nestlab.lab.model import Image


def title_of(image: Image) -> str:
    """Its name in the lab file; else that of its file, or nestlab's name with what was added (`debian+curl`)."""
    if image.name:
        return image.name
    if image.file:
        return image.file.rpartition("/")[2]
    parts = [*filter(None, (image.suite, image.kernel)), *image.packages]
    parts += [*(["files"] if image.files else []), *(["script"] if image.script else [])]
    return "+".join([image.base or "?", *parts[:2]]) + ("+…" if len(parts) > 2 else "")
