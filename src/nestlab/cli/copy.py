"""The copy command: `nestlab cp`, which places are meant, and how the copy goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nestlab.base.door import canvas
from nestlab.base.errors import LabError
from nestlab.base.printable import one_line
from nestlab.cli import complete
from nestlab.cli.common import home, lab_named, meant, print_json, site
from nestlab.cli.exit_status import guarded, run, say
from nestlab.cli.machines import the_one
from nestlab.cli.options import Debug, Json

if TYPE_CHECKING:
    from nestlab.home.targets import Remote
    from nestlab.show.transfer import Transfer
    from nestlab.verbs.session import Session

LIVE, PLAIN = 0.25, 5.0
"""Seconds between two pictures of the progress: on a terminal, and as lines elsewhere."""

Source = Annotated[list[str], typer.Argument(metavar="FROM TO", autocompletion=complete.machines_or_files)]
Recursive = Annotated[bool, typer.Option("-r", "-R", "--recursive", help="As always: directories are copied whole.")]
Archive = Annotated[bool, typer.Option("-a", "--archive", help="As always: modes, times and links are kept.")]


@guarded
def cp(
    paths: Source, recursive: Recursive = False, archive: Archive = False, as_json: Json = False, debug: Debug = False
) -> int | None:
    """Copy files and directories to, from and between machines: modes and times are kept, owners are not. A link that
    is named is followed; links inside a directory are kept. A file is replaced when all of the new one has come. What
    is large goes as a disk attached to the machine, which is much quicker than ssh.

    \b
    Examples:
      nestlab cp notes.txt hv1/web:/root/
      nestlab cp hv1:/var/log ./log-of-hv1
      nestlab cp hv1/web:/etc/motd hv2/web:/etc/
      nestlab cp pair:hv1/web:/etc/hosts .       with several labs
    """
    return run(_copy(paths, as_json=as_json))


async def _copy(words: list[str], *, as_json: bool) -> None:
    from nestlab.home.targets import remote

    if len(words) < 2:
        raise LabError("cp takes at least two places.", hint="nestlab cp notes.txt hv1/web:/root/")
    labs = home().labs()
    *sources, target = (remote(word, labs, complete.paths) for word in words)
    local = [word for word, source in zip(words[:-1], sources, strict=True) if isinstance(source, str)]
    if local and isinstance(target, str):
        what = f"No machine is named: {local[0]} is here, and so is {words[-1]}."
        raise LabError(what, hint="One side at least is a machine's: nestlab cp notes.txt hv1/web:/root/")
    _distinct([(source if isinstance(source, str) else source.path) for source in sources])
    done = []
    async with _Open() as there:
        await _want_directory(there, target, len(sources))
        for word, source in zip(words[:-1], sources, strict=True):
            async with _shown(_name(source), words[-1], as_json=as_json) as transfer:
                await _one(there, source, target, transfer)
            done.append({"from": word, "to": words[-1], **transfer.data()})
    if as_json:
        print_json({"copied": done})


class _Open:
    """The labs of the machines that are meant, each opened once."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._sessions: dict[str, Session] = {}

    async def __aenter__(self) -> _Open:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.aclose()

    async def at(self, place: Remote) -> tuple[Session, str]:
        """The lab, and the path of the one machine that is meant."""
        from nestlab.verbs import session as verbs

        found = meant([place.machine])
        name = lab_named(found)
        if name not in self._sessions:
            self._sessions[name] = await self._stack.enter_async_context(verbs.looking(site(), name=name))
        return self._sessions[name], the_one(self._sessions[name], found)


async def _want_directory(there: _Open, target: Remote | str, sources: int) -> None:
    """Several sources need a directory that is there."""
    from nestlab.hosts import copy

    if sources < 2:
        return
    if isinstance(target, str):
        await copy.want_directory(target)
        return
    session, path = await there.at(target)
    await copy.want_directory(target.path, await session.nest.host(path))


async def _one(there: _Open, source: Remote | str, target: Remote | str, transfer: Transfer) -> None:
    from nestlab.verbs import copy

    if isinstance(source, str):
        assert not isinstance(target, str)
        session, path = await there.at(target)
        await copy.upload(session, source, path, target.path, transfer)
    elif isinstance(target, str):
        session, path = await there.at(source)
        await copy.download(session, path, source.path, target, transfer)
    else:
        session, path = await there.at(source)
        other, inner = await there.at(target)
        await copy.between(session, path, source.path, other, inner, target.path, transfer)


def _name(source: Remote | str) -> str:
    path = source if isinstance(source, str) else source.path
    return one_line(Path(path).name or path or ".")


def _distinct(paths: Sequence[str]) -> None:
    """LabError where two sources would become one in the target. (`..` and `/` have no name of their own.)"""
    names = [Path(path).name for path in paths]
    twice = next((name for name in names if name not in ("", "..") and names.count(name) > 1), None)
    if twice is not None:
        what = f"Two of these are called {twice}, and the second would take the first one's place. Nothing was copied."
        raise LabError(what, hint="Copy them one by one, under names of their own.")


@asynccontextmanager
async def _shown(name: str, target: str, *, as_json: bool) -> AsyncIterator[Transfer]:
    """A copy whose progress is shown on stderr: in place on a terminal, else as lines; and what it came to."""
    import asyncio

    from nestlab.hosts.terminal import size
    from nestlab.show.transfer import Transfer

    transfer = Transfer(name, one_line(target), time.time())
    live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    async def show() -> None:
        while True:
            await asyncio.sleep(LIVE if live else PLAIN)
            line = one_line(transfer.line(time.time()))
            if live:
                canvas(sys.stderr).write(f"\r{line[: size(sys.stderr)[0] - 1]}\x1b[K")
                sys.stderr.flush()
            else:
                say(line)

    showing = None if as_json else asyncio.create_task(show())
    try:
        yield transfer
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.wait({showing})
            if live:
                canvas(sys.stderr).write("\r\x1b[K")
    transfer.until = time.time()
    if not as_json:
        say(transfer.end())
