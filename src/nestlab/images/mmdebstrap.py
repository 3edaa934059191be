"""Runs mmdebstrap, reads its progress, and turns its failures into sentences."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
import re
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nestlab.base import files
from nestlab.base.errors import LabError
from nestlab.base.events import Say
from nestlab.home import cache
from nestlab.home.cache import working
from nestlab.images import system_packages, user_namespace

_TAIL = 15
_PATIENCE = 10.0
_MOST_LINES, _LONGEST = 10_000, 4096
_KEPT = ("HOME", "USER", "SOURCE_DATE_EPOCH")

_ALL_END = (
    """trap 'trap "" TERM; kill -TERM 0' TERM; "$@" & wait $!; s=$?; [ $s -le 128 ] || { wait $!; s=$?; }; exit $s"""
)
"""A shell script that runs its arguments, and passes SIGTERM on to its whole process group: told alone, mmdebstrap
would wait until apt is done. (A signal ends the first `wait`, with a status above 128.)"""

_INSTALL = {
    "debian": "sudo apt install mmdebstrap uidmap",
    "ubuntu": "sudo apt install mmdebstrap uidmap debian-archive-keyring",
    "fedora": "sudo dnf install mmdebstrap",
}

_FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"nestlab: the script ended with status \d",
        "its script failed",
        "Correct `script`. It runs in the image alone, without a network: let `packages` bring packages, `files` what "
        "is on this machine, and `setup` of a machine with `internet: true` do the rest.",
    ),
    (
        r"nestlab: cannot confine: ",
        "what a lab file adds to it cannot be kept apart from this machine",
        "Building needs user, mount, process and network namespaces: `sysctl user.max_user_namespaces` and its like "
        "must not be 0, and a container must be allowed to make them.",
    ),
    (
        r"No space left on device|You don't have enough free space|Disk quota exceeded",
        "the disk is full",
        "Make room where the cache and TMPDIR are (`nestlab images gc` removes images nobody uses), then repeat.",
    ),
    (
        r"newuidmap|newgidmap|/etc/sub[ug]id|unshare\(\) failed|uid_map|unprivileged_userns",
        "this user may not create user namespaces",
        "Install uidmap and give the user a range (`sudo usermod --add-subuids 100000-165535 --add-subgids "
        "100000-165535 $USER`), allow unprivileged user namespaces, or run nestlab as root. Root needs them as well: "
        "`sysctl user.max_user_namespaces` must not be 0.",
    ),
    (
        r"Unable to locate package|has no installation candidate|unmet dependencies",
        "the packages cannot be installed",
        "Correct the package names of the image, or its suite.",
    ),
    (
        r"NO_PUBKEY|is not signed|no keyring|unknown-key|EXPKEYSIG",
        "the archive's signature cannot be checked",
        "Install the package debian-archive-keyring, then repeat.",
    ),
    (
        r"is expired \(invalid since|is not valid yet \(invalid for",
        "the lists of its mirror are out of date, or this machine's clock is wrong",
        "Compare `date`; name another mirror (`mirror:`) or another suite (`suite:`), then repeat.",
    ),
    (
        r"does not have a Release file",
        "its mirror does not have that release of Debian",
        "Name another mirror (`mirror:`) or another suite (`suite:`), then repeat.",
    ),
    (
        r"Temporary failure resolving|Could not resolve|Could not connect|Network is unreachable|No route to host"
        r"|Failed to fetch|Connection (timed out|refused|failed)|Unable to connect|404 +Not Found",
        "Debian's packages cannot be downloaded",
        "Connect this machine to the network, or name a mirror that it reaches (`mirror:`), then repeat.",
    ),
)


_UNKNOWN = re.compile(r"Unable to locate package ([\w+.-]+)|Package '?([\w+.-]+)'? has no installation candidate")
"""What apt says of a package that no list has, or that only others name."""

BASE = 30
"""Percent of the bar that the base system takes."""


Blamed = Callable[[Sequence[str]], tuple[str, str] | None]
"""From the lines of a failed run: the reason and a hint."""


@dataclass
class Progress:
    """Turns lines of `mmdebstrap --verbose` into few lines for a person: the phase, and how far it is."""

    say: Say
    total: int = 0
    done: int = 0
    shown: int = -10
    low: int = 0
    """Where the bar stands before the packages at work now: there is one bar for the base system and the others."""
    phases: tuple[tuple[str, str, int], ...] = field(
        default=(
            ("I: running apt-get update", "reading the package lists", 0),
            ("I: downloading packages", "downloading the base system", 0),
            ("I: extracting archives", "extracting the base system", 0),
            ("I: installing essential", "installing the base system", 0),
            ("I: installing remaining", "installing the other packages", BASE),
        )
    )

    def read(self, line: str) -> None:
        """Takes one line of output."""
        for start, words, low in self.phases:
            if line.startswith(start):
                self.low = low
                self.say(words)
                return
        count = re.search(r"(\d+) newly installed", line)
        if count:
            self.total, self.done = 2 * int(count[1]), 0
        elif line.startswith(("Unpacking ", "Setting up ")) and self.total:
            self.done += 1
            high = 100 if self.low else BASE
            percent = min(high, self.low + (high - self.low) * self.done // self.total)
            if percent >= self.shown + 10:
                self.shown = percent
                self.say(f"installing the packages: {percent} %")


async def mmdebstrap(
    arguments: Sequence[str],
    *,
    what: str,
    folder: Path,
    say: Say,
    descriptors: Sequence[int] = (),
    variables: Mapping[str, str] | None = None,
    apart: bool = False,
    blamed: Blamed | None = None,
) -> None:
    """Runs mmdebstrap, as root or in a user namespace, for what is made in `folder`; `what` names it in errors.

    `descriptors` stay open in it and in its hooks, which find `variables` in their environment: the way into a user
    namespace and out of it. `apart`: it has a user namespace of its own even when this is root.
    `blamed`: tells from its output what else may be wrong, before the rest is considered.
    Cancelled, it ends mmdebstrap, which removes its chroot, before the cancellation goes on.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise LabError("mmdebstrap, which makes images from Debian packages, is not installed.", hint=_how_to_install())
    root = os.geteuid() == 0
    shifted = apart and root and user_namespace.possible()
    # Should nestlab itself be killed, mmdebstrap ends as well, and removes its chroot.
    guard = shutil.which("setpriv")
    command = [*([guard, "--pdeathsig", "TERM"] if guard else []), "sh", "-c", _ALL_END, "sh"]
    words = [program, "--verbose", f"--mode={'root' if root else 'unshare'}"]
    command += user_namespace.inside(words) if shifted else words
    keys = system_packages.keyring()
    command += [*([f"--keyring={keys}"] if keys else []), *arguments]
    with _scratch(folder, shifted=shifted) as scratch:
        environment = {**_environment(scratch), **(variables or {})}
        lines, status = await _run(command, folder, environment, Progress(say), descriptors)
    if status != 0:
        if blamed is not None and (found := blamed(list(lines))) is not None:
            raise LabError(f"{what} cannot be made: {found[0]}.", hint=found[1], detail=_end_of(lines))
        raise failure(what, lines, status)


