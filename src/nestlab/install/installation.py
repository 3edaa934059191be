"""Runs an installation from its medium to a disk that was shut down well, or to an error that shows why not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nestlab.answers import Answers, Family
from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.accel import Accelerator
from nestlab.engines.qemu.argv import argv
from nestlab.engines.qemu.console import ESCAPES, Watch
from nestlab.engines.qemu.firmware import Fetch, FirmwareFiles, equipped
from nestlab.home.cache import working
from nestlab.hosts.local import LocalHost
from nestlab.images.image_files import ImageFiles
from nestlab.images.qemu_runtime import Runtime
from nestlab.install import command, medium
from nestlab.install.answer_server import STAGES, AnswerServer, serve
from nestlab.install.medium import Medium
from nestlab.lab.hardware import Firmware, Hardware
from nestlab.lab.model import GIB, Image, Machine
from nestlab.wire import proc

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

LARGEST = 16 << 20
"""Bytes of a console from which it is cut."""

_LOOK = 2.0
_TAIL = 15
_LIBC = ctypes.CDLL(None)


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
    """How machines run on this host."""

    runtime: Runtime
    accel: Accelerator
    slowness: float
    firmware: Fetch
    """Gives nestlab's own UEFI, where this host has none."""


async def install(job: Job, disk: Path, cache: Path, means: Means, say: Say) -> None:
    """Makes `disk` (qcow2) by running the installer. Its folder is used for what is needed meanwhile, which goes.

    LabError, with the end of the installer's log and of its console, if it fails, ends before it is done, or is stuck.
    """
    scratch = disk.parent / SCRATCH
    _fits(scratch)
    scratch.mkdir(mode=0o700)
    try:
        found = await _medium(job, scratch, cache, say)
        mirror = job.mirror or found.mirror
        async with serve(
            job.family, job.answers, command.DISK, scratch, command.NETWORK, say, None if job.internet else mirror
        ) as (server, sockets):
            found = await medium.prepared(found, server.given, scratch, job.where)
            await _make_disk(means.runtime, disk, job.disk)
            launch = command.launch_of(
                job.machine(),
                found,
                server.given.cmdline,
                scratch,
                disk,
                accel=means.accel,
                qemu=means.runtime.qemu.argv,
                version=means.runtime.qemu.version,
                ways=command.forwards(sockets),
            )
            launch = await equipped(launch, FirmwareFiles(LocalHost(), means.firmware), ImageFiles("", {}), say)
            await _run(job, argv(launch), dict(means.runtime.qemu.env), server, means, disk, say)
    finally:
        await asyncio.to_thread(_remove, scratch)


def _fits(scratch: Path) -> None:
    """LabError where a socket in there would have too long a path."""
    longest = scratch / "https"
    if len(os.fsencode(longest)) > 107:
        what = f"nestlab's cache is in too deep a folder for an installation: {longest} has more than 107 bytes."
        raise LabError(what, hint="Name a shorter one: NESTLAB_CACHE=/var/cache/nestlab")


def _die_with_nestlab() -> None:
    """In the new process, before QEMU: when nestlab is killed, it is too. It would wait for answers for ever."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)


async def _medium(job: Job, scratch: Path, cache: Path, say: Say) -> Medium:
    if job.iso is None:
        return await medium.netboot(job.answers.suite, cache, say)
    return await asyncio.to_thread(medium.open_iso, job.iso, job.family, scratch, job.where)


async def _make_disk(runtime: Runtime, disk: Path, size: int) -> None:
    tool = runtime.qemu_img
    await proc.run([*tool.argv, "create", "-q", "-f", "qcow2", str(disk), str(size)], env=tool.env)
    disk.chmod(0o600)


@dataclass
class _Life:
    """Whether an installer lives: when one of its signs last changed."""

    signs: tuple[object, ...] = ()
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def silent(self, *signs: object) -> float:
        """Seconds since the last sign of life, once these were looked at."""
        now = asyncio.get_running_loop().time()
        if signs and signs != self.signs:
            self.signs, self.since = signs, now
        return now - self.since


async def _run(
    job: Job, words: Sequence[str], env: dict[str, str], server: AnswerServer, means: Means, disk: Path, say: Say
) -> None:
    console, errors = disk.parent / SCRATCH / "console.log", disk.parent / SCRATCH / "qemu.log"
    say(f"starting {medium.TITLES[job.family]}" + (", emulated" if means.accel == "tcg" else ""))
    with errors.open("wb") as out, working(disk.parent) as mark:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **env},
            pass_fds=(mark,),
            preexec_fn=_die_with_nestlab,
        )
    limit = patience.allowed(SILENCE, patience.inside(means.slowness, means.accel))
    asked = patience.allowed(ASKED, patience.inside(means.slowness, means.accel))
    life, stuck = _Life(), False
    try:
        while process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _LOOK)
            shown = shown_on(console)
            for each in (console, errors):
                await asyncio.to_thread(cut, each)
            silent = life.silent(server.state.heard, shown, _blocks(disk))
            stuck = silent > (asked if _QUESTION.search(shown) else limit)
            if stuck or server.state.failed:
                break
    finally:
        await _end(process)
    if stuck or not server.state.done:
        raise await asyncio.to_thread(_failed, job, server, console, errors, life.silent() if stuck else 0.0)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _failed(job: Job, server: AnswerServer, console: Path, errors: Path, stuck: float) -> LabError:
    """What went wrong, with the ends of what the installer wrote. `stuck`: seconds for which it was silent."""
    state, watch = server.state, Watch()
    shown = shown_on(console)
    for line in shown.splitlines():
        watch.feed(line)
    title = medium.TITLES[job.family]
    after = f" after “{STAGES[state.stage]}”" if state.stage else " before it asked for its answers"
    if state.failed:
        what = f"{title} failed{after}: {state.failed}"
    elif stuck and _QUESTION.search(shown):
        what = f"{title} asks something that it was not answered{after}"
    elif stuck:
        what = f"{title} has been silent for {patience.said(stuck)}{after}"
    elif not console.exists() or not console.stat().st_size:
        what = f"{title} did not start: {_end_of(errors).decode(errors='replace').strip()[-300:] or 'QEMU ended'}"
    else:
        what = f"{title} ended{after}{': ' + watch.fatal if watch.fatal else ''}"
    log = "\n".join(f"  | {line}" for line in [*state.log][-_TAIL:])
    detail = "\n".join(
        part for part in (f"The end of its log:\n{log}" * bool(log), f"The end of its console:\n{watch.end}") if part
    )
    hint = "Correct what it names, then repeat; nothing of it was kept."
    if stuck:
        hint = "See the end of its console, and its log: a question is often how an installer says what failed."
        hint += f" {patience.LONGER}" * (not _QUESTION.search(shown))
    return LabError(f"{job.where}: {what}.", hint=hint, detail=detail)


def shown_on(console: Path) -> bytes:
    """The end of what a console shows, without what moves the cursor, and without a clock."""
    return _CLOCK.sub(b"", ESCAPES.sub(b"", _end_of(console))).rstrip()


def cut(path: Path) -> None:
    """Empty a file that QEMU appends to once it is too long, but for its end: an installer may print for ever."""
    if path.exists() and path.stat().st_size > LARGEST:
        end = _end_of(path)
        with path.open("ab") as file:
            os.truncate(path, 0)
            file.write(end)


def _end_of(path: Path, most: int = 8192) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read(most)
    except OSError:
        return b""


def _blocks(path: Path) -> int:
    """Blocks that a disk takes: what is written to it."""
    try:
        return path.stat().st_blocks
    except OSError:
        return 0


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
