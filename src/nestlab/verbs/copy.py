"""Copies files to, from and between machines: large ones by an attached disk, the rest over the connection.

The disk holds an archive. It is attached level by level: to the outermost machine as a file of this host, to the one
inside as the block device that the first one sees, and so on, so that no byte is encrypted or goes through a network on
its way. Where a machine cannot take a disk (another engine, an image of the user's own) the connection carries all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.disk_hotplug import Attaching
from nestlab.home import lock
from nestlab.home.paths import short_id
from nestlab.hosts import archive, copy
from nestlab.hosts.copy_scripts import DISK
from nestlab.hosts.host import Host
from nestlab.hosts.unpack import Unpacking
from nestlab.lab.model import parent_of
from nestlab.lab.places import is_here
from nestlab.show.transfer import Transfer
from nestlab.verbs.session import Session

LARGE = 2 << 20
"""Bytes from which attaching a disk is worth its while: a second or two at level 2, in which ssh carries this much."""

SLACK = 64 << 20
"""Bytes that an archive may have beside its files, and that stay free on this machine's disk."""

APPEARS = 20.0
"""Nominal seconds in which an attached disk is seen by the machine's kernel."""

RECORD = 10240
"""Bytes: what tar fills an archive up to."""

_PREFIX = ".copy-"


class _UnableError(Exception):
    """A disk cannot be attached: the connection carries it all."""


@frozen
class _Archive:
    """A local file with, or for, an archive."""

    file: IO[bytes]
    path: Path


async def upload(session: Session, source: str, path: str, target: str, transfer: Transfer) -> None:
    """Copy a local file or directory to `target` on machine `path`. LabError if it fails; what was there is then as it
    was."""
    kind, total = copy.kind_of(source), await asyncio.to_thread(archive.size, source)
    transfer.phase("copying", time.time(), total)
    if _carries(session, path, total):
        with contextlib.suppress(_UnableError), _file(session) as file:
            transfer.phase("packing", time.time())
            name = copy.name_of(source)
            await _work(lambda sink: archive.pack(source, name, sink), file, transfer.seen)
            await _deliver(session, file, path, (name, kind, target), transfer)
            return
    transfer.phase("copying", time.time())
    host = await session.nest.host(path)
    await copy.upload(source, host, target, seen=transfer.seen)


async def download(session: Session, path: str, source: str, target: str, transfer: Transfer) -> None:
    """Copy a file or directory `source` on machine `path` to a local place. LabError if it fails; what was there is
    then as it was."""
    host = await session.nest.host(path)
    _, total = await copy.size_of(host, source) or ("f", 0)
    transfer.phase("copying", time.time(), total)
    if _carries(session, path, total):
        with contextlib.suppress(_UnableError), _file(session) as file:
            await _collect(session, file, path, source, transfer)
            unpacking = Unpacking(target, copy.name_of(source))
            transfer.phase("unpacking", time.time())
            await _work(unpacking.run, file, transfer.seen)
            return
    transfer.phase("copying", time.time())
    await copy.download(host, source, target, seen=transfer.seen)


async def between(
    session: Session, path: str, source: str, other: Session, there: str, target: str, transfer: Transfer
) -> None:
    """Copy from machine `path` to machine `there`, perhaps of another lab, through this one. LabError as above."""
    host = await session.nest.host(path)
    kind, total = await copy.size_of(host, source) or ("f", 0)
    transfer.phase("copying", time.time(), total)
    name = copy.name_of(source)
    if _carries(session, path, total) and _carries(other, there, total):
        with contextlib.suppress(_UnableError), _file(session) as sent, _file(other) as checked:
            await _collect(session, sent, path, source, transfer)
            transfer.phase("checking", time.time())
            await _work(lambda sink: archive.relay(sent.file, sink, name), checked, transfer.seen)
            await _deliver(other, checked, there, (name, kind, target), transfer)
            return
    transfer.phase("copying", time.time())
    receiver = await other.nest.host(there)
    await copy.between(host, source, receiver, target, kind=kind, seen=transfer.seen)


def _carries(session: Session, path: str, total: int) -> bool:
    """Whether it is worth a try to bring so much to or from a machine by a disk."""
    blueprint = session.blueprint
    if total < LARGE or not is_here(blueprint.on):
        return False
    if shutil.disk_usage(session.place.root).free < total + total // 4 + 2 * SLACK:
        return False
    specs = blueprint.by_path()
    chain = _chain(path)
    if any(each in specs and specs[each].machine.hypervisor == "pve" for each in chain[:-1]):
        return False  # what is in a node is its Proxmox VE's to plug in
    return all(each in specs and not blueprint.images[specs[each].image].foreign for each in chain)


