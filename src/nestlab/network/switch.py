"""The network between machines: a learning layer-2 switch, one small process per lab for all its segments.

    python -m nestlab.network.switch nestlab-switch:LAB DIR [SEGMENT ...]

It returns with status 0 as soon as the switch listens; the switch itself goes on in the background, in a session of
its own, until it is told to quit, gets SIGTERM, or DIR is gone. Status 3: a switch already serves DIR.

On `DIR/<segment>.sock` (see `socket_name`) it takes streams of frames, each 4 bytes of length (big-endian) and an
Ethernet frame, and answers likewise: QEMU's `-netdev stream`. A port that cannot keep up loses whole frames, counted,
and holds up nobody else. A segment passes tags (IEEE 802.1Q) on as it does everything, until it is told that it has
VLANs: then a port is what the socket says that it came by, `<segment>.20.sock` or `<segment>.trunk.sock`, and one that
came by the segment's own gets the frames without a tag.

On `DIR/switch.sock` it takes JSON objects, one per line, such as `{"do": "add", "segment": "wire"}`, and answers each
with one line; see `Switch.commands`. `DIR/switch.pid` holds the process's number and is locked (flock) for as long as
the process lives.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from nestlab.network import daemon
from nestlab.network.switch_ports import Channel, Loop
from nestlab.network.switch_segment import AGE, Segment, listen, socket_name, unlink

__all__ = ["ALREADY", "CONTROL", "LOG", "PID", "Switch", "main", "socket_name"]

PROTOCOL = 1
CHECK = 2.0
"""Seconds between looks at the directory."""

CONTROL, PID, LOG = "switch.sock", "switch.pid", "switch.log"
ALREADY = 3


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
            "vlans": self.vlans,
            "impair": self.impair,
            "quit": self.quit,
        }

    def serve(self, listener: socket.socket) -> None:
        """Answer on `listener`, and pass frames on, until told to quit."""
        self.loop.watch(listener.fileno(), lambda _events: self.greet(listener))
        checked = aged = time.monotonic()
        while self.running:
            bad = [each.impaired for each in self.segments.values() if each.impaired is not None]
            self.loop.turn(min([CHECK, *(each.due() for each in bad)]))
            for each in bad:
                each.release()
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
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
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

    def vlans(self, request: dict[str, Any]) -> dict[str, Any]:
        """Tell a segment that it has VLANs: `vlans` are their numbers. Those that it has already stay."""
        numbers = request["vlans"]
        if not isinstance(numbers, list) or not all(type(each) is int and 1 < each < 4095 for each in numbers):
            raise ValueError(f"{numbers!r} are no VLANs")
        self.segments[_checked(request["segment"])].tag(numbers)
        return {}

    def impair(self, request: dict[str, Any]) -> dict[str, Any]:
        """Impair the frames of a segment: `rules` are by MAC address of a machine's card, or "" for the whole segment,
        each [delay, jitter, loss, rate]; none: no longer."""
        self.segments[_checked(request["segment"])].impair(request["rules"])
        return {}

    def quit(self, _request: dict[str, Any]) -> dict[str, Any]:
        """End the process once the answer is on its way. The pid file goes last: without it another may start."""
        if self.running:
            self.running = False
            own = (socket_name(each.name, word) for each in self.segments.values() for word in each.listeners)
            for name in (*own, CONTROL, PID):
                unlink(name)
        return {}


def _checked(name: object) -> str:
    if not isinstance(name, str) or len(name) > 63 or name.endswith("-"):
        raise ValueError(f"{name!r} is not the name of a segment")
    if name.isascii() and name.replace("-", "").isalnum():
        return name
    raise ValueError(f"{name!r} is not the name of a segment")


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
        lock = daemon.lock(PID)
        if lock is None:
            sys.stderr.write(f"a switch already serves {directory}\n")
            return ALREADY
        switch = Switch(lab, directory)
        for name in argv[2:]:
            switch.add({"segment": name})
        listener = listen(CONTROL)
        if not daemon.fork(lock):
            return 0
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    signal.signal(signal.SIGTERM, _terminated)
    daemon.detach(LOG)
    try:
        switch.serve(listener)
    finally:
        switch.quit({})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
