"""Files that are copied over ssh to where a node's storage keeps such files, and compared there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nestlab.base.errors import LabError
from nestlab.wire.pve.api import Progress
from nestlab.wire.result import Result


class Copies(Protocol):
    """The part of `host.Host` that is needed."""

    @property
    def path(self) -> str: ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result: ...

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None: ...


async def put(
    host: Copies, source: Path, place: str, volume: str, progress: Progress | None = None, *, mode: int = 0o644
) -> None:
    """Copy a local file to `place` on a node, where it is `volume`. LabError, and nothing left there, when it did not
    arrive whole."""
    size, digest = await asyncio.to_thread(_measure, source)
    await host.put(source, place, mode=mode)
    if progress:
        progress(size, size)
    kept = await host.run(["sha256sum", "--", place], check=False)
    if kept.text.split()[:1] != [digest]:
        await host.run(["rm", "-f", "--", place], check=False)
        what = f"{source} did not arrive whole on {host.path or 'this node'} ({volume})."
        raise LabError(what, hint="Check the space there and the network, then try again.")


def _measure(source: Path) -> tuple[int, str]:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as error:
        raise LabError(f"{source} cannot be read: {error.strerror}.", hint="Check the file and its owner.") from error
