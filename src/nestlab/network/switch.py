"""The network between machines: a learning layer-2 switch, one small process per lab for all its segments.

    python -m nestlab.network.switch nestlab-switch:LAB DIR [SEGMENT ...]

It returns with status 0 as soon as the switch listens; the switch itself goes on in the background, in a session of
its own, until it is told to quit, gets SIGTERM, or DIR is gone. Status 3: a switch already serves DIR.

On `DIR/<segment>.sock` (see `socket_name`) it takes streams of frames, each 4 bytes of length (big-endian) and an
Ethernet frame, and answers likewise: QEMU's `-netdev stream`. A port that cannot keep up loses whole frames, counted,
and holds up nobody else. On `DIR/switch.sock` it takes JSON objects, one per line, such as
`{"do": "add", "segment": "wire"}`, and answers each with one line; see `Switch.commands`. `DIR/switch.pid` holds the
process's number and is locked (flock) for as long as the process lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from nestlab.network.switch_ports import Channel, Loop, Port

PROTOCOL = 1
AGE = 300.0
"""Seconds after which a MAC address that sent nothing is forgotten (IEEE 802.1D's default)."""
MACS = 16384
"""Addresses that a segment learns; frames to any more go to all its ports."""
FLOWS = 4096
CHECK = 2.0
"""Seconds between looks at the directory."""

CONTROL, PID, LOG = "switch.sock", "switch.pid", "switch.log"
ALREADY = 3


def socket_name(segment: str) -> str:
    """The file name of a segment's socket; none is that of the control socket (names never end in `-`)."""
    return "switch-.sock" if segment == "switch" else f"{segment}.sock"


class Segment:
    """One isolated network. `table`: MAC address -> its port and when it was last seen to send (monotonic seconds).

    What becomes of a frame is decided in `route` alone, once per flow. Every change of `table` or of the ports
    forgets the flows, so they never disagree with it.
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.ports: dict[int, Port] = {}
        self.table: dict[bytes, tuple[Port, float]] = {}
        self.mirrors: dict[Port, Port] = {}
        self.opened = 0
        self.listener = _listen(socket_name(name))
        loop.watch(self.listener.fileno(), self.accept)

    def accept(self, _events: int) -> None:
        sock = self.loop.accept(self.listener)
        if sock is not None:
            self.opened += 1
            self.ports[self.opened] = Port(self.loop, sock, self.opened, self.route, self.leave)
            self.changed()

    def leave(self, port: Port) -> None:
        del self.ports[port.number]
        self.mirrors.pop(port, None)
        for mirror in [mirror for mirror, watched in self.mirrors.items() if watched is port]:
            mirror.close()  # there is nothing to capture any more
        for mac in [mac for mac, place in self.table.items() if place[0] is port]:
            del self.table[mac]
        port.flows.clear()
        self.changed()

    def changed(self) -> None:
        for port in self.ports.values():
            port.others = None
            port.flows.clear()

    def route(self, port: Port, key: bytes) -> tuple[Port, ...]:
        """The ports for a frame that came in by `port`: one, all others (unknown or group address), or none."""
        target, source = key[:6], key[6:]
        if not source[0] & 1:
            self.learn(port, source, time.monotonic())
        if port.others is None:
            others = (other for other in self.ports.values() if other not in self.mirrors)
            port.others = tuple(other for other in others if other is not port)
        targets = port.others
        place = self.table.get(target)
        if place is not None:
            targets = () if place[0] is port else place[0].alone
        if self.mirrors:
            watching = [mirror for mirror, watched in self.mirrors.items() if watched is port or watched in targets]
            targets = (*targets, *watching)
        if len(port.flows) >= FLOWS:
            port.flows.clear()
        port.flows[key] = targets
        return targets

    def learn(self, port: Port, mac: bytes, now: float) -> None:
        place = self.table.get(mac)
        if place is None and len(self.table) >= MACS:
            return
        self.table[mac] = (port, now)
        if place is None or place[0] is not port:
            self.changed()

    def age(self, now: float) -> None:
        """Forget who was silent for `AGE`. Flows are forgotten too, so that whoever still sends is seen again."""
        for mac in [mac for mac, place in self.table.items() if now - place[1] > AGE]:
            del self.table[mac]
        self.changed()

    def mirror(self, port: Port, watched: Port) -> None:
        """From now on `port` gets a copy of every frame to or from `watched`, and no others."""
        self.mirrors[port] = watched
        self.changed()

    def close(self) -> None:
        _unlink(socket_name(self.name))
        self.loop.forget(self.listener.fileno())
        self.listener.close()
        for port in list(self.ports.values()):
            port.close()

    def status(self) -> dict[str, Any]:
        macs: dict[int, list[str]] = {number: [] for number in self.ports}
        for mac, (port, _) in self.table.items():
            macs[port.number].append(mac.hex(":"))
        ports = [{**port.status(), "macs": macs[number]} for number, port in self.ports.items()]
        return {"ports": ports, "opened": self.opened}


class Control(Channel):
    """Somebody who asks or commands."""

    def __init__(self, loop: Loop, sock: socket.socket, answer: Callable[[bytes], dict[str, Any]]) -> None:
        self.answer = answer
        self.line = b""
        super().__init__(loop, sock)

    def read(self) -> None:
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self.line = (self.line + data).split(b"\n")
        if not data or len(self.line) > 65536:
            self.close()
            return
        for line in lines:
            reply = json.dumps(self.answer(line)).encode() + b"\n"
            sent = 0 if self.queue else self.send(reply)
            self.wait(reply[sent:])


class Switch:
    """All segments of a lab, in one thread. File names are relative to the working directory, which is DIR."""

    def __init__(self, lab: str, directory: str) -> None:
        self.lab = lab
        self.directory = directory
        self.since = time.time()
        self.running = True
        self.loop = Loop()
        self.segments: dict[str, Segment] = {}
        self.commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self.status,
            "add": self.add,
            "remove": self.remove,
            "mirror": self.mirror,
            "quit": self.quit,
        }

    def serve(self, listener: socket.socket) -> None:
        """Answer on `listener`, and pass frames on, until told to quit."""
        self.loop.watch(listener.fileno(), lambda _events: self.greet(listener))
        checked = aged = time.monotonic()
        while self.running:
            self.loop.turn(CHECK)
            now = time.monotonic()
            if now - checked >= CHECK:
                checked = now
                self.look()
            if now - aged >= AGE / 5:
                aged = now
                for segment in self.segments.values():
                    segment.age(now)

    def greet(self, listener: socket.socket) -> None:
        sock = self.loop.accept(listener)
        if sock is not None:
            Control(self.loop, sock, self.answer)

    def look(self) -> None:
        """Stop when the directory is gone, or another one is in its place."""
        try:
            there = os.path.samestat(os.stat(self.directory), os.stat("."))  # noqa: PTH116 (pathlib takes a megabyte)
        except OSError:
            there = False
        if not there:
            self.quit({})
        self.loop.relisten()

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a request: `ok`, and with it what the command returns, or else `error`."""
        try:
            request = json.loads(line)
            return {"ok": True, **self.commands[request["do"]](request)}
        except (ValueError, KeyError, TypeError, OSError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def status(self, _request: dict[str, Any]) -> dict[str, Any]:
        segments = {name: segment.status() for name, segment in self.segments.items()}
        own = {"protocol": PROTOCOL, "lab": self.lab, "pid": os.getpid(), "since": self.since}
        return {**own, "segments": segments}

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        """Serve a further segment; one that is served already is left alone."""
        name = _checked(request["segment"])
        if name not in self.segments:
            self.segments[name] = Segment(self.loop, name)
        return {"segments": list(self.segments)}

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a segment away, with its ports; one that is not there is no mistake."""
        segment = self.segments.pop(_checked(request["segment"]), None)
        if segment is not None:
            segment.close()
        return {"segments": list(self.segments)}

    def mirror(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make `port` of a segment one that captures: it gets a copy of what passes port `of`."""
        segment = self.segments[_checked(request["segment"])]
        segment.mirror(segment.ports[request["port"]], segment.ports[request["of"]])
        return {}

    def quit(self, _request: dict[str, Any]) -> dict[str, Any]:
        """End the process once the answer is on its way. The pid file goes last: without it another may start."""
        if self.running:
            self.running = False
            for name in (*map(socket_name, self.segments), CONTROL, PID):
                _unlink(name)
        return {}


def _checked(name: object) -> str:
    if not isinstance(name, str) or len(name) > 63 or name.endswith("-"):
        raise ValueError(f"{name!r} is not the name of a segment")
    if name.isascii() and name.replace("-", "").isalnum():
        return name
    raise ValueError(f"{name!r} is not the name of a segment")


def _unlink(name: str) -> None:
    try:
        os.unlink(name)  # noqa: PTH108
    except FileNotFoundError:
        return


def _listen(name: str) -> socket.socket:
    """A listening socket in the working directory: DIR may be longer than a socket's path may be."""
    _unlink(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    mask = os.umask(0o177)
    try:
        listener.bind(name)
    finally:
        os.umask(mask)
    listener.listen(128)
    return listener


def _lock() -> int | None:
    """The pid file, locked; None while another process holds it."""
    while True:
        file = os.open(PID, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(PID)):  # noqa: PTH116
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        os.close(file)  # a switch that ended just now had unlinked it


def _detach() -> None:
    """A session of its own, and nothing left of the starter's terminal or pipes."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def main(argv: list[str]) -> int:
    """Start the switch. Returns the starter's status, once the switch listens or cannot."""
    mark, _, lab = argv[0].partition(":") if argv else ("", "", "")
    if mark != "nestlab-switch" or not lab or len(argv) < 2:
        sys.stderr.write("usage: python -m nestlab.network.switch nestlab-switch:LAB DIR [SEGMENT ...]\n")
        return 2
    directory = os.path.abspath(argv[1])  # noqa: PTH100
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103
        os.chdir(directory)
        lock = _lock()
        if lock is None:
            sys.stderr.write(f"a switch already serves {directory}\n")
            return ALREADY
        switch = Switch(lab, directory)
        for name in argv[2:]:
            switch.add({"segment": name})
        listener = _listen(CONTROL)
        child = os.fork()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if child:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{child}\n".encode(), 0)
        return 0
    signal.signal(signal.SIGTERM, _terminated)
    _detach()
    try:
        switch.serve(listener)
    finally:
        switch.quit({})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
