"""Console logs of a machine, one per boot, on the host it runs on: also of machines that died."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.qemu.scripts import FOLLOW, PIECE
from nestlab.home.paths import Place
from nestlab.hosts.host import Host
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.netboot import service_of
from nestlab.network.netboot_control import log_of
from nestlab.wire.result import LINE, Running, failure

LIST = "cd \"$1\" 2>/dev/null && stat -c '%n %s %Y' console.log console.*.log 2>/dev/null; exit 0"
"""Argument: the machine's directory. Prints name, size in bytes and last change of each console."""


TELLS = 90.0
"""Nominal seconds in which a hypervisor says which consoles it keeps."""

LOOK = 0.5
"""Seconds between two looks at a console that is followed."""

_HEADER = 64
_ANSWER = re.compile(r"([0-9]{1,15}) ([0-9]{1,8}) ([0-9]{1,15}|-)")
_BOOT = re.compile(r"(console(?:\.([0-9]{1,9}))?\.log) ([0-9]{1,18}) ([0-9]{1,12})")


@frozen
class Boot:
    """One boot's console. `number` counts from 1, the oldest kept; `changed`: seconds since the epoch."""

    number: int
    file: str
    size: int
    changed: float


async def boots(host: Host, place: Place, path: str) -> tuple[Boot, ...]:
    """The boots of machine `path` whose consoles are kept on `host`, oldest first."""
    limit = TELLS if host.level else None
    found = await host.run(("sh", "-c", LIST, "list", place.of(path).root), timeout=limit)
    return parse(found.text, place.of(path).root)


def parse(text: str, root: str) -> tuple[Boot, ...]:
    """The boots in what LIST printed, and nothing else in it: console.1.log is the oldest, console.log the last."""
    last = (2, 0)
    rows = []
    for line in text.splitlines():
        if found := _BOOT.fullmatch(line):
            name, number, size, changed = found.groups()
            rows.append(((1, int(number)) if number else last, name, int(size), float(changed)))
    rows.sort()
    return tuple(Boot(at, f"{root}/{name}", size, when) for at, (_, name, size, when) in enumerate(rows, 1))


def chosen(kept: tuple[Boot, ...], number: int, path: str) -> Boot:
    """The boot of a number: 1 is the oldest, 0 the last, -1 the one before it. LabError if it is not there."""
    if not kept:
        raise LabError(f"{path} has no console yet: it was never started.", hint="`nestlab up` starts it.")
    at = number - 1 if number > 0 else len(kept) - 1 + number
    if not 0 <= at < len(kept):
        raise LabError(
            f"{path} has no boot {number}.",
            hint=f"Its boots are 1 to {len(kept)}; 0 is the last, -1 the one before it.",
        )
    return kept[at]


async def netboot(blueprint: Blueprint, segment: str, host: Host, place: Place) -> Boot:
    """The log of what a segment serves, as if it were a console: who asked for what, and got it. LabError where nothing
    is served there. `place`: the lab's, on its own `host`."""
    known = {each.name: each for each in blueprint.segments}
    if segment not in known:
        raise LabError(f"Lab {blueprint.lab} has no segment {segment}.", hint=f"It has {', '.join(known) or 'none'}.")
    if service_of(blueprint, segment) is None:
        hint = "Say `netboot:` of the segment in the lab file; machines that boot from it are on it, without a VLAN."
        raise LabError(f"Segment {segment} serves nothing to boot from.", hint=hint)
    file = str(log_of(Path(place.switch), segment))
    said = (await host.run(("stat", "-c", "%s %Y", "--", file), check=False)).text.split()
    if len(said) != 2 or not all(each.isdecimal() for each in said):
        hint = "`nestlab up` starts what serves it, with the machines."
        raise LabError(f"Segment {segment} has not served anything yet.", hint=hint)
    return Boot(1, file, int(said[0]), float(said[1]))


@asynccontextmanager
async def lines(host: Host, boot: Boot, *, follow: bool) -> AsyncIterator[AsyncIterator[bytes]]:
    """The lines of a console; `follow` goes on as they come, until the context is left, and says nothing twice when
    the console is cut meanwhile."""
    if not follow:
        async with host.lines(("cat", boot.file)) as found:
            yield found
        return
    async with host.start(("sh", "-c", FOLLOW, "follow", boot.file)) as running:
        yield _split(_followed(running, host.path))


async def _followed(running: Running, where: str) -> AsyncIterator[bytes]:
    """What is written to a console, as it comes. LabError where a hypervisor answers nonsense or is lost."""
    said = _Said(running.chunks())
    had, last = 0, "-"
    while not running.over:
        await running.write(f"{had} {last}\n".encode())
        head = await said.line()
        if not head:
            break
        found = _ANSWER.fullmatch(head.decode(errors="replace"))
        if found is None or int(found[2]) > PIECE:
            raise LabError(f"{where or 'This machine'} says nonsense of that console.", hint="Try again without -f.")
        piece = await said.bytes(int(found[2]))
        whole = await said.line() == b"whole"
        if whole:
            yield piece
            had, last = int(found[1]) + len(piece), found[3]
        if not whole or len(piece) < PIECE:
            await asyncio.sleep(LOOK)
    result = await running.result()
    if result.status != 0:
        raise failure(result, f" on {where}" if where else "")


class _Said:
    """What a command prints, by lines and by counted bytes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    async def line(self) -> bytes:
        """The next line, of at most _HEADER bytes; none where it ended."""
        while b"\n" not in self._rest and len(self._rest) < _HEADER and await self._more():
            pass
        head, _, self._rest = self._rest.partition(b"\n")
        return head[:_HEADER]

    async def bytes(self, count: int) -> bytes:
        while len(self._rest) < count and await self._more():
            pass
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece

    async def _more(self) -> bool:
        more = await anext(self._chunks, b"")
        self._rest += more
        return bool(more)


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Their lines; one that is longer than LINE comes in pieces."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LINE:
            yield rest
            rest = b""