@contextlib.contextmanager
def _scratch(folder: Path, *, shifted: bool) -> Iterator[Path]:
    """Where mmdebstrap has its chroot. Not below a user's home, which the root of a user namespace may not enter."""
    if os.geteuid() == 0 and not shifted:
        yield folder
        return
    place = Path(tempfile.mkdtemp(prefix=cache.PREFIX, dir=os.environ.get("TMPDIR") or "/var/tmp"))
    try:
        cache.note(folder, place)  # should all be killed, who removes the one removes the other
        if shifted:
            os.chown(place, user_namespace.FIRST, user_namespace.FIRST)
        user_namespace.let_in(place, [user_namespace.FIRST] if shifted else user_namespace.firsts())
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        (folder / cache.ELSEWHERE).unlink(missing_ok=True)


async def _run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    progress: Progress,
    descriptors: Sequence[int],
) -> tuple[Iterable[str], int]:
    lines: deque[str] = deque(maxlen=_MOST_LINES)
    reading, writing = os.pipe()
    try:
        with working(folder) as mark:
            # It inherits the reading end too: when nestlab is killed it can still print, and so go on to clean up.
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                pass_fds=(*descriptors, reading, mark),
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        async with _stream(reading) as output:
            async for line in _lines(output):
                lines.append(line)
                progress.read(line)
        return lines, await process.wait()
    except BaseException:
        await _end(process)
        raise


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of any length, of which the first _LONGEST bytes are kept."""
    line = b""
    while chunk := await output.read(1 << 16):
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            yield (line + part)[:_LONGEST].decode(errors="replace").rstrip()
            line = b""
        line = (line + rest)[:_LONGEST]
    if line:
        yield line.decode(errors="replace").rstrip()


@contextlib.asynccontextmanager
async def _stream(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        yield reader
    finally:
        transport.close()


def failure(what: str, lines: Iterable[str], status: int) -> LabError:
    """The error of a failed run, from its output."""
    lines = list(lines)
    detail = _end_of(lines)
    text = "\n".join(lines)
    if unknown := [*dict.fromkeys("".join(found) for found in _UNKNOWN.findall(text))]:
        names, one = ", ".join(unknown[:8]), len(unknown) == 1
        reason = f"Debian has no package{'' if one else 's'} {names} in that release"
        hint = f"Correct {'its name' if one else 'their names'}, or choose another `suite`."
        return LabError(f"{what} cannot be made: {reason}.", hint=hint, detail=detail)
    for pattern, reason, hint in _FAILURES:
        if re.search(pattern, text):
            return LabError(f"{what} cannot be made: {reason}.", hint=hint, detail=detail)
    from nestlab.explain.explain import with_advice

    hint = with_advice("The end of mmdebstrap's output follows; correct what it names, then repeat.", text)
    return LabError(f"{what} cannot be made: mmdebstrap ended with status {status}.", hint=hint, detail=detail)


def _end_of(lines: Iterable[str]) -> str:
    return "\n".join(line for line in list(lines)[-_TAIL:] if line)


@contextlib.contextmanager
def disk_errors(what: str, place: Path) -> Iterator[None]:
    """A full disk, a full quota, a read-only place or a disk with errors becomes a LabError; other errors of the system
    stay."""
    import errno

    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room (`nestlab images gc` removes images nobody uses), then repeat."
            raise LabError(f"{what} cannot be made: the disk of {place} is full.", hint=hint) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            hint = "Make it writable for this user, or name another cache folder."
            raise LabError(f"{what} cannot be made: {place} cannot be written.", hint=hint) from error
        if error.errno == errno.EIO:
            where = error.filename if isinstance(error.filename, str) else place
            raise LabError(f"{what} cannot be made: {where}: {error.strerror}.", hint=files.hint_for(error)) from error
        raise


def _environment(scratch: Path) -> Mapping[str, str]:
    """What mmdebstrap, apt and the packages' scripts are told of this environment, in which there may be secrets."""
    kept = {key: value for key, value in os.environ.items() if key in _KEPT or key.lower().endswith("_proxy")}
    return {**kept, "LC_ALL": "C.UTF-8", "TMPDIR": str(scratch), "PATH": _path()}


def _path() -> str:
    # An ordinary user's PATH often lacks sbin, where mke2fs and newuidmap's friends are.
    own = os.environ.get("PATH", "").split(":")
    return ":".join(dict.fromkeys([*filter(None, own), "/usr/local/sbin", "/usr/sbin", "/sbin"]))


def _how_to_install() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if name in _INSTALL:
            return f"Install it: {_INSTALL[name]}"
    return "Install mmdebstrap with this distribution's package manager."


async def _end(process: asyncio.subprocess.Process) -> None:
    for tell in (process.terminate, functools.partial(os.killpg, process.pid, signal.SIGKILL)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            tell()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), _PATIENCE)
