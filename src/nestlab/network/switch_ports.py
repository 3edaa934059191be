"""Parts of the switch: an event loop, channels that never block, and ports that forward frames.

Imports little, because the switch is a process that lives as long as its lab: see `nestlab.network.switch`.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

LIMIT = 65536 + 4096
"""Bytes of the longest frame: QEMU's NET_BUFSIZE. A greater length means that the stream is not one of frames."""
SHORTEST = 14
BATCH = 4 * LIMIT
"""Bytes read from one port before the next has its turn."""
QUEUE = 1 << 17
"""Bytes that may wait for one port here, behind what the kernel holds for it; what comes beyond is dropped."""
KERNEL = 1 << 20
"""Bytes that the kernel should hold for one port (it grants net.core.wmem_max at most)."""
LOG = 1 << 20

_IN, _OUT = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT
_head = struct.Struct(">I12s").unpack_from  # length, destination and source
_size = struct.Struct(">I").unpack_from


def say(text: str) -> None:
    """A line for the log, which begins anew when it has grown to `LOG` bytes. What a full disk does not take is lost:
    frames pass on."""
    try:
        if os.fstat(2).st_size > LOG:
            os.ftruncate(2, 0)
        os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n".encode(errors="replace"))
    except OSError:
        pass


class Loop:
    """Calls `handler(events)` for what epoll reports. `buffer` is for whoever reads right now."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.starved: set[int] = set()
        self.buffer = bytearray(BATCH)
        self.view = memoryview(self.buffer)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler
        self.epoll.register(fd, _IN)

    def forget(self, fd: int) -> None:
        """To be called before `fd` is closed."""
        del self.handlers[fd]
        if fd not in self.starved:
            self.epoll.unregister(fd)
        self.starved.discard(fd)

    def turn(self, timeout: float) -> None:
        """Wait for events, `timeout` seconds at most, and handle them."""
        for fd, events in self.epoll.poll(timeout):
            handler = self.handlers.get(fd)
            if handler is not None:
                handler(events)

    def accept(self, listener: socket.socket) -> socket.socket | None:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None
        except OSError as error:
            # No descriptor is free: the listener would stay ready and keep us busy, so it is left until `relisten`.
            say(f"cannot accept a connection: {error}")
            self.epoll.unregister(listener.fileno())
            self.starved.add(listener.fileno())
            return None

    def relisten(self) -> None:
        while self.starved:
            self.epoll.register(self.starved.pop(), _IN)


class Channel:
    """A connected socket with what could not be sent yet."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.queue = bytearray()
        self.open = True
        loop.watch(self.fd, self.ready)

    def ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self.flush()
        if self.open and events & ~select.EPOLLOUT:
            self.read()

    def read(self) -> None:
        raise NotImplementedError

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Sends, and returns the number of bytes that the kernel took; 0 also when the other side is gone (the channel
        is then closed)."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def flush(self) -> None:
        sent = self.send(self.queue)
        del self.queue[:sent]
        if self.open and not self.queue:
            self.loop.epoll.modify(self.fd, _IN)

    def wait(self, data: bytes | memoryview) -> None:
        """Queue what is to be sent once the other side has read more."""
        if self.open and data:
            if not self.queue:
                self.loop.epoll.modify(self.fd, _OUT)
            self.queue += data

    def close(self) -> None:
        if self.open:
            self.open = False
            self.queue.clear()
            self.loop.forget(self.fd)
            self.sock.close()


Route = Callable[["Port", bytes], "tuple[Port, ...]"]
Sort = Callable[["Port", int], "tuple[int, int, list[Port]]"]