def _chain(path: str) -> list[str]:
    """The machine and those that it is in, outermost first."""
    names = path.split("/")
    return ["/".join(names[: at + 1]) for at in range(len(names))]


async def _deliver(session: Session, file: _Archive, path: str, what: tuple[str, str, str], transfer: Transfer) -> None:
    """Unpack an archive in a local file on a machine. `what`: its name, kind and target."""
    file.file.flush()
    name, kind, target = what
    async with _attached(session, file, path, transfer, writable=False) as (host, disk):
        transfer.phase("copying", time.time())
        await copy.receive(host, disk, name, kind, target, seen=transfer.seen)


async def _collect(session: Session, file: _Archive, path: str, source: str, transfer: Transfer) -> None:
    """Pack a machine's files into a local file."""
    os.truncate(file.path, _rounded(transfer.total + transfer.total // 4 + SLACK))
    async with _attached(session, file, path, transfer, writable=True) as (host, disk):
        transfer.phase("copying", time.time())
        try:
            await copy.send(host, source, disk, seen=transfer.seen)
        except LabError as error:  # it grew, or it cannot be read: the connection tells which
            raise _UnableError from error
    file.file.seek(0)


@asynccontextmanager
async def _attached(
    session: Session, file: _Archive, path: str, transfer: Transfer, *, writable: bool
) -> AsyncIterator[tuple[Host, str]]:
    """The machine as a host, and the device there that is the local file. _UnableError where that cannot be."""
    serial = os.urandom(6).hex()
    outer = path.partition("/")[0]
    holding = lock.held(
        session.place.root / f"cp-{short_id(outer)}.lock", session.place.name, "cp", say=_told(transfer)
    )
    async with holding, AsyncExitStack() as stack:
        try:
            transfer.phase("attaching a disk", time.time())
            device = str(file.path)
            for each in _chain(path):
                engine = await session.nest.engine(parent_of(each))
                if not isinstance(engine, Attaching):
                    raise _UnableError
                await stack.enter_async_context(engine.attached(each, device, serial, writable=writable))
                host = await session.nest.host(each)
                tenths = str(int(10 * patience.allowed(APPEARS)))
                device = (await host.run(["sh", "-c", DISK, "disk", serial, tenths])).text.strip()
                if not re.fullmatch(r"/dev/vd[a-z]{1,3}", device):
                    raise _UnableError
            transfer.way = "disk"
            file.path.unlink(missing_ok=True)  # QEMU has it open: whatever ends us, nothing is left
        except (LabError, OSError) as error:
            raise _UnableError from error
        yield host, device


def _told(transfer: Transfer) -> Callable[[str], None]:
    return lambda text: transfer.phase(text, time.time())


@contextlib.contextmanager
def _file(session: Session) -> Iterator[_Archive]:
    """A file for an archive, beside what is kept of the lab; what a killed copy left there goes first."""
    folder = session.place.root
    for old in folder.glob(f"{_PREFIX}*"):
        _remove_left(old)
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
    except OSError as error:
        raise _UnableError from error
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123 - of a descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield _Archive(file, Path(name))
    finally:
        Path(name).unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """The file of a copy that is no longer at work: nobody holds its lock."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _rounded(size: int) -> int:
    return -(-size // RECORD) * RECORD


async def _work(work: Callable[[Any], None], to: _Archive, seen: copy.Seen) -> None:
    """Do blocking work on a local file in a thread; when cancelled, the thread is ended first."""
    counted = _Counted(to.file, seen)
    working = asyncio.ensure_future(asyncio.to_thread(work, counted))
    try:
        await asyncio.shield(working)
    except EOFError as error:
        raise LabError("The archive is damaged: there is none.", hint="Copy it again.") from error
    finally:
        if not working.done():
            counted.given_up = True
            await asyncio.wait({working})
            working.exception()  # seen


class _Counted:
    """A binary file that tells how much of it was read or written."""

    def __init__(self, file: IO[bytes], seen: copy.Seen) -> None:
        self._file = file
        self._seen = seen
        self._passed = 0
        self.given_up = False

    def write(self, data: bytes) -> int:
        self._count(len(data))
        try:
            return self._file.write(data)
        except OSError as error:  # the disk here is full, say
            raise _UnableError from error

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._count(len(data))
        return data

    def _count(self, count: int) -> None:
        if self.given_up:
            raise concurrent.futures.CancelledError
        self._passed += count
        self._seen(self._passed)
