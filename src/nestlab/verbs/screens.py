"""Screens and keyboards of machines, at any level and on a Proxmox VE."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from nestlab.base.errors import LabError, Unreachable
from nestlab.base.keyboard import Chord
from nestlab.base.picture import Picture
from nestlab.engines import Showing, View, Viewed
from nestlab.lab.model import parent_of
from nestlab.verbs.session import Session
from nestlab.wire.passing import passing


async def picture(session: Session, path: str) -> Picture:
    """What the screen of a running machine shows. LabError where it has none, or does not run."""
    return await (await _showing(session, path)).picture(path)


async def press(session: Session, path: str, keys: Sequence[Chord]) -> None:
    """Press keys of a running machine's keyboard, one after another. LabError where it has no screen."""
    await (await _showing(session, path)).press(path, keys)


@asynccontextmanager
async def viewed(session: Session, path: str) -> AsyncIterator[tuple[int, View]]:
    """A port of 127.0.0.1 that leads to the VNC server of a running machine, and its password, while the context is
    open. LabError where it has no screen; for a machine on a Proxmox VE, which has a viewer of its own."""
    engine = await session.nest.engine(parent_of(path))
    if not isinstance(engine, Viewed):
        what = f"The screen of {path} is shown by its Proxmox VE itself."
        raise LabError(what, hint="Open its web page, the machine, then Console (noVNC). A picture: nestlab screenshot")
    async with engine.viewed(path) as view:

        async def far() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            try:
                return await asyncio.open_unix_connection(view.socket)
            except OSError as error:
                raise Unreachable(f"The screen of {path} takes no connection: {error.strerror}.") from error

        async with passing(0, far) as passed:
            yield passed.port, view


async def _showing(session: Session, path: str) -> Showing:
    spec = session.blueprint.by_path().get(path)
    engine = await session.nest.engine(parent_of(path))
    if not isinstance(engine, Showing) or (spec is not None and spec.machine.container):
        raise LabError(f"{path} has no screen: it is no virtual machine.", hint=f"Enter it: nestlab ssh {path}")
    return engine