class Port(Channel):
    """One machine's card on a segment.

    `route(port, destination and source)` says which ports a frame goes to; the answer is kept in `flows` until the
    segment clears it. `left(port)` is called once, when the port has closed. On a segment with VLANs, `sort(port, end)`
    does what `read` does else with the loop's buffer (see `switch_vlans`); `vlan` and `trunk` say what the port is.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, number: int, route: Route, left: Callable[[Port], None]
    ) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        self.number = number
        self.route = route
        self.left = left
        self.peer: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.since = time.time()
        self.alone = (self,)
        self.others: tuple[Port, ...] | None = None
        self.flows: dict[bytes, tuple[Port, ...]] = {}
        self.vlan, self.trunk = 0, False
        self.sort: Sort | None = None
        self.tail = b""
        self.pending: list[memoryview] = []
        self.rx_frames = self.rx_bytes = self.rx_errors = self.tx_frames = self.tx_bytes = self.dropped = 0
        super().__init__(loop, sock)

    def read(self) -> None:
        """Take what has come and pass it on: frames that follow each other to the same ports as one piece."""
        end = self.receive()
        if not end:
            return self.close() if end == 0 else None
        if self.sort is not None:
            return self.taken(end, *self.sort(self, end))
        buffer, view, flows = self.loop.buffer, self.loop.view, self.flows
        at = start = frames = before = 0
        run: tuple[Port, ...] = ()
        touched: list[Port] = []
        while end - at >= 16:
            size, key = _head(buffer, at)
            after = at + 4 + size
            if size > LIMIT or after > end:
                break
            try:
                targets = flows[key] if size >= SHORTEST else self.runt()
            except KeyError:
                targets = self.route(self, key)
            if targets is not run:
                if run:
                    hand_on(run, view[start:at], frames - before, touched)
                run, start, before = targets, at, frames
            frames += 1
            at = after
        if run:
            hand_on(run, view[start:at], frames - before, touched)
        return self.taken(end, at, frames, touched)

    def taken(self, end: int, at: int, frames: int, touched: list[Port]) -> None:
        """Of the loop's buffer up to `end`, whole frames up to `at` have been handed on to the ports `touched`."""
        buffer, view = self.loop.buffer, self.loop.view
        self.rx_frames += frames
        self.rx_bytes += at - 4 * frames
        self.tail = bytes(view[at:end])
        for port in touched:
            port.transmit()
        if end - at >= 4 and _size(buffer, at)[0] > LIMIT:
            say(f"port {self.number} of process {self.peer}: a frame of {_size(buffer, at)[0]} bytes; closed")
            self.close()

    def receive(self) -> int | None:
        """Bytes in the loop's buffer, with what was left of a frame the last time; 0 at the end of the stream,
        None if nothing has come."""
        kept = len(self.tail)
        self.loop.view[:kept] = self.tail
        try:
            got = self.sock.recv_into(self.loop.view[kept:])
        except BlockingIOError:
            return None
        except OSError:
            return 0
        return got and kept + got

    def runt(self) -> tuple[Port, ...]:
        self.rx_errors += 1
        return ()

    def transmit(self) -> None:
        """Send what is pending, behind what waits already."""
        data = self.pending[0] if len(self.pending) == 1 else b"".join(self.pending)
        self.pending.clear()
        if self.open:
            sent = 0 if self.queue else self.send(data)
            if sent < len(data):
                self.keep(data, sent)

    def keep(self, data: bytes | memoryview, sent: int) -> None:
        """Queue the rest of a frame that was cut, and as many whole frames as there is room for."""
        fit = 0
        while fit < sent:
            fit += 4 + _size(data, fit)[0]
        end, room = len(data), QUEUE - len(self.queue) + sent
        if end <= room:
            fit = end
        while fit < end:
            after = fit + 4 + _size(data, fit)[0]
            if after > room:
                break
            fit = after
        self.wait(data[sent:fit])
        while fit < end:
            size = _size(data, fit)[0]
            self.dropped += 1
            self.tx_frames -= 1
            self.tx_bytes -= size
            fit += 4 + size

    def close(self) -> None:
        if self.open:
            super().close()
            self.left(self)

    def status(self) -> dict[str, Any]:
        counters = ("since", "rx_frames", "rx_bytes", "rx_errors", "tx_frames", "tx_bytes", "dropped")
        counted = {name: getattr(self, name) for name in counters}
        return {"port": self.number, "pid": self.peer, "queued": len(self.queue)} | counted


def hand_on(targets: tuple[Port, ...], piece: memoryview, frames: int, touched: list[Port]) -> None:
    """Give ports a piece of a stream with so many frames; they send it when they are told to."""
    size = len(piece) - 4 * frames
    for port in targets:
        if not port.pending:
            touched.append(port)
        port.pending.append(piece)
        port.tx_frames += frames
        port.tx_bytes += size
