"""An image that is made by running an installer once. Pure."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from nestlab.answers import Answers, Family
from nestlab.base.frozen import frozen
from nestlab.lab.hardware import Firmware

if TYPE_CHECKING:
    from nestlab.lab.model import Image

MIB, GIB = 1 << 20, 1 << 30


@frozen
class Install:
    """How an image is installed. `iso`: the absolute path of the installer's ISO; `source`: where it is downloaded
    from; neither: Debian's netboot installer. `disk`, `memory`: bytes of the machine that it runs in; its disk becomes
    the image. `mirror`: the URL of a mirror of the distribution; None: the installer's medium, or for Debian's netboot
    what mmdebstrap takes. `internet`: whether the installer reaches more than the answer server and that mirror."""

    family: Family
    answers: Answers = field(default_factory=Answers)
    iso: str | None = None
    source: Image | None = None
    mirror: str | None = None
    disk: int = 8 * GIB
    memory: int = GIB
    cpus: int = 1
    internet: bool = False
    firmware: Firmware | None = None
    """That of the machine that it runs in, and so of those that are made from it; None: a BIOS."""
