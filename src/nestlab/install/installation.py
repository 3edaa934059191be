"""Runs an installation from its medium to a disk that was shut down well, or to an error that shows why not."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nestlab.answers import Answers, Family
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.printable import one_line
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.argv import argv
from nestlab.engines.qemu.console import ESCAPES, Watch
from nestlab.engines.qemu.firmware import Fetch, FirmwareFiles, equipped
from nestlab.images.image_files import ImageFiles
from nestlab.images.qemu_runtime import Tool
from nestlab.install import command, medium, runner
from nestlab.install.answer_server import STAGES, AnswerServer, serve
from nestlab.install.medium import Medium
from nestlab.install.stage import Seen, Stage, here
from nestlab.lab.hardware import Firmware, Hardware
from nestlab.lab.model import GIB, Image, Machine

if TYPE_CHECKING:
    from nestlab.install.inside import Inside

SILENCE = 300.0
"""Nominal seconds without a word, a line on the console or a byte on the disk, after which an installer is stuck: it
waits for a key, or for something that does not come."""

ASKED = 60.0
"""Nominal seconds after which an installer that shows a question has been left without an answer."""

_CLOCK = re.compile(rb"\[[^\]\n]*\(\d\*\w+\)[^\]\n]*\]\[[^\]\n]*\]")
"""The last line of Debian's installer, which shows the time: no sign of life."""
_QUESTION = re.compile(rb"(Prompt: '\?' for help(, default=[^>\n]*)?|\[Press enter to continue\])>?\s*$")
"""How a question of Debian's installer ends, as it is put on a serial console."""

SCRATCH = "i"
"""The folder beside the disk for what is needed meanwhile. Paths of unix sockets have at most 107 bytes."""

FULL = 1 << 20
"""Bytes that are free on a disk that counts as full: QEMU stops a machine whose disk cannot be written."""

_TAIL = 15


@frozen
class Job:
    """One installation: what is installed, and in which machine. `where` begins its errors: `lab.yaml:7: image web`."""

    where: str
    family: Family
    answers: Answers
    iso: Path | None = None
    mirror: str | None = None
    disk: int = 8 * GIB
    memory: int = GIB
    cpus: int = 1
    internet: bool = False
    firmware: Firmware | None = None

    def machine(self) -> Machine:
        """The machine that the installer runs in."""
        return Machine(
            command.NAME,
            image=Image(file="installer"),
            cpus=self.cpus,
            memory=self.memory,
            internet=self.internet,
            hardware=Hardware(firmware=self.firmware),
        )


@frozen
class Means:
    """How machines run where this one does. `qemu_img`: of this machine."""

    qemu: Tool
    qemu_img: Tool
    accel: Accelerator
    slowness: float
    firmware: Fetch
    """Gives nestlab's own UEFI, where that host has none."""


async def install(job: Job, disk: Path, cache: Path, means: Means, say: Say, inside: Inside | None = None) -> None:
    """Makes `disk` (qcow2) by running the installer, here or inside a hypervisor. Its folder is used for what is needed
    meanwhile, which goes.

    LabError, with the end of the installer's log and of its console, if it fails, ends before it is done, or is stuck.
    """
    scratch = disk.parent / SCRATCH
    _fits(scratch)
    scratch.mkdir(mode=0o700)
    try:
        found = await _medium(job, scratch, cache, say)
        mirror = job.mirror or (None if job.internet else found.mirror)
        answers, outward = job.answers, job.internet
        async with serve(job.family, answers, command.DISK, scratch, command.NETWORK, say, mirror, outward=outward) as (
            server,
            sockets,
        ):
            found = await medium.prepared(found, server.given, scratch, job.where)
            async with _stage(job, disk, means, inside) as stage:
                placed = await stage.place(found, sockets, job.disk, say)
                launch = command.launch_of(job.machine(), placed, server.given.cmdline, means.accel)
                launch = await equipped(launch, FirmwareFiles(stage.host, means.firmware), ImageFiles("", {}), say)
                emulated = ", emulated" if means.accel == "tcg" else ""
                say(f"starting {medium.TITLES[job.family]}{f' in {inside.title}' if inside else ''}{emulated}")
                await stage.start(argv(launch), dict(means.qemu.env))
                await _watch(job, server, stage, means)
                await stage.end()
                await stage.deliver(say)
    except BaseException:
        await asyncio.to_thread(_remove, scratch, ignore_errors=True)  # who made its folder sees to what stays
        raise
    await asyncio.to_thread(_remove, scratch)  # an image is whole without it: there are keys and answers in it


