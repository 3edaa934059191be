"""Console logs of a machine, one per boot, on the host it runs on: also of machines that died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from nestlab.base.errors import LabError
from nestlab.home.paths import Place
from nestlab.hosts.host import Host

LIST = "cd \"$1\" 2>/dev/null && stat -c '%n %s %Y' console.log console.*.log 2>/dev/null; exit 0"
"""Argument: the machine's directory. Prints name, size in bytes and last change of each console."""


@dataclass(frozen=True)
class Boot:
    """One boot's console. `number` counts from 1, the oldest kept; `changed`: seconds since the epoch."""

    number: int
    file: str
    size: int
    changed: float


async def boots(host: Host, place: Place, path: str) -> tuple[Boot, ...]:
    """The boots of machine `path` whose consoles are kept on `host`, oldest first."""
    found = await host.run(("sh", "-c", LIST, "list", place.of(path).root))
    return parse(found.text, place.of(path).root)


def parse(text: str, root: str) -> tuple[Boot, ...]:
    """The boots in what LIST printed: console.1.log is the oldest, console.log the last."""
    last = (2, 0)
    rows = []
    for line in text.splitlines():
        name, size, changed = line.split()
        number = name.removeprefix("console.").removesuffix("log").removesuffix(".")
        if number.isdigit() or not number:
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


def lines(host: Host, boot: Boot, *, follow: bool) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    """The lines of a console; `follow` goes on as they come, until the context is left."""
    return host.lines(("tail", "-n", "+1", "-f", boot.file) if follow else ("cat", boot.file))
