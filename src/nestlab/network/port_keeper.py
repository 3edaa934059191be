"""A process that keeps ports of 127.0.0.1 of this computer open, which lead to ports of a host that ssh reaches: for a
lab elsewhere, as long as it is wanted.

Usage: python -m nestlab.network.port_keeper nestlab-ports:LAB DIR

What is wanted stands in a file of DIR, and what became of it in another one. SIGHUP has the first one read again; where
it is gone, or names no ports, the process ends. A connection to the host that is lost is made anew when somebody
connects to a port. It asks nobody: a host whose key is not known, or that wants a password, is not reached.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from nestlab.base import files
from nestlab.base.frozen import frozen
from nestlab.base.typed import parsed
from nestlab.network import daemon

WANTED, DONE = "far-ports.json", "far-ports.done.json"
PID, LOG = "far-ports.pid", "far-ports.log"

LOOKS = 5.0
"""Seconds between two looks whether what is wanted is still there."""

ALREADY = 3
"""Exit status where another one works in that directory."""

MOST = 4096
"""Ports of one lab."""


@frozen
class Wanted:
    """`token`: another one for each writing. `ports`: of this computer, each with the host's that it leads to."""

    host: str
    token: str = ""
    ports: tuple[tuple[int, int], ...] = ()


@frozen
class Done:
    """What became of what has that token. `refused`: ports that could not be had, each with the reason."""

    token: str
    refused: tuple[tuple[int, str], ...] = ()


def load(directory: Path) -> Wanted | None:
    """What is wanted; None where nobody says it, or it is damaged."""
    data = _read(directory / WANTED)
    try:
        ports = tuple((_port(here), _port(there)) for here, there in data["ports"][:MOST])
        return Wanted(str(data["host"]), str(data["token"]), ports)
    except (KeyError, TypeError, ValueError):
        return None


def save(directory: Path, wanted: Wanted) -> None:
    rows = {"host": wanted.host, "token": wanted.token, "ports": [list(each) for each in wanted.ports]}
    files.replace(directory / WANTED, json.dumps(rows).encode(), 0o600, synced=False)


def done(directory: Path) -> Done | None:
    """What became of it; None where nothing did yet."""
    data = _read(directory / DONE)
    try:
        return Done(str(data["token"]), tuple((_port(here), str(why)) for here, why in data["refused"][:MOST]))
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, list[list[object]]]:
    try:
        data = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _port(value: object) -> int:
    if type(value) is not int or not 0 < value < 65536:
        raise ValueError(f"{value!r} is no port")
    return value


class Keeper:
    """The ports of one lab. A port that stays as it was keeps its connections."""

    def __init__(self, directory: Path) -> None:
        from nestlab.hosts.ssh import SshHost

        self._directory = directory
        self._open: dict[tuple[int, int], AsyncExitStack] = {}
        self._host: SshHost | None = None
        self._url = ""

    async def serve(self) -> None:
        """Until nothing is wanted any more."""
        again = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
        token = None
        try:
            while (wanted := load(self._directory)) is not None and wanted.ports:
                if wanted.token != token:
                    token = wanted.token
                    await self._settle(wanted)
                try:
                    async with asyncio.timeout(LOOKS):
                        await again.wait()
                except TimeoutError:
                    continue
                again.clear()
        finally:
            await self._close(list(self._open))

    async def _settle(self, wanted: Wanted) -> None:
        if wanted.host != self._url:
            await self._close(list(self._open))
            await self._reach(wanted.host)
        await self._close([each for each in self._open if each not in wanted.ports])
        refused = []
        for each in wanted.ports:
            if each not in self._open and (why := await self._opened(*each)):
                refused.append([each[0], why])
        data = {"token": wanted.token, "refused": refused}
        files.replace(self._directory / DONE, json.dumps(data).encode(), 0o600, synced=False)

    async def _reach(self, url: str) -> None:
        from nestlab.hosts import ssh

        if self._host is not None:
            await self._host.close()
        self._host, self._url = ssh.at(url, of_lab=True), url

    async def _opened(self, here: int, there: int) -> str:
        """Why a port cannot be had, "" where it is."""
        from nestlab.wire.passing import passing

        host, stack = self._host, AsyncExitStack()
        assert host is not None
        try:
            await stack.enter_async_context(passing(here, lambda: host.tcp(there), print))
        except OSError as error:
            return error.strerror or str(error)
        self._open[here, there] = stack
        return ""

    async def _close(self, ports: list[tuple[int, int]]) -> None:
        for each in ports:
            await self._open.pop(each).aclose()


def main(argv: list[str]) -> int:
    """Start it: the starter's status, once the process is there or cannot be."""
    mark, _, lab = argv[0].partition(":") if argv else ("", "", "")
    if mark != "nestlab-ports" or not lab or len(argv) != 2:
        sys.stderr.write("usage: python -m nestlab.network.port_keeper nestlab-ports:LAB DIR\n")
        return 2
    directory = Path(argv[1]).resolve()
    try:
        os.chdir(directory)
        lock = daemon.lock(PID)
        if lock is None:
            return ALREADY
        if not daemon.fork(lock):
            return 0
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    daemon.detach(LOG)
    try:
        asyncio.run(Keeper(directory).serve())
    finally:
        Path(PID).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
