"""Copies a disk image into a hypervisor without its holes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.hosts.host import Host

CHUNK = 1 << 18

RECEIVE = r"""
import os, sys
path, size = sys.argv[1], int(sys.argv[2])
os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
out = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
os.truncate(out, size)
while True:
    head = sys.stdin.buffer.read(16)
    at, left = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
    if len(head) == 16 and not left:
        break
    data = sys.stdin.buffer.read(left)
    if not data or len(data) < left:
        sys.exit("the copy broke off")
    while data:
        count = os.pwrite(out, data, at)
        at, data = at + count, data[count:]
os.fsync(out)
os.close(out)
os.rename(path + ".new", path)
os.fsync(os.open(os.path.dirname(path), os.O_RDONLY))
"""
"""A Python program there. Arguments: the file, its size. Reads pieces, each after its offset and its length (8 bytes
each, big-endian); one of length 0 is the end, without which the file is not put in place."""


async def copy(source: Path, host: Host, path: str) -> None:
    """Copy a local file to `path` on the host, whole or not at all. LabError if either side fails."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(
            f"The file {source} cannot be read: {error.strerror}.", hint="Check its name and mode."
        ) from error
    try:
        size = os.fstat(descriptor).st_size
        async with host.start(("python3", "-c", RECEIVE, path, str(size))) as receiver:
            for at, count in pieces(descriptor, size):
                data = os.pread(descriptor, count, at)
                await receiver.write(at.to_bytes(8, "big") + len(data).to_bytes(8, "big") + data)
            await receiver.write(bytes(16))
            result = await receiver.result()
    finally:
        os.close(descriptor)
    if result.status != 0:
        said = result.stderr.decode(errors="replace").strip()
        hint = "Give it a larger `disk:`." if "No space left" in said else "What it said follows."
        raise LabError(f"{source.name} cannot be copied to {path} on {host.path}.", hint=hint, detail=said)


def pieces(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is not a hole in a file, at most CHUNK bytes each."""
    end = 0
    while end < size:
        try:
            at = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole until the end
            return
        end = os.lseek(descriptor, at, os.SEEK_HOLE)
        for start in range(at, end, CHUNK):
            yield start, min(CHUNK, end - start)
