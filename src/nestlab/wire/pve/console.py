"""The serial console of a machine on a Proxmox VE, and the terminal of a container, as a local socket.

`termproxy` starts `qm terminal` (or the container's console) on a terminal of the node, and a websocket leads to it.
What is typed goes as `0:LENGTH:BYTES`, the size of the terminal as `1:COLUMNS:LINES:`, `2` keeps the connection; what
is shown comes as it is, after an `OK` for the ticket (proxmox-termproxy, main.rs).
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from nestlab.base import patience, temporary
from nestlab.base.errors import LabError, Unreachable
from nestlab.wire.pve.api import Api, Params

if TYPE_CHECKING:
    import aiohttp

Kind = Literal["qemu", "lxc"]

SERIAL = "serial0"

PING = 30.0
"""Seconds between two pings, as pve-xtermjs sends them."""

LOOK = 1.0
"""Seconds between two looks at the size of our terminal."""

ENTRANCE = 15.0
"""Nominal seconds in which a terminal opens. (termproxy waits 10 for its client.)"""

SETTLE = 0.3
"""Seconds after the first output until keys are sent: before `qm terminal` has made its terminal raw, they would be
echoed there, and a Ctrl-C would end it."""

_CHUNK = 1 << 14
_WAITING = 100


@runtime_checkable
class Consoles(Api, Protocol):
    """An API that has websockets: that over HTTPS (`client.Pve`)."""

    async def websocket(self, path: str, params: Params) -> aiohttp.ClientWebSocketResponse: ...


def command(
    vmid: int, kind: Kind = "qemu", *, node: str = "", address: str = "", size: tuple[int, int] = (80, 24)
) -> list[str]:
    """The same console on stdin and stdout of a command, for root on a node (pvesh has no websockets). `node` and
    `address`: of another one, that the machine is on. `size`: columns and lines of a container's terminal, where
    Ctrl-a q leaves.

    A machine's is what `qm terminal` does (qm.pm), without the terminal that it makes raw; `pct console` wants one."""
    if kind == "qemu":
        argv = ["socat", "-", f"UNIX-CONNECT:/var/run/qemu-server/{vmid}.{SERIAL}"]
        return [*_ssh(node, address, "-T"), shlex.join(argv)] if address else argv
    line = f"stty raw -echo cols {size[0]} rows {size[1]}; exec pct console {vmid}"
    return [*_ssh(node, address, "-tt"), line] if address else ["script", "-qefc", line, "/dev/null"]


def _ssh(node: str, address: str, terminal: str) -> list[str]:
    """How the nodes of a cluster reach each other (PVE/SSHInfo.pm); newer ones keep their host keys in /etc/pve."""
    known = f"/etc/pve/nodes/{node}/ssh_known_hosts /root/.ssh/known_hosts"
    wishes = ("BatchMode=yes", "LogLevel=ERROR", f"HostKeyAlias={node}", f"UserKnownHostsFile={known}")
    options = [word for wish in wishes for word in ("-o", wish)]
    return ["ssh", terminal, "-e", "none", *options, f"root@{address}"]


@contextlib.asynccontextmanager
async def attached(
    api: Consoles,
    node: str,
    vmid: int,
    kind: Kind = "qemu",
    *,
    where: str = "",
    size: Callable[[], tuple[int, int]] | None = None,
) -> AsyncIterator[str]:
    """The path of a unix socket that leads to the console, for one who connects; what was shown before waits for them.
    The socket ends when the console does. `size`: columns and lines of the terminal it is shown on.

    LabError without a serial port, Unreachable when the machine does not run."""
    where = where or f"{'VM' if kind == 'qemu' else 'CT'} {vmid}"
    await ready(api, node, vmid, kind, where)
    async with _opened(api, f"/nodes/{node}/{kind}/{vmid}", kind, where) as (socket, first):
        line = Line(socket, first)
        async with listening(line.joined) as path:
            tasks = [asyncio.create_task(line.listen()), asyncio.create_task(line.keep(size))]
            try:
                yield path
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await line.leave()


