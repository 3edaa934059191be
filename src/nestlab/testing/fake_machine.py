"""One machine of a pretended world."""

from __future__ import annotations

from dataclasses import dataclass, field

from nestlab.base.errors import LabError
from nestlab.lab.disks import MadeDisk, by_name
from nestlab.plan.steps import Plugs, State

PLUGS = Plugs(4, scsi=True, out=True)
"""What such a machine takes while it runs."""


@dataclass
class FakeMachine:
    """One machine of the world. `silent`: it runs and does not answer. `root`: what its disk was made from (None: an
    earlier nestlab made it, and does not tell); `files` are on its disk, and `disk` is the size that this has."""

    digest: str
    names: str
    state: State = "stopped"
    why: str = ""
    silent: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    root: str | None = None
    disk: int = 0
    disks: tuple[MadeDisk, ...] = ()
    plugs: Plugs = PLUGS

    def settle(self, disks: tuple[MadeDisk, ...], path: str) -> None:
        """It has these disks beside its own. LabError where one would be lost."""
        wanted = by_name(disks)
        for disk in self.disks:
            now = wanted.get(disk.name)
            if now is None or now.source != disk.source or 0 < now.size < disk.size:
                raise LabError(f"{path} would lose its disk {disk.name}.", hint="Discard it first.")
        self.disks = disks
