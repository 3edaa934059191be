"""The screen and the keyboard of a machine, through its QEMU's monitor."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nestlab.base import patience
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.keyboard import Chord
from nestlab.base.picture import LARGEST, Picture, of_ppm
from nestlab.home.paths import MachinePaths
from nestlab.hosts.host import Host
from nestlab.wire.shapes import odd

if TYPE_CHECKING:
    from nestlab.wire.qmp import Monitor

BETWEEN = 0.06
"""Nominal seconds between two keys: a keyboard's queue holds 16 bytes, and a guest that is busy reads it late."""

HELD = 30
"""Milliseconds that a key is held."""

FETCHED = 120.0
"""Nominal seconds in which a picture comes from the host that a machine runs on."""

FETCH = r"""trap 'rm -f -- "$1"' EXIT; gzip -1 -c -- "$1" """
"""Argument: a file. Prints it packed, and deletes it."""


async def taken(host: Host, monitor: Monitor, directory: str, path: str) -> Picture:
    """What the screen of the machine `path` shows. QEMU on `host` writes it beside the machine's disk, where it stays
    no longer than it takes to fetch it.

    LabError where it has no screen; Odd when what comes is no picture."""
    file = f"{directory}/screen-{os.urandom(4).hex()}.ppm"
    try:
        await monitor.execute("screendump", filename=file)
    except LabError as error:
        raise (without_screen(path) if "no console" in error.what.lower() else error) from error
    packed = await host.run(("sh", "-c", FETCH, "fetch", file), timeout=FETCHED)
    try:
        unpacking = zlib.decompressobj(31)
        return of_ppm(unpacking.decompress(packed.stdout, LARGEST))
    except (ValueError, zlib.error) as error:
        raise odd(f"QEMU of {path}", "screendump", f"it wrote {error}") from error


async def now(host: Host, paths: MachinePaths, path: str) -> Picture | None:
    """The same of a machine that boots. None where there is none now: its QEMU has ended, or does not answer."""
    from nestlab.wire.qmp import TIMEOUT, connect

    limit = patience.allowed(TIMEOUT, host.slowness)
    try:
        async with host.unix(paths.qmp) as socket, connect(socket, timeout=limit, where=path) as monitor:
            return await taken(host, monitor, paths.root, path)
    except (LabError, OSError):
        return None


async def press(monitor: Monitor, keys: Sequence[Chord], between: float, path: str) -> None:
    """Press keys one after another, `between` seconds apart. LabError where the machine has no screen: then nobody
    sees what is typed, and its keyboard is not one either."""
    try:
        await monitor.execute("screendump", filename="/dev/null")
    except LabError as error:
        raise (without_screen(path) if "no console" in error.what.lower() else error) from error
    for number, chord in enumerate(keys):
        if number:
            await asyncio.sleep(between)
        codes = [{"type": "qcode", "data": key} for key in chord]
        await monitor.execute("send-key", keys=codes, hold_time=HELD)


async def admit(monitor: Monitor, password: str, seconds: int, path: str) -> None:
    """Have the VNC server of a machine let in who knows a password, for so many seconds. LabError where it has none."""
    try:
        await monitor.execute("set_password", protocol="vnc", password=password)
        await monitor.execute("expire_password", protocol="vnc", time=f"+{seconds}" if seconds else "now")
    except Unreachable:
        raise
    except LabError as error:
        what = f"{path} has no screen that can be viewed: {error.what}"
        hint = f"`display: true` in the lab file gives it one; one that ran before: nestlab restart {path}"
        raise LabError(what, hint=hint) from error


def without_screen(path: str) -> LabError:
    """The error for a machine that has no screen."""
    hint = f"Give it one: `display: true` in the lab file, then `nestlab up`. Without one: nestlab console {path}"
    return LabError(f"{path} has no screen.", hint=hint)
