"""Unattended installations: an installer is run once in a machine of its own, is answered by a server that only it
reaches, and leaves a disk that machines are copy-on-write children of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestlab.base.events import Say
    from nestlab.install.inside import Inside
    from nestlab.lab.model import Image


async def make(key: str, image: Image, cache: Path, say: Say, inside: Inside | None = None) -> None:
    """See `golden.make`, which is loaded when something is installed."""
    from nestlab.install import golden

    await golden.make(key, image, cache, say, inside)
