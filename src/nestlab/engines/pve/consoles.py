"""Consoles of machines on a Proxmox VE as local sockets, and what their systems logged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from nestlab.base.errors import LabError
from nestlab.engines.pve.protocols import Door
from nestlab.hosts.host import Host, Running
from nestlab.wire.pve import console
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.console import Kind
from nestlab.wire.result import failure, tail

MOST = 1 << 20
"""Bytes of a log that are told: PVE passes an answer of the agent on once, and whole."""

LOG = f"""
if command -v journalctl >/dev/null; then
    journalctl -q --boot="$1" -n 1 >/dev/null || exit
    journalctl -q --boot="$1" --no-pager --no-hostname | tail -c {MOST}
elif [ "$1" = 0 ]; then
    dmesg | tail -c {MOST}
else
    echo "it keeps no journal, only what its kernel said in this boot" >&2
    exit 1
fi
"""
"""Argument: the boot. Prints the end of its journal, or of what the kernel said where there is none."""

FOLLOW = """
command -v journalctl >/dev/null && exec journalctl -q -b -n all -f --no-hostname
exec dmesg -w
"""
"""Prints the journal of this boot, and goes on."""

_CHUNK = 1 << 14


@contextlib.asynccontextmanager
async def attached(
    api: Api,
    node: str,
    vmid: int,
    kind: Kind = "qemu",
    *,
    where: str = "",
    host: Host | None = None,
    size: Callable[[], tuple[int, int]] | None = None,
) -> AsyncIterator[str]:
    """The path of a unix socket that leads to the console of a machine or a container, for one who connects (such as
    `terminal.attach`); it ends when the console does. `host`: where `api` runs pvesh; None over HTTPS. `size`: columns
    and lines of the terminal it is shown on.

    LabError without a serial port, or when the way there failed; Unreachable when the machine does not run."""
    if host is None:
        assert isinstance(api, console.Consoles)
        async with console.attached(api, node, vmid, kind, where=where, size=size) as path:
            yield path
        return
    where = where or f"{'VM' if kind == 'qemu' else 'CT'} {vmid}"
    await console.ready(api, node, vmid, kind, where)
    address = await _address(api, node)
    shown = size() if size is not None else (80, 24)
    argv = console.command(vmid, kind, node=node, address=address, size=shown)
    async with host.start(argv) as running:
        piped = _Piped(running, where)
        async with console.listening(piped.joined) as path:
            try:
                yield path
            finally:
                await piped.leave()
        piped.check()


async def log(door: Door, boot: int = 0) -> bytes:
    """The end (MOST bytes, whole lines) of what a machine that runs has logged in a boot: 1 is the oldest that it
    keeps, 0 this one, -1 the one before. PVE itself keeps nothing of what consoles said.

    Unreachable when the machine or its agent does not answer; LabError when it keeps no such boot."""
    result = await door.run(["sh", "-c", LOG, "sh", str(boot)], check=False, timeout=120)
    if result.status != 0:
        hint = "0 is this boot; whether a machine keeps others, its journald.conf says (Storage=)."
        raise LabError(f"The machine has no log of boot {boot}.", hint=hint, detail=tail(result.stderr))
    if len(result.stdout) < MOST:
        return result.stdout
    return result.stdout.partition(b"\n")[2]


def following(host: Host) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    """The lines that a machine has logged in this boot, and those to come until the context is left; it is `host`."""
    return host.lines(("sh", "-c", FOLLOW))


async def _address(api: Api, node: str) -> str:
    """Where the node that is asked reaches another one; "" for itself."""
    for row in await api.get("/cluster/status"):
        if row.get("type") == "node" and row.get("name") == node:
            return "" if row.get("local") else str(row.get("ip") or node)
    raise LabError(f"{api.where} knows no node {node}.", hint="See its nodes: pvesh get /cluster/status")


class _Piped:
    """A console that is a command's stdin and stdout, and the one who sits at it."""

    def __init__(self, running: Running, where: str) -> None:
        self._running = running
        self._where = where
        self._over = False
        self._work: asyncio.Task[None] | None = None

    def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connected to the local socket; a second one finds it closed."""
        if self._work is not None:
            writer.close()
            return
        self._work = asyncio.create_task(self._join(reader, writer))

    async def leave(self) -> None:
        if self._work is not None:
            if not self._over:
                self._work.cancel()
            await asyncio.wait({self._work})

    def check(self) -> None:
        """LabError if it ended by itself, and failed."""
        if self._work is not None and not self._work.cancelled():
            self._work.result()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keys = asyncio.create_task(self._type(reader))
        try:
            with contextlib.suppress(OSError):  # who sat there has left
                async for data in self._running.chunks():
                    writer.write(data)
                    await writer.drain()
                self._over = True
        finally:
            keys.cancel()
            await asyncio.gather(keys, return_exceptions=True)
            writer.close()
        if self._over and (result := await self._running.result()).status != 0:
            raise failure(result, f" for {self._where}")

    async def _type(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_CHUNK):
            await self._running.write(data)