def _stage(job: Job, disk: Path, means: Means, inside: Inside | None) -> AbstractAsyncContextManager[Stage]:
    if inside is None:
        return here(disk, disk.parent / SCRATCH, means.qemu, means.qemu_img)
    from nestlab.install.inside import opened

    return opened(inside, disk, means, job)


def _fits(scratch: Path) -> None:
    """LabError where a socket in there would have too long a path."""
    longest = scratch / "https"
    if len(os.fsencode(longest)) > 107:
        what = f"nestlab's cache is in too deep a folder for an installation: {longest} has more than 107 bytes."
        raise LabError(what, hint="Name a shorter one: NESTLAB_CACHE=/var/cache/nestlab")


async def _medium(job: Job, scratch: Path, cache: Path, say: Say) -> Medium:
    if job.iso is None:
        return await medium.netboot(job.answers.suite, cache, say)
    return await asyncio.to_thread(medium.open_iso, job.iso, job.family, scratch, job.where)


@dataclass
class Life:
    """Whether an installer lives: when one of its signs last changed."""

    signs: tuple[object, ...] = ()
    shown: bytes = b""
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def silent(self, now: float) -> float:
        """Seconds since the last sign of life."""
        return now - self.since

    def seen(self, now: float, shown: bytes, *signs: object) -> float:
        """The same, once these were looked at. `shown`: the end of a console. A clock that goes on there pushes what
        was shown out of what is looked at, from the front: what is left of it is nothing new."""
        if signs != self.signs or not self.shown.endswith(shown):
            self.since = now
        self.signs, self.shown = signs, shown
        return self.silent(now)


async def _watch(job: Job, server: AnswerServer, stage: Stage, means: Means) -> None:
    """Until the installer is done. LabError as soon as it is not, or will not be."""
    slowness = patience.inside(means.slowness, means.accel)
    limit, asked = patience.allowed(SILENCE, slowness), patience.allowed(ASKED, slowness)
    life, stuck, seen, clock = Life(), False, Seen(ended=False), asyncio.get_running_loop()
    while not seen.ended:
        seen = await stage.seen()
        shown = shown_by(seen.console)
        silent = life.seen(clock.time(), shown, server.state.heard, seen.written)
        stuck = not seen.ended and silent > (asked if _QUESTION.search(shown) else limit)
        if stuck or server.state.failed or (not seen.ended and seen.free < FULL):
            break
    await stage.end()
    if not seen.ended or not server.state.done:
        raise _failed(job, server, stage, seen, life.silent(clock.time()) if stuck else 0.0)


def _failed(job: Job, server: AnswerServer, stage: Stage, seen: Seen, stuck: float) -> LabError:
    """What went wrong, with the ends of what the installer wrote. `stuck`: seconds for which it was silent."""
    state, watch = server.state, Watch()
    shown = shown_by(seen.console)
    for line in shown.splitlines():
        watch.feed(line)
    title = medium.TITLES[job.family]
    after = f" after “{STAGES[state.stage]}”" if state.stage else " before it asked for its answers"
    hint = "Correct what it names, then repeat; nothing of it was kept."
    if not seen.ended and seen.free < FULL:
        what = f"{title} cannot go on{after}: the disk of {stage.where} is full"
        hint = "Make room there, then repeat; nothing of it was kept."
    elif state.failed:
        what = f"{title} failed{after}: {state.failed}"
    elif stuck and _QUESTION.search(shown):
        what = f"{title} asks something that it was not answered{after}"
    elif stuck:
        what = f"{title} has been silent for {patience.said(stuck)}{after}"
    elif not seen.console:
        what = f"{title} did not start: {one_line(seen.errors.decode(errors='replace').strip()[-300:]) or 'QEMU ended'}"
    else:
        what = f"{title} ended{after}{': ' + watch.fatal if watch.fatal else ''}"
    log = "\n".join(f"  | {line}" for line in [*state.log][-_TAIL:])
    detail = "\n".join(
        part for part in (f"The end of its log:\n{log}" * bool(log), f"The end of its console:\n{watch.end}") if part
    )
    if stuck:
        hint = "See the end of its console, and its log: a question is often how an installer says what failed."
        hint += f" {patience.LONGER}" * (not _QUESTION.search(shown))
    return LabError(f"{job.where}: {what}.", hint=hint, detail=detail)


def shown_by(console: bytes) -> bytes:
    """What the end of a console shows, without what moves the cursor, without a clock, and without what is left of a
    line at its beginning."""
    if len(console) >= runner.END and (line := re.search(rb"[\r\n]", console)):
        console = console[line.end() :]
    return _CLOCK.sub(b"", ESCAPES.sub(b"", console)).rstrip()


def _remove(folder: Path, *, ignore_errors: bool = False) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=ignore_errors)