@contextlib.asynccontextmanager
async def listening(joined: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> AsyncIterator[str]:
    """The path of a unix socket of our user's alone; `joined` is called for each who connects."""
    with temporary.folder() as folder:
        path = f"{folder}/console"
        server = await asyncio.start_unix_server(joined, path)
        try:
            yield path
        finally:
            server.close()


async def ready(api: Api, node: str, vmid: int, kind: Kind, where: str) -> None:
    """LabError without a serial port, Unreachable when the machine does not run: PVE itself tells that only on the
    terminal, and in passing."""
    base = f"/nodes/{node}/{kind}/{vmid}"
    status, config = await asyncio.gather(
        api.get(f"{base}/status/current"), api.get(f"{base}/config", {"current": True})
    )
    if status.get("status") != "running":
        raise Unreachable(f"{where} does not run, so its console shows nothing.", hint="`nestlab up` starts it.")
    if kind == "qemu" and config.get(SERIAL) != "socket":
        hint = f"Give it one: qm set {vmid} --{SERIAL} socket, then stop and start it. (PVE shows its screen by VNC.)"
        raise LabError(f"{where} has no serial console ({SERIAL}).", hint=hint)


@contextlib.asynccontextmanager
async def _opened(
    api: Consoles, base: str, kind: Kind, where: str
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, bytes]]:
    """A websocket to its terminal, let in, and the first that came."""
    given = await api.create(f"{base}/termproxy", {"serial": SERIAL} if kind == "qemu" else None)
    user, ticket = given["user"], given["ticket"]
    socket = await api.websocket(f"{base}/vncwebsocket", {"port": given["port"], "vncticket": ticket})
    try:
        await socket.send_bytes(f"{user}:{ticket}\n".encode())
        yield socket, await _let_in(socket, user, where)
    finally:
        await socket.close()


async def _let_in(socket: aiohttp.ClientWebSocketResponse, user: str, where: str) -> bytes:
    said = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience.allowed(ENTRANCE)):
            while len(said) < 2 and (data := await _next(socket)):
                said += data
    if said[:2] == b"OK":
        return said[2:]
    hint = "See the task VM/CT … Console on its node for why."
    if "!" in user:
        hint += (
            " PVE opens terminals to API tokens since qemu-server 9.1.7 and pve-container 6.1.3 (April 2026): update"
            " its nodes, log in with a password, or use pve+ssh://."
        )
    raise LabError(f"Proxmox VE did not open the console of {where} to {user}.", hint=hint)


async def _next(socket: aiohttp.ClientWebSocketResponse) -> bytes:
    """What is shown next; b"" at the end."""
    from aiohttp import WSMsgType

    message = await socket.receive()
    if message.type is WSMsgType.TEXT:
        return str(message.data).encode()
    return bytes(message.data) if message.type is WSMsgType.BINARY else b""


class Line:
    """A console and the one who sits at it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, first: bytes) -> None:
        self._socket = socket
        self._shown = asyncio.Queue[bytes](_WAITING)
        self._heard = asyncio.Event()
        if first:
            self._shown.put_nowait(first)
            self._heard.set()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connected to the local socket; a second one finds it closed."""
        if self._writer is not None:
            writer.close()
            return
        self._writer = writer
        self._tasks = {asyncio.create_task(self._type(reader)), asyncio.create_task(self._show(writer))}

    async def listen(self) -> None:
        """Take what is shown, to its end."""
        while data := await _next(self._socket):
            self._heard.set()
            await self._shown.put(data)
        await self._shown.put(b"")

    async def keep(self, size: Callable[[], tuple[int, int]] | None) -> None:
        """Keep the connection, and the size of the terminal right."""
        loop = asyncio.get_running_loop()
        told, pinged = (0, 0), loop.time()
        while True:
            if size is not None and (now := size()) != told:
                told = now
                await self._socket.send_bytes(f"1:{now[0]}:{now[1]}:".encode())
            if loop.time() - pinged >= PING:
                pinged = loop.time()
                await self._socket.send_bytes(b"2")
            await asyncio.sleep(LOOK)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()

    async def _type(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10 * SETTLE):
                await self._heard.wait()
        await asyncio.sleep(SETTLE)
        while data := await reader.read(_CHUNK):
            await self._socket.send_bytes(typed(data))

    async def _show(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await self._shown.get():
                writer.write(data)
                await writer.drain()
        writer.close()


def typed(data: bytes) -> bytes:
    """Keys, as termproxy reads them."""
    return b"0:%d:%s" % (len(data), data)
