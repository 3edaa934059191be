"""What an engine may offer besides: a disk for a machine that runs."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

Attached = AbstractAsyncContextManager[None]
"""A disk is attached while the context is open."""


@runtime_checkable
class Attaching(Protocol):
    """An engine that can give a disk to a machine that runs."""

    def attached(self, path: str, file: str, serial: str, *, writable: bool = False) -> Attached:
        """The machine `path`, directly on this host, has the file or block device `file` of this host as a virtio disk
        with this serial number while the context is open; one at a time. LabError where it cannot take one."""
