"""Copies a disk image into a hypervisor, or out of one, without its holes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from nestlab.base import holes, patience
from nestlab.base.errors import LabError, Overdue
from nestlab.hosts.host import Host, Running, called
from nestlab.wire.result import tail
from nestlab.wire.shapes import odd

CHUNK = 1 << 18

RECEIVE = r"""
import os, sys
path, size = sys.argv[1], int(sys.argv[2])
new = path + "." + (sys.argv[3:] or [""])[0] + "new"
os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
out = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
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
os.rename(new, path)
os.fsync(os.open(os.path.dirname(path), os.O_RDONLY))
"""
"""A Python program there. Arguments: the file, its size, and what makes the name of a half written one this writer's
own, where several may write. Reads pieces, each after its offset and its length (8 bytes
each, big-endian); one of length 0 is the end, without which the file is not put in place."""


SEND = r"""
import os, sys
out, end = sys.stdout.buffer, 0
file = os.open(sys.argv[1], os.O_RDONLY | os.O_NOFOLLOW)
size = os.fstat(file).st_size
while end < size:
    try:
        at = os.lseek(file, end, os.SEEK_DATA)
    except OSError:
        break
    end = os.lseek(file, at, os.SEEK_HOLE)
    while at < end:
        data = os.pread(file, min(1 << 18, end - at), at)
        out.write(at.to_bytes(8, "big") + len(data).to_bytes(8, "big") + data)
        at += len(data)
out.write(bytes(16))
out.flush()
"""
"""A Python program there. Argument: the file, which nobody writes to. Writes what RECEIVE reads."""

SILENCE = 120.0
"""Nominal seconds in which a piece of a file comes, or is taken."""

SYNCED = 5
"""Times that, in which a file is on the disk there."""

Seen = Callable[[int], None]
"""Is told how many bytes have gone over."""


async def copy(
    source: Path, host: Host, path: str, seen: Seen = lambda _: None, *, python: str = "python3", token: str = ""
) -> None:
    """Copy a local file to `path` on the host, whole or not at all. `token`: this one's, where several may send it.
    LabError if either side fails, Overdue where nothing is taken."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(
            f"The file {source} cannot be read: {error.strerror}.", hint="Check its name and mode."
        ) from error
    try:
        size = os.fstat(descriptor).st_size
        silence, clock = patience.allowed(SILENCE, host.slowness), asyncio.get_running_loop().time
        receive = (python, "-c", RECEIVE, path, str(size), token)
        async with asyncio.timeout(silence) as late, host.start(receive) as receiver:
            for at, count in pieces(descriptor, size):
                data = os.pread(descriptor, count, at)
                await receiver.write(at.to_bytes(8, "big") + len(data).to_bytes(8, "big") + data)
                late.reschedule(clock() + silence)
                seen(at + len(data))
            await receiver.write(bytes(16))
            late.reschedule(clock() + SYNCED * silence)
            result = await receiver.result()
    except TimeoutError:
        what = f"{called(host)} does not take the file {source.name} any more."
        raise Overdue(what, hint=patience.LONGER) from None
    finally:
        os.close(descriptor)
    if result.status != 0:
        said = result.stderr.decode(errors="replace").strip()
        short = "Give it a larger `disk:`." if host.path else "Make room there."
        hint = short if "No space left" in said else "What it said follows."
        raise LabError(f"{source.name} cannot be copied to {path} on {called(host)}.", hint=hint, detail=said)


async def fetch(host: Host, path: str, target: Path, size: int, seen: Seen = lambda _: None) -> None:
    """Make the local file `target`, new and of exactly `size` bytes, of what the host sends as the file `path`.

    Whoever is there may send anything: it becomes bytes of this file, and never more than `size`. Odd for what is no
    such copy, Overdue where nothing comes, LabError where the host cannot send it, OSError for this side's disk."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, size)
        async with host.start(("python3", "-I", "-S", "-c", SEND, path)) as sender:
            whole, end = False, 0
            async for at, data in _sent(sender, host):
                whole = not data
                if whole:
                    break
                if at < end or at + len(data) > size:
                    raise odd(host.path, f"the content of {path}", f"bytes at {at}, of a disk of {size}")
                end = at + len(data)
                await asyncio.to_thread(_write, descriptor, data, at)
                seen(end)
            if not whole:
                said = b"It has closed what it sent by, and goes on."
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience.allowed(SILENCE, host.slowness)):
                        said = (await sender.result()).stderr
                what = f"{path} cannot be copied from {host.path}."
                raise LabError(what, hint="What it said follows.", detail=tail(said))
    finally:
        os.close(descriptor)


async def _sent(sender: Running, host: Host) -> AsyncIterator[tuple[int, bytes]]:
    """(offset, bytes) of what is sent, to the piece without bytes that is the end, or to where it breaks off. Odd for a
    piece that is longer than CHUNK."""
    chunks, kept = aiter(sender.chunks()), bytearray()

    async def more(wanted: int) -> bool:
        while len(kept) < wanted:
            try:
                async with asyncio.timeout(patience.allowed(SILENCE, host.slowness)):
                    kept.extend(await anext(chunks))
            except StopAsyncIteration:
                return False
            except TimeoutError:
                what = f"{host.path} stopped sending a file."
                raise Overdue(what, hint=patience.LONGER) from None
        return True

    while await more(16):
        at, count = int.from_bytes(kept[:8], "big"), int.from_bytes(kept[8:16], "big")
        if count > CHUNK:
            raise odd(host.path, "a file", f"a piece of {count} bytes")
        if not await more(16 + count):
            return
        data = bytes(kept[16 : 16 + count])
        del kept[: 16 + count]
        yield at, data
        if not count:
            return


def _write(descriptor: int, data: bytes, at: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, at)
        at, data = at + count, data[count:]


def pieces(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is not a hole in a file, at most CHUNK bytes each."""
    for at, end in holes.written(descriptor, size):
        for start in range(at, end, CHUNK):
            yield start, min(CHUNK, end - start)
