"""SHA-256 of what large files hold, without their holes, remembered in the cache for as long as a file is unchanged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from nestlab.base import holes
from nestlab.base.errors import LabError
from nestlab.base.files import replace
from nestlab.base.typed import parsed

MOST = 1000
"""Files that are remembered, the last ones read."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ContentDigests:
    """A record that is not there, or damaged, says nothing: files are read again."""

    def __init__(self, cache: Path) -> None:
        self._file = cache / "content-digests.json"

    async def of(self, source: Path) -> str:
        """64 hexadecimal digits. LabError where it cannot be read."""
        return await asyncio.to_thread(self._of, source)

    def _of(self, source: Path) -> str:
        try:
            with source.open("rb") as file:
                about = os.fstat(file.fileno())
                key = f"{about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"
                known = self._load()
                if key in known:
                    return known[key]
                digest = _read(file.fileno(), about.st_size)
        except OSError as error:
            what = f"The file {source} cannot be read: {error.strerror}."
            raise LabError(what, hint="Check that it is there, and its mode.") from error
        kept = dict([*self._load().items(), (key, digest)][-MOST:])
        with suppress(LabError):
            replace(self._file, json.dumps(kept).encode(), 0o600, synced=False)
        return digest

    def _load(self) -> dict[str, str]:
        with suppress(OSError, ValueError, AttributeError):
            data = parsed(self._file.read_text(encoding="utf-8"))
            return {str(key): each for key, each in data.items() if _DIGEST.fullmatch(str(each))}
        return {}


def _read(descriptor: int, size: int) -> str:
    """Of the size, and of every piece that is no hole with its place: a disk of 16 GiB may hold half of one."""
    found = hashlib.sha256(f"{size}\n".encode())
    for start, end in holes.written(descriptor, size):
        found.update(f"{start} {end}\n".encode())
        os.lseek(descriptor, start, os.SEEK_SET)
        left = end - start
        while left and (data := os.read(descriptor, min(1 << 20, left))):
            found.update(data)
            left -= len(data)
    return found.hexdigest()
