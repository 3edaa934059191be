"""Copying files and directories to and from a host, as `cp -a` would, by a stream of `tar` (GNU's or busybox's).

A directory that exists receives the source under its own name; anything else becomes the copy (a slash at its end
says that it is a directory: no file becomes that). A source that is a symbolic link is followed, those inside a
directory are kept. Modes and times are kept, owners are not: they mean nothing on another machine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from nestlab.base.errors import LabError
from nestlab.hosts.host import Host, Result, Running
from nestlab.hosts.unpack import Unpacking
from nestlab.wire.result import failure

T = TypeVar("T")

BLOCK = 1 << 18

# $1 target, $2 name in the archive (. for its contents), $3 d for a directory, $4 a temporary name
RECEIVE = """
t=$1; new=; say() { echo "$*" >&2; exit 1; }
case $t in */) [ -d "$t" ] || [ "$3" = d ] || say "$t: there is no such directory";; esac
while [ ! -d "$t" ] && [ "$t" != "${t%/}" ]; do t=${t%/}; done
[ "$2" != . ] || mkdir -p -- "$t" || exit
[ ! -d "$t" ] || exec tar -xopf - -C "$t"
[ ! -L "$t" ] || t=$(readlink -f -- "$t") || exit
if [ -e "$t" ]; then [ -f "$t" ] && [ "$3" != d ] || say "$t: there is something else already"; fi
d=$(dirname -- "$t"); [ -d "$d" ] || say "$d: there is no such directory"
trap 'rm -rf -- "$new"; exit 143' HUP INT TERM
new=$d/$4; mkdir -m 700 -- "$new" && tar -xopf - -C "$new" && mv -f -- "$new/$2" "$t"
status=$?; rm -rf -- "$new"; exit $status
"""

# $1 source
SEND = """
s=$1; say() { echo "$*" >&2; exit 1; }
[ -e "$s" ] || [ ! -L "$s" ] || say "$s: a link that leads nowhere: to $(readlink -- "$s")"
[ -e "$s" ] || say "$s: No such file or directory"
case $s in .|..|/|*/.|*/..) cd -- "$s" && exec tar -cf - .;; esac
[ ! -L "$s" ] || s=$(readlink -f -- "$s") || exit
cd -- "$(dirname -- "$s")" && exec tar -cf - "./$(basename -- "$s")"
"""

# $1 target
HOLDS = '[ ! -d "$1" ] || echo yes'


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


async def upload(source: str, host: Host, target: str) -> None:
    """Copy a local file or directory to `target` (relative to the home directory there). LabError if it fails."""
    name = _name(source)
    script = ["sh", "-c", RECEIVE, "cp", target or ".", name, _kind(source), f".{os.urandom(4).hex()}.new"]
    async with host.start(script) as running:
        await _in_thread(running, lambda bridge: _pack(source, name, bridge))
        result = await running.result()
    if result.status != 0:
        raise failure(_plain(result, "cp", source, f"{host.path}:{target}"), "")


async def download(host: Host, source: str, target: str) -> None:
    """Copy a file or directory `source` (relative to the home directory there) to a local place.

    LabError if it fails, and for an archive with a member that would leave the place, or is no file, directory or
    link. Set-user-ID bits are dropped."""
    unpacking = Unpacking(target, _name(source))
    async with host.start(["sh", "-c", SEND, "cp", source or "."]) as running:
        with contextlib.suppress(EOFError):  # nothing came: the status tells why
            await _in_thread(running, unpacking.run)
        result = await running.result()
    if result.status != 0:
        raise failure(_plain(result, "cp", f"{host.path}:{source}", target), "")


def _name(source: str) -> str:
    """The name that the copy of `source` gets in a directory; `.` where its contents are meant."""
    name = posixpath.basename(source.rstrip("/"))
    return "." if name in ("", ".", "..") else name


def _kind(source: str) -> str:
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


def _plain(result: Result, *argv: str) -> Result:
    """The result under the name that the user knows it by, instead of the script's."""
    return Result(argv, result.status, b"", result.stderr)


class _Bridge:
    """A running command as the binary file that a thread writes or reads."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._chunks: AsyncIterator[bytes] = running.chunks()
        self._loop = asyncio.get_running_loop()
        self._waits: concurrent.futures.Future[Any] | None = None
        self._broken = False
        self._rest = b""

    def write(self, data: bytes) -> int:
        self._wait(self._running.write(bytes(data)))
        return len(data)

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            data = self._wait(self._next())
            if not data:
                break
            self._rest += data
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


async def _in_thread(running: Running, work: Callable[[_Bridge], None]) -> None:
    """Do blocking work on the running command's streams; when cancelled, the thread is ended first."""
    bridge = _Bridge(running)
    working = asyncio.ensure_future(asyncio.to_thread(work, bridge))
    try:
        await asyncio.shield(working)
    finally:
        if not working.done():
            bridge.give_up()
            await asyncio.wait({working})
            working.exception()  # seen


def _pack(source: str, name: str, bridge: Any) -> None:
    """Write the archive of a local file or directory."""
    import tarfile

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        # GNU's format, because busybox skips the long names of pax.
        with tarfile.open(fileobj=bridge, mode="w|", bufsize=BLOCK, format=tarfile.GNU_FORMAT) as archive:
            archive.add(Path(source).resolve(), name, filter=anonymous)
    except OSError as error:
        what = f"{error.filename or source} cannot be copied: {error.strerror or error}."
        raise LabError(what, hint="Check its mode, and whether it is being written to.") from error
