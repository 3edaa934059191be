"""Copying files and directories to, from and between hosts, as `cp -a` would, by `tar` (GNU's or busybox's).

A directory that exists receives the source under its own name; anything else becomes the copy (a slash at its end
says that it is a directory: no file becomes that). A source that is a symbolic link is followed, those inside a
directory are kept. Modes and times are kept, owners are not: they mean nothing on another machine. What is copied comes
to its place by renames when all of it has come, so that nothing half is ever there.

An archive goes over a host's connection, or by a disk that both sides see (`disk`: its device on the host).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import posixpath
import re
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from nestlab.base.errors import LabError
from nestlab.hosts import archive
from nestlab.hosts.copy_scripts import HOLDS, RECEIVE, SEND, SIZE
from nestlab.hosts.host import Host, Result, Running
from nestlab.hosts.unpack import Unpacking
from nestlab.wire.result import failure

T = TypeVar("T")

Seen = Callable[[int], None]
"""Is told how many bytes have passed so far."""

SECTOR = 512
"""Bytes: the unit of /sys/block/*/stat."""


def unseen(_: int) -> None:
    """For those who do not look at the progress."""


async def want_directory(target: str, host: Host | None = None) -> None:
    """LabError unless `target` is a directory, there or (without a host) here: several sources need one."""
    there, place = False, target
    if host is not None:
        there = (await host.run(["sh", "-c", HOLDS, "cp", target or "."])).text == "yes\n"
        place = f"{host.path}:{target}"
    else:
        with contextlib.suppress(OSError):  # where it may not be looked, nothing can be put either
            there = Path(target).is_dir()
    if not there:
        what = f"{place} is no directory, so it cannot receive several sources. Nothing was copied."
        raise LabError(what, hint="Make the directory first, or copy one source at a time.")


async def size_of(host: Host, source: str) -> tuple[str, int] | None:
    """What `source` is on a host, `d` for a directory and `f` for a file, and its bytes; None if it cannot be told."""
    said = (await host.run(["sh", "-c", SIZE, "cp", source or "."], check=False)).text.split()
    if len(said) < 2 or not re.fullmatch(r"[0-9]{1,18}", said[1]):
        return None
    return said[0], int(said[1]) * (1024 if said[0] == "d" else 1)


async def upload(source: str, host: Host, target: str, *, seen: Seen = unseen) -> None:
    """Copy a local file or directory to `target` (relative to the home directory there). LabError if it fails."""
    name = name_of(source)
    async with host.start(receiving(name, kind_of(source), target)) as running:
        await _in_thread(lambda bridges: archive.pack(source, name, bridges[0]), [running], seen)
        result = await running.result()
    if result.status != 0:
        raise _failed(result, source, f"{host.path}:{target}")


async def download(host: Host, source: str, target: str, *, seen: Seen = unseen) -> None:
    """Copy a file or directory `source` (relative to the home directory there) to a local place.

    LabError if it fails, and for an archive with a member that would leave the place, or is no file, directory or
    link. Set-user-ID bits are dropped."""
    unpacking = Unpacking(target, name_of(source))
    async with host.start(sending(source)) as running:
        with contextlib.suppress(EOFError):  # nothing came: the status tells why
            await _in_thread(lambda bridges: unpacking.run(bridges[0]), [running], seen)
        result = await running.result()
    if result.status != 0:
        raise _failed(result, f"{host.path}:{source}", target)


async def between(host: Host, source: str, other: Host, target: str, *, kind: str = "f", seen: Seen = unseen) -> None:
    """Copy a file or directory (`kind`: d) from one host to another, through this machine. LabError as for `download`
    and `upload`."""
    name = name_of(source)
    async with host.start(sending(source)) as sender, other.start(receiving(name, kind, target)) as receiver:
        with contextlib.suppress(EOFError):
            await _in_thread(lambda bridges: archive.relay(bridges[0], bridges[1], name), [sender, receiver], seen)
        sent = await sender.result()
        if sent.status == 0:
            received = await receiver.result()
    if sent.status != 0:
        raise _failed(sent, f"{host.path}:{source}", f"{other.path}:{target}")
    if received.status != 0:
        raise _failed(received, f"{host.path}:{source}", f"{other.path}:{target}")


async def receive(host: Host, disk: str, name: str, kind: str, target: str, *, seen: Seen = unseen) -> None:
    """Unpack what is on a disk of the host, the archive of `name`, at `target`. LabError if that fails."""
    result = await _by_disk(host, receiving(name, kind, target, disk), seen)
    if result.status != 0:
        raise _failed(result, name, f"{host.path}:{target}")


async def send(host: Host, source: str, disk: str, *, seen: Seen = unseen) -> None:
    """Write the archive of a file or directory to a disk of the host. LabError if that fails."""
    result = await _by_disk(host, sending(source, disk), seen)
    if result.status != 0:
        raise _failed(result, f"{host.path}:{source}", disk)


async def _by_disk(host: Host, argv: list[str], seen: Seen) -> Result:
    async with host.start(argv) as running:
        running.close_input()
        rest = b""
        async for chunk in running.chunks():
            *lines, rest = (rest + chunk)[-4096:].split(b"\n")
            for line in lines:
                if line.isdigit() and len(line) < 16:
                    seen(int(line) * SECTOR)
        return await running.result()


def receiving(name: str, kind: str, target: str, disk: str = "-") -> list[str]:
    """The command that unpacks an archive; from its stdin, unless from a disk."""
    return ["sh", "-c", RECEIVE, "cp", target or ".", name, kind, f".{os.urandom(4).hex()}.new", disk]


def sending(source: str, disk: str = "-") -> list[str]:
    """The command that makes an archive; on its stdout, unless on a disk."""
    return ["sh", "-c", SEND, "cp", source or ".", disk]


def name_of(source: str) -> str:
    """The name that the copy of `source` gets in a directory; `.` where its contents are meant."""
    name = posixpath.basename(source.rstrip("/"))
    return "." if name in ("", ".", "..") else name


def kind_of(source: str) -> str:
    """`d` for a local directory, else `f`. LabError if it is not there."""
    path = Path(source)
    try:
        return "d" if stat.S_ISDIR(path.stat().st_mode) else "f"
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            what = f"{source} is a link that leads nowhere: to {path.readlink()}."
            raise LabError(what, hint="Copy the directory that it is in: links inside one are kept.") from error
        raise LabError(f"There is no {source} on this machine.", hint="Check the name.") from error
    except OSError as error:
        raise LabError(f"{source} cannot be read: {error.strerror}.", hint="Check its name and mode.") from error


def _failed(result: Result, *words: str) -> LabError:
    """The error under the name that the user knows, instead of the script's."""
    return failure(Result(("cp", *words), result.status, b"", result.stderr), "")


class _Bridge:
    """A running command as the binary file that a thread writes or reads."""

    def __init__(self, running: Running, seen: Seen) -> None:
        self._running = running
        self._seen = seen
        self._passed = 0
        self._chunks: AsyncIterator[bytes] = running.chunks()
        self._loop = asyncio.get_running_loop()
        self._waits: concurrent.futures.Future[Any] | None = None
        self._broken = False
        self._rest = b""

    def write(self, data: bytes) -> int:
        self._wait(self._running.write(bytes(data)))
        self._passed += len(data)
        self._seen(self._passed)
        return len(data)

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            data = self._wait(self._next())
            if not data:
                break
            self._rest += data
            self._passed += len(data)
            self._seen(self._passed)
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def give_up(self) -> None:
        """Wake the thread: nobody waits for its work any more."""
        self._broken = True
        if self._waits is not None:
            self._waits.cancel()

    async def _next(self) -> bytes:
        return await anext(self._chunks, b"")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._broken:
            work.close()
            raise concurrent.futures.CancelledError
        waits = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waits = waits
        return waits.result()


async def _in_thread(work: Callable[[list[_Bridge]], None], commands: list[Running], seen: Seen) -> None:
    """Do blocking work on the streams of running commands, of which the first tells the progress; when cancelled, the
    thread is ended first."""
    bridges = [_Bridge(running, seen if at == 0 else unseen) for at, running in enumerate(commands)]
    working = asyncio.ensure_future(asyncio.to_thread(work, bridges))
    try:
        await asyncio.shield(working)
    finally:
        if not working.done():
            for bridge in bridges:
                bridge.give_up()
            await asyncio.wait({working})
            working.exception()  # seen
