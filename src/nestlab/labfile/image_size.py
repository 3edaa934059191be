"""How large the disk of an image is."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nestlab import kinds
from nestlab.lab.model import MIB, Format, Image, format_size
from nestlab.labfile.disk_image import size_of


def disk_of(image: Image) -> int:
    """Bytes of the disk that an image has; 0 if it has none, or it cannot be told."""
    if image.file is not None:
        try:
            status = Path(image.file).stat()
        except (OSError, ValueError):
            return 0
        return _size(image.file, image.format, status.st_mtime_ns, status.st_size)
    plain = kinds.plains().get(image.base or "")
    return plain.disk if plain else next((each.disk for each in kinds_of(image)), 0)


@lru_cache(maxsize=1024)
def _size(path: str, form: Format | None, changed: int, size: int) -> int:
    """Of a file that many machines may boot; `changed` and `size` tell that it is still the same."""
    return size_of(path, form)


def readable(size: int) -> str:
    """A size rounded up to whole mebibytes."""
    return format_size(-(-size // MIB) * MIB)


def kinds_of(image: Image) -> list[kinds.Kind]:
    """The kinds of hypervisor that an image is for."""
    return [kind for kind in kinds.kinds().values() if kind.image == image.base]
