"""The `setup:` of a machine: its files are written and its commands run, once, in the machine when it is up.

What is done stands in the machine itself, in STAMPS: whoever asks it knows, and a machine made anew starts over. A
command that fails leaves all before it done, and the next `up` goes on with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from nestlab.base import patience, regular
from nestlab.base.errors import LabError, Overdue
from nestlab.base.events import Say
from nestlab.base.printable import printable
from nestlab.hosts.as_root import as_root
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import SOURCE_LIMIT, File, Lab, Setup
from nestlab.lab.setup_stamps import done

STAMPS = "/var/lib/nestlab/setup"
"""In a machine: a line for each step of its setup that is done."""

MANY = 10_000
"""A machine may be hostile: of more lines than any setup has steps, none is believed."""

ANSWER = 90.0
"""Nominal seconds in which a machine says what it is stamped with, and in which it takes its files; for these one more
for each MiB."""

SILENT = 1800.0
"""Nominal seconds for which a command may say nothing: then it counts as one that hangs."""

TAIL = 4000
"""Letters of what a command said that an error shows."""

QUIET = 1.0
"""Seconds between two lines of a command's output that are told as progress."""

_STAMP = f"mkdir -p {STAMPS.rpartition('/')[0]} && printf '%s\\n' $1 >{STAMPS}.new && mv -f {STAMPS}.new {STAMPS}"

_FILES = f"set -e; umask 022; tar -xf - -C /; {_STAMP}"
"""Arguments: the stamps afterwards. On stdin an archive."""

_COMMAND = f"""
exec 2>&1
umask 077
mkdir -p {STAMPS.rpartition("/")[0]} && cat >{STAMPS}.sh || exit
umask 022
cd /
export DEBIAN_FRONTEND=noninteractive
sh -eu {STAMPS}.sh </dev/null
status=$?
rm -f {STAMPS}.sh
[ $status = 0 ] || exit $status
{_STAMP}
"""
"""Arguments: the stamps afterwards. On stdin the command, which may hold what nobody else is to read."""


async def stamped(host: Host) -> tuple[str, ...]:
    """What a machine is stamped with. Unreachable when it does not answer."""
    said = await host.run(("sh", "-c", f"head -c {MANY * 64} {STAMPS} 2>/dev/null"), check=False, timeout=ANSWER)
    stamps = tuple(said.text.split()) if said.status == 0 else ()
    return stamps if len(stamps) <= MANY else ()


async def set_up(host: Host, spec: Spec, say: Say) -> None:
    """Do what is left of a machine's setup. LabError, with what it said, for the first command that fails."""
    setup = spec.machine.setup
    if setup is None:
        return
    at = done(await stamped(host), spec.setup)
    if at == len(spec.setup):
        say("it was done before")
        return
    steps = _steps(setup)
    for number in range(at, len(steps)):
        stamps, step = " ".join(spec.setup[: number + 1]), steps[number]
        if isinstance(step, str):
            await _run(host, spec, step, stamps, f"{number + 1} of {len(steps)}", say)
        else:
            say(f"{number + 1} of {len(steps)}: writing {_listed(step)}")
            archive = await asyncio.to_thread(_archive, spec.path, step)
            await host.run(as_root(_FILES, stamps), input=archive, timeout=ANSWER + len(archive) / (1 << 20))


def contents(lab: Lab) -> dict[str, str]:
    """Digests of the local files that the setups of a lab copy, by path. LabError for one that cannot be read."""
    found = {}
    for placed in lab.walk():
        for file in placed.machine.setup.files if placed.machine.setup else ():
            if file.source is not None and file.source not in found:
                found[file.source] = hashlib.sha256(_read(placed.path, file)).hexdigest()
    return found


async def _run(host: Host, spec: Spec, command: str, stamps: str, which: str, say: Say) -> None:
    title = _title(command)
    say(f"{which}: {title}")
    said = bytearray()
    told = time.monotonic()
    silent, clock = patience.allowed(SILENT, host.slowness), asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(silent) as hangs, host.start(as_root(_COMMAND, stamps)) as running:
            await running.write(command.encode())
            running.close_input()
            async for chunk in running.chunks():
                hangs.reschedule(clock() + silent)
                said += chunk
                del said[: -2 * TAIL]
                if time.monotonic() - told >= QUIET and (line := _last_line(bytes(said))):
                    told = time.monotonic()
                    say(f"{which}: {line}")
            ended = await running.result()
    except TimeoutError:
        what = f"Command {which} in the setup of {spec.path} said nothing for {patience.said(silent)}: {title}"
        raise Overdue(what, hint=f"It was ended. {patience.LONGER}") from None
    if ended.status:
        what = f"Command {which} in the setup of {spec.path} ended with status {ended.status}: {title}"
        hint = f"Correct it in the lab file, or what it needs in the machine (`nestlab ssh {spec.path}`)."
        text = (bytes(said) + ended.stdout + ended.stderr).decode(errors="replace").strip()[-TAIL:]
        raise LabError(what, hint=hint, detail=text or "It said nothing.")


def _steps(setup: Setup) -> list[str | tuple[File, ...]]:
    """In the order of their stamps (`setup_stamps.stamps`)."""
    return [*([setup.files] if setup.files else []), *setup.commands]


def _title(command: str) -> str:
    lines = [line.strip() for line in command.strip().splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    short = first if len(first) <= 60 else f"{first[:59]}…"
    return printable(short + (" …" if len(lines) > 1 and short == first else ""))


def _listed(files: Sequence[File]) -> str:
    return ", ".join(file.path for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").replace("\r", "\n").split("\n")[:-1]
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return printable(last[:100])


def _archive(path: str, files: Iterable[File]) -> bytes:
    """A tar of the files, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in files:
            data = _read(path, file)
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode, member.mtime = len(data), file.mode, int(time.time())
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _read(path: str, file: File) -> bytes:
    if file.source is None:
        return (file.text or "").encode()
    try:
        return regular.read(Path(file.source), SOURCE_LIMIT)
    except OSError as error:
        what = f"{file.source} cannot be read: {error.strerror}."
        raise LabError(what, hint=f"The setup of {path} copies it to {file.path}; correct its `source`.") from None
