"""Runs the machine of an installer in a hypervisor: its medium goes there, the answer server is reached from there, and
its disk comes back.

The hypervisor has KVM, and this machine has the answers, the mirror and the cache; one ssh connection of their own
joins them. `runner` is what works there. What comes back is bytes: of a raw disk, whose format nobody guesses.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue, Unreachable
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.base.printable import one_line
from nestlab.base.typed import parsed
from nestlab.engines.qemu import sparse_copy
from nestlab.home.paths import GUEST_ROOT
from nestlab.hosts.ssh import SshHost
from nestlab.images.qemu_runtime import Tool
from nestlab.install import command, relay, runner
from nestlab.install.answer_server import Sockets
from nestlab.install.command import Placed
from nestlab.install.medium import Medium
from nestlab.install.stage import LOOK, Seen, Stage, make_disk
from nestlab.lab.model import GIB, MIB
from nestlab.wire.passing import Far, Passing
from nestlab.wire.shapes import Unfit, count, maybe, odd, read, record, status

if TYPE_CHECKING:
    from nestlab.install.installation import Job, Means
    from nestlab.wire.command import Command
    from nestlab.wire.ssh import Connection

ROOT = f"{GUEST_ROOT}/install"
"""What installations in a hypervisor have for themselves there."""

ANSWER = 60.0
"""Nominal seconds in which the runner answers."""

FORGOTTEN = 300.0
"""Nominal seconds after which the runner, which hears nothing of nestlab, ends what it runs."""

BEAT = 5.0
"""Seconds between two words to the runner."""

SPARE = 96 * MIB
"""Bytes of memory that a hypervisor needs beside its machine's: QEMU's own, and the programs of an installation."""

_LINE = 64 << 10
"""Bytes of an answer of the runner's, at most: the ends of two files are in it."""


@frozen
class Inside:
    """A hypervisor that runs. `title` names it to people, `LAB:MACHINE`; `internet`: whether it reaches that; `qemu`:
    its own; `root`: the folder there."""

    host: SshHost
    title: str
    qemu: Tool
    internet: bool = False
    root: str = ROOT


