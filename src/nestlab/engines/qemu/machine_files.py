"""What is in a machine's directory goes from one host to another: all while it is off, its console while it moves.

Streams of bytes through nestlab, from a program there to a program here: nothing is kept in between. Neither
hypervisor may reach into the other by what it hands over: see `TAKE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nestlab.base import patience
from nestlab.base.errors import LabError, Overdue
from nestlab.base.events import Say
from nestlab.base.frozen import frozen
from nestlab.base.paint import human
from nestlab.base.printable import printable
from nestlab.hosts.host import Host
from nestlab.labfile import disk_header

PACK = r"""
cd "$1" || exit 1
set --
for f in disk.qcow2 disk-*.qcow2 *.fd tpm upper nested console.log console.[0-9]*.log; do
  [ ! -e "$f" ] || set -- "$@" "$f"
done
[ $# != 0 ] || set -- -T /dev/null
exec tar -cpS --xattrs --xattrs-include='*' --numeric-owner -f - "$@"
"""
"""Argument: a machine's directory. What it has written, as a tar."""

TAKE = r"""
cd "$1" && rm -rf carried && mkdir -m 0700 carried && cd carried || exit 1
refuse() { cd .. && rm -rf carried; printf '%s is nothing that a machine writes\n' "$1" >&2; exit 1; }
tar -xpS --xattrs --xattrs-include='*' --numeric-owner -f - || { cd .. && rm -rf carried; exit 1; }
for f in * .[!.]* ..?*; do
  [ -e "$f" ] || [ -L "$f" ] || continue
  [ ! -L "$f" ] || refuse "$f"
  case $2,$f in
  logs,console.[0-9]*.log | all,disk.qcow2 | all,disk-*.qcow2 | all,*.fd | all,console.log | all,console.[0-9]*.log)
    [ -f "$f" ] || refuse "$f" ;;
  all,tpm) [ -d "$f" ] && [ -z "$(find "$f" ! -type d ! -type f | head -c 1)" ] || refuse "$f" ;;
  all,upper | all,nested)
    [ -d "$f" ] && [ -z "$(find "$f" -type b | head -c 1)" ] || refuse "$f"
    [ -z "$(find "$f" -type c -exec stat -c %t:%T {} + | grep -vx 0:0 | head -c 1)" ] || refuse "$f" ;;
  *) refuse "$f" ;;
  esac
done
[ ! -d nested ] || [ -z "$(find nested -mindepth 1 -maxdepth 1 ! -type d | head -c 1)" ] || refuse nested
"""
"""Arguments: a machine's directory; `all`, or `logs` for no more than consoles. What comes on stdin is unpacked in
`carried` there. Root of the hypervisor that it is from decides what comes, and here QEMU and others will open it: it is
files under the names that it must have, no links, and no device but what overlayfs marks what is deleted by."""

LIST = 'cd "$1/carried" && for f in disk*.qcow2; do [ ! -e "$f" ] || printf "%s\\n" "$f"; done'

SETTLE = r"""
cd "$1/carried" || exit 1
for f in *; do
  [ ! -e "$f" ] || { rm -rf "../$f" && mv -f "$f" ..; } || exit 1
done
cd .. && rmdir carried
"""

DROP = 'rm -rf "$1/carried"'

LOGS = 'cd "$1" && tar -cf - console.[0-9]*.log 2>/dev/null || tar -cf - -T /dev/null'
"""Argument: a machine's directory. The consoles of its boots before."""

HEAD = 1 << 16
"""Bytes of a disk that are looked at: the first cluster of what nestlab makes, in which all is that names files."""

_DISK = re.compile(r"disk(-[0-9A-Za-z_-]{1,60})?\.qcow2")

SHOWN = 2000
"""Letters of what a program there said that are told."""

LONGEST = 256 << 20
"""Bytes of a console that go along: it is cut at 16 MiB, and a serial port says half a megabyte a second."""

ROUND = 5.0
"""Nominal seconds in which the last of a console comes."""

SILENT = 180.0
"""Nominal seconds in which something more goes over, or what came is looked through and put in its place: root of
either hypervisor decides what its programs do."""

DISKS = 1000
"""Disks of a machine that comes."""


@frozen
class Below:
    """What a disk in a machine's directory is a layer over, on the host that it is now on; "": nothing."""

    file: str
    backing: str = ""
    format: str = ""


async def whole(source: Host, target: Host, roots: tuple[str, str], below: Sequence[Below], say: Say) -> None:
    """Copy all that a machine has written, and have its disks be layers over what is there. LabError where that fails;
    what is at the target then is not whole."""
    pack, take = ("sh", "-c", PACK, "pack", roots[0]), ("sh", "-c", TAKE, "take", roots[1], "all")
    count = await stream(source, pack, target, take)
    say(f"{human(count)} were copied")
    await _settle(source, target, roots[1], rebase(roots[1], below))


async def _settle(source: Host, target: Host, root: str, then: str) -> None:
    """What was unpacked takes its place. LabError where a disk names another file: QEMU would open that here."""
    listed = (await target.run(("sh", "-c", LIST, "list", root), timeout=SILENT)).text.splitlines()
    disks = list(filter(_DISK.fullmatch, listed))
    if len(disks) > DISKS:
        raise LabError(f"{target.path} has got {len(disks)} disks of one machine.", hint="No machine has so many.")
    for name in disks:
        file = f"{root}/carried/{name}"
        head = (await target.run(("head", "-c", str(HEAD), "--", file), timeout=SILENT)).stdout
        if fault := disk_header.layer(name, head[:HEAD]):
            await target.run(("sh", "-c", DROP, "drop", root), timeout=SILENT)
            what = f"{source.path} hands over what no machine of nestlab's writes: {fault}."
            raise LabError(what, hint=f"Somebody changed it there. Do not trust {source.path}; it goes on where it is.")
    await target.run(("sh", "-c", f"{SETTLE}\n{then}", "settle", root), timeout=SILENT)


def rebase(root: str, below: Sequence[Below]) -> str:
    """The script that says what disks are layers over; only their heads are written."""
    lines = []
    for each in below:
        file = shlex.quote(f"{root}/{each.file}")
        words = ["-b", each.backing, "-F", each.format] if each.backing else ["-b", ""]
        command = shlex.join(["qemu-img", "rebase", "-u", "-f", "qcow2", *words, f"{root}/{each.file}"])
        lines.append(f"[ ! -e {file} ] || {command} || exit 1")
    return "\n".join(lines)


async def stream(source: Host, pack: Sequence[str], target: Host, take: Sequence[str], most: int | None = None) -> int:
    """What a program on one host prints, another on the other host reads. How many bytes; LabError where either fails
    or prints more than `most`, Overdue where one of them does not go on."""
    count, late = 0, source.path
    silent, clock = patience.allowed(SILENT, max(source.slowness, target.slowness)), asyncio.get_running_loop().time
    packed = None
    try:
        async with asyncio.timeout(silent) as hangs, source.start(pack) as packing, target.start(take) as taking:
            async for piece in packing.chunks():
                count += len(piece)
                if most is not None and count > most:
                    what = f"{source.path} hands over more than {human(most)}, which no machine of nestlab's writes."
                    raise LabError(what, hint=f"Somebody changed it there. Do not trust {source.path}.")
                late = target.path
                await taking.write(piece)
                late = source.path
                hangs.reschedule(clock() + silent)
                if taking.over:
                    break
            else:
                packed = await packing.result()
            late = target.path
            hangs.reschedule(clock() + silent)
            taken = await taking.result()
    except TimeoutError:
        what = f"A machine's files could not be copied: {late} did not go on for {patience.said(silent)}."
        raise Overdue(what, hint=patience.LONGER) from None
    for done, where in ((packed, source.path), (taken, target.path)):
        if done is not None and done.status:
            said = done.stderr.decode(errors="replace").strip()
            if "is nothing that a machine writes" in said:
                what = f"{source.path} hands over what no machine of nestlab's writes."
                hint = f"Somebody changed it there. Do not trust {source.path}; the machine goes on where it is."
                raise LabError(what, hint=hint, detail=printable(said[-SHOWN:]))
            hint = f"Make room in {where}." if "No space left" in said else "What it said follows."
            raise LabError(
                f"A machine's files could not be copied: {where} did not go on.",
                hint=hint,
                detail=printable(said[-SHOWN:]),
            )
    return count


@dataclass
class Console:
    """Of a machine that moves while it runs: what it says at the source is added to its console at the target, as it
    comes. `roots`: its directories."""

    source: Host
    target: Host
    root: str
    new_root: str
    _count: int = 0
    _more: asyncio.Event | None = None

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Copy the consoles of boots before, and follow that of this one while the context is open."""
        take = ("sh", "-c", TAKE + SETTLE, "take", self.new_root, "logs")  # no disk is among them: in one session
        await stream(self.source, ("sh", "-c", LOGS, "logs", self.root), self.target, take, LONGEST)
        self._more = asyncio.Event()
        tail = ("tail", "-c", "+1", "-s", "0.2", "-f", f"{self.root}/console.log")
        into = ("sh", "-c", 'exec cat >> "$1"', "into", f"{self.new_root}/console.log")
        async with self.source.start(tail) as said, self.target.start(into) as log:

            async def follow() -> None:
                async for piece in said.chunks():
                    await log.write(piece)
                    self._count += len(piece)
                    if self._count > LONGEST:
                        return
                    if self._more is not None:
                        self._more.set()

            following = asyncio.ensure_future(follow())
            try:
                yield
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                with contextlib.suppress(LabError, OSError, TimeoutError):
                    async with asyncio.timeout(patience.allowed(ROUND, self.target.slowness)):
                        log.close_input()
                        await log.result()

    async def finish(self) -> None:
        """The machine says nothing more at the source: wait until all that it said is over there."""
        try:
            asked = ("stat", "-c", "%s", f"{self.root}/console.log")
            size = int((await self.source.run(asked, timeout=ROUND)).text)
        except (LabError, ValueError):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience.allowed(ROUND, self.source.slowness)):
                while self._count < size and self._more is not None:
                    self._more.clear()
                    await self._more.wait()
