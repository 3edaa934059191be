"""Where the machine of an installer runs: on the lab's own host, or in a hypervisor (`install.inside`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.home.cache import working
from nestlab.hosts.host import Host
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Tool
from nestlab.install import command, runner
from nestlab.install.answer_server import Sockets
from nestlab.install.command import Placed
from nestlab.install.medium import Medium
from nestlab.wire import proc

LOOK = 2.0
"""Seconds between two looks at an installer."""


@frozen
class Seen:
    """How the machine of an installer is. `console`, `errors`: the ends of what its console shows, and of what its QEMU
    said. `written`: grows with what is written to its disk; `free`: bytes that still can be."""

    ended: bool
    console: bytes = b""
    errors: bytes = b""
    written: int = 0
    free: int = 0


async def make_disk(qemu_img: Tool, disk: Path, *words: str) -> None:
    """Run this machine's qemu-img with words that make `disk`. LabError if that fails."""
    done = await proc.run([*qemu_img.argv, *words], env=qemu_img.env, check=False)
    if done.status == 0:
        disk.chmod(0o600)
        return
    said = (done.stderr or done.stdout).decode(errors="replace").strip()[-500:]
    full = "No space left" in said
    hint = "Make room (`nestlab images gc` removes images nobody uses), then repeat."
    what = f"The installer's disk cannot be made: the disk of {disk.parent} is full."
    if not full:
        what, hint = f"The installer's disk cannot be made in {disk.parent}.", "What qemu-img said follows."
    raise LabError(what, hint=hint, detail=said)


class Stage(Protocol):
    """`where` says whose disk is written to, for people."""

    where: str

    @property
    def host(self) -> Host: ...

    async def place(self, medium: Medium, sockets: Sockets, size: int, say: Say) -> Placed:
        """Everything that it starts from, and a disk of so many bytes, where its QEMU finds it."""

    async def start(self, words: Sequence[str], env: dict[str, str]) -> None: ...

    async def seen(self) -> Seen:
        """How it is, LOOK seconds later or when it ended."""

    async def end(self) -> None:
        """End it, if it runs."""

    async def deliver(self, say: Say) -> None:
        """Its disk, which nobody writes to any more, becomes the one that was asked for."""


class Here:
    """On this machine: `disk` is written to as it is, `scratch` is beside it."""

    where = "this machine"

    def __init__(self, disk: Path, scratch: Path, qemu: Tool, qemu_img: Tool) -> None:
        self.host: Host = LocalHost()
        self._disk, self._scratch, self._qemu, self._img = disk, scratch, qemu, qemu_img
        self._process: asyncio.subprocess.Process | None = None

    async def place(self, medium: Medium, sockets: Sockets, size: int, say: Say) -> Placed:
        await make_disk(self._img, self._disk, "create", "-q", "-f", "qcow2", str(self._disk), str(size))
        return Placed(
            folder=str(self._scratch),
            disk=str(self._disk),
            form="qcow2",
            kernel=str(medium.kernel),
            initrd=str(medium.initrd),
            iso=str(medium.iso) if medium.iso else None,
            ways=command.forwards(sockets),
            qemu=self._qemu,
        )

    async def start(self, words: Sequence[str], env: dict[str, str]) -> None:
        with (self._scratch / runner.ERRORS).open("wb") as out, working(self._disk.parent) as mark:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **env},
                pass_fds=(mark,),
                preexec_fn=runner.die_with_parent,
            )

    async def seen(self) -> Seen:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), LOOK)
        return await asyncio.to_thread(self._look, self._process.returncode is not None)

    def _look(self, ended: bool) -> Seen:
        console, errors = self._scratch / runner.CONSOLE, self._scratch / runner.ERRORS
        for each in (console, errors):
            runner.cut(each)
        written, free = runner.blocks(self._disk), runner.free(self._scratch)
        return Seen(ended, runner.end_of(console), runner.end_of(errors), written, free)

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def deliver(self, say: Say) -> None: ...


@contextlib.asynccontextmanager
async def here(disk: Path, scratch: Path, qemu: Tool, qemu_img: Tool) -> AsyncIterator[Here]:
    """This machine, on which no QEMU is left when the context is."""
    found = Here(disk, scratch, qemu, qemu_img)
    try:
        yield found
    finally:
        await found.end()