def _bytes(value: Any) -> bytes:
    """What base64 stands for."""
    if not isinstance(value, str):
        raise Unfit("is no text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unfit("is no base64") from None


REPORT = record(
    {"console": _bytes, "errors": _bytes, "blocks": count, "free": count, "memory": count}, {"status": maybe(status)}
)
"""What `runner.report` gives."""


def report_of(line: bytes, who: str) -> dict[str, Any]:
    """What a line of the runner's tells, which stands at `who`. Odd for what is none."""
    asked = "how an installation is"
    try:
        value = parsed(line.decode())
    except ValueError as error:
        raise odd(who, asked, "no JSON") from error
    return read(value, REPORT, who, asked)


class There:
    """See `stage.Stage`. It speaks to the runner, which is one command of the connection `own`."""

    def __init__(self, inside: Inside, own: Connection, running: Command, disk: Path, img: Tool) -> None:
        self.where, self.host = inside.title, inside.host
        self._inside, self._own, self._running, self._disk, self._img = inside, own, running, disk, img
        self._chunks, self._kept = aiter(running.chunks()), b""
        self._talking = asyncio.Lock()
        self._ways = AsyncExitStack()
        self._started = False
        self.folder = ""
        self._size = 0

    async def begin(self, folder: str, job: Job) -> None:
        """Once the runner is there. LabError where the hypervisor has not what the machine takes."""
        self.folder, self._size = folder, job.disk
        found = await self._heard()
        if found["memory"] < job.memory + SPARE:
            what = f"The installer's machine takes {human(job.memory)} of memory, and {self.where} has "
            hint = "Stop what runs in it, give it more (`memory:`), or the installer less (`memory:` of `install:`)."
            raise LabError(f"{job.where}: {what}{human(found['memory'])} free.", hint=hint)
        await self._room(job, found["free"])

    async def _room(self, job: Job, free: int) -> None:
        """LabError where its disk has no room for the medium, and the first of what is installed."""
        iso = await asyncio.to_thread(lambda: job.iso.stat().st_size if job.iso else 0)
        if free < iso + min(job.disk, GIB):
            what = f"{self.where} has {human(free)} free on its disk: too few for an installation of {human(job.disk)}"
            more = f" from an ISO of {human(iso)}" if iso else ""
            raise LabError(f"{job.where}: {what}{more}.", hint="Give that hypervisor a larger `disk:`.")

    # -- stage.Stage

    async def place(self, medium: Medium, sockets: Sockets, size: int, say: Say) -> Placed:
        folder = self.folder
        iso = f"{folder}/installer.iso" if medium.iso else None
        await self._put(medium.kernel, f"{folder}/linux", say)
        await self._put(medium.initrd, f"{folder}/initrd", say)
        if medium.iso and iso:
            await self._put(medium.iso, iso, say)
        program = f"{folder}/relay.py"
        await self.host.write(program, await asyncio.to_thread(Path(relay.__file__).read_bytes))
        far = Sockets(*(Path(f"{folder}/{each.name}") for each in (sockets.plain, sockets.tls, sockets.log)))
        for here, there in ((sockets.plain, far.plain), (sockets.tls, far.tls), (sockets.log, far.log)):
            passing = Passing(_leading_to(here), lambda _: None)
            await self._ways.enter_async_context(self._own.serving(str(there), passing))
        return Placed(
            folder=folder,
            disk=f"{folder}/{runner.DISK}",
            form="raw",
            kernel=f"{folder}/linux",
            initrd=f"{folder}/initrd",
            iso=iso,
            ways=command.forwards(far, "python3", program),
            qemu=self._inside.qemu,
        )

    async def start(self, words: Sequence[str], env: dict[str, str]) -> None:
        self._started = True
        argv = ["env", *(f"{name}={value}" for name, value in env.items()), *words] if env else list(words)
        self._seen(await self._asked({"start": argv, "size": self._size}))

    async def seen(self) -> Seen:
        await asyncio.sleep(LOOK)
        return self._seen(await self._asked({}))

    async def end(self) -> None:
        if self._started and not self._running.over:
            self._started = False
            await self._asked({"end": True})

    async def deliver(self, say: Say) -> None:
        raw = self._disk.with_name("disk.raw")
        say(f"fetching what it installed from {self.where}")
        try:
            tell = _tenths(say, f"fetching its disk from {self.where}", self._size)
            await sparse_copy.fetch(self.host, f"{self.folder}/{runner.DISK}", raw, self._size, tell)
            words = ["convert", "-f", "raw", "-O", "qcow2", str(raw), str(self._disk)]
            await make_disk(self._img, self._disk, *words)
        finally:
            raw.unlink(missing_ok=True)

    # --

    async def _put(self, source: Path, target: str, say: Say) -> None:
        size = await asyncio.to_thread(lambda: source.stat().st_size)
        what = f"copying {source.name} into {self.where}"
        say(f"{what}, {human(size)}")
        await sparse_copy.copy(source, self.host, target, _tenths(say, what, size))

    def _seen(self, found: dict[str, Any]) -> Seen:
        ended = found.get("status") is not None
        return Seen(ended, found["console"], found["errors"], found["blocks"], found["free"])

    async def beat(self) -> None:
        """So that the runner hears of nestlab while files go over; until it does not answer: who asks next is told."""
        with contextlib.suppress(LabError):
            while True:
                await asyncio.sleep(BEAT)
                await self._asked({})

    async def _asked(self, words: dict[str, object]) -> dict[str, Any]:
        async with self._talking:
            await self._running.write(json.dumps(words).encode() + b"\n")
            return await self._heard()

    async def _heard(self) -> dict[str, Any]:
        """What the runner answers. Unreachable where it has ended, or its host was lost."""
        try:
            async with asyncio.timeout(patience.allowed(ANSWER, self.host.slowness)):
                while b"\n" not in self._kept:
                    self._kept += await anext(self._chunks)
                    if len(self._kept) > _LINE:
                        raise odd(self.where, "how an installation is", "a line without end")
        except TimeoutError:
            raise Overdue(f"{self.where} does not tell how the installation is.", hint=patience.LONGER) from None
        except StopAsyncIteration:
            raise await self._gone() from None
        line, _, self._kept = self._kept.partition(b"\n")
        return report_of(line, self.where)

    async def _gone(self) -> LabError:
        """Why nothing is heard of the runner any more."""
        try:
            said = one_line((await self._running.result()).stderr.decode(errors="replace").strip()[-300:])
        except LabError as error:
            return error
        if "No space left" in said:
            hint = "Give that hypervisor a larger `disk:`, or make room in it."
            return LabError(f"The disk of {self.where} is full.", hint=hint)
        return Unreachable(f"The installation in {self.where} was ended there: {said or 'nobody knows why'}.", hint="")

    async def leave(self) -> None:
        """Let the runner take all away, and wait until it has."""
        with contextlib.suppress(LabError, OSError):
            await self._ways.aclose()
        if not self._running.over:
            self._running.close_input()
            await self._running.ends(patience.allowed(ANSWER, self.host.slowness))


def _leading_to(socket: Path) -> Far:
    async def far() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(socket)
        except OSError as error:
            raise LabError(f"The answer server takes no connection: {error.strerror}.", hint="Repeat.") from error

    return far


def _tenths(say: Say, what: str, total: int) -> Callable[[int], None]:
    """Tells how much of what is large has gone over, ten times."""
    told = 0

    def seen(done: int) -> None:
        nonlocal told
        if total >= 64 * MIB and (tenth := 10 * done // total) > told:
            told = tenth
            say(f"{what}: {10 * tenth}%")

    return seen


@contextlib.asynccontextmanager
async def opened(inside: Inside, disk: Path, means: Means, job: Job) -> AsyncIterator[Stage]:
    """A folder in the hypervisor, and what runs in it, for as long as the context is open. LabError where it has no
    room for the machine."""
    slowness = inside.host.slowness
    own = await (await inside.host.connect()).another()
    name = os.urandom(4).hex()
    text = await asyncio.to_thread(Path(runner.__file__).read_text)
    words = ("python3", "-I", "-S", "-c", text, inside.root, name, f"{patience.allowed(FORGOTTEN, slowness):.0f}")
    try:
        async with own.start(words) as running:
            there = There(inside, own, running, disk, means.qemu_img)
            beating: asyncio.Task[None] | None = None
            try:
                await there.begin(f"{inside.root}/{name}", job)
                beating = asyncio.create_task(there.beat())
                yield there
            finally:
                if beating is not None:
                    beating.cancel()
                    await asyncio.wait({beating})
                await there.leave()
    finally:
        await own.close()
