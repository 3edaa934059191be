"""The process that serves DHCP, TFTP and HTTP on a segment, to machines that boot from the network.

    python -m nestlab.network.netboot nestlab-netboot:LAB DIR SEGMENT

It returns with status 0 as soon as it is connected to the segment's switch in DIR; it goes on in the background until
the switch takes the segment away, or it gets SIGTERM. Status 3: another one serves that segment. It is a port of the
switch like a machine's card, has no socket of this computer's networks, and reads no files but those that
`SEGMENT.netboot.json` names, which it reads again when that changes. What it was asked for, and by whom, is in
`SEGMENT.netboot.log`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass

from nestlab.network import daemon
from nestlab.network.netboot_offer import Offer, from_json
from nestlab.network.netboot_responder import Opened, Responder
from nestlab.network.switch import ALREADY, socket_name
from nestlab.network.switch_ports import LIMIT, say

CHECK, SOON = 2.0, 0.2
"""Seconds between looks at what is offered, and between those at what is late."""

_LENGTH = struct.Struct(">I")


def offer_name(segment: str) -> str:
    """The file that says what is offered."""
    return f"{segment}.netboot.json"


def pid_name(segment: str) -> str:
    return f"{segment}.netboot.pid"


def log_name(segment: str) -> str:
    return f"{segment}.netboot.log"


@dataclass
class FileOpened:
    """A file of this computer."""

    descriptor: int
    size: int

    def read(self, at: int, count: int) -> bytes:
        return os.pread(self.descriptor, count, at)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass
class TextOpened:
    """A file that nestlab wrote itself."""

    text: bytes
    size: int

    def read(self, at: int, count: int) -> bytes:
        return self.text[at : at + count]

    def close(self) -> None:
        pass


class Served:
    """The files of an offer. Names are those of the offer, or paths below its folder that lead nowhere else."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer

    def open(self, name: str) -> Opened | None:
        name = name.lstrip("/")
        text = self.offer.texts.get(name)
        if text is not None:
            data = text.encode()
            return TextOpened(data, len(data))
        path = self.offer.files.get(name) or self.below(name)
        return opened(path) if path is not None else None

    def below(self, name: str) -> str | None:
        """The path of a file in the folder, where links lead within it."""
        folder = self.offer.folder
        if folder is None or not name or "\0" in name or len(name) > 1024:
            return None
        if any(part.startswith(".") for part in name.split("/")):
            return None  # what is hidden, and ways up
        root = os.path.realpath(folder)
        path = os.path.realpath(os.path.join(root, name))  # noqa: PTH118 (pathlib takes a megabyte)
        return path if path.startswith(root.rstrip("/") + "/") else None


def opened(path: str) -> FileOpened | None:
    """A regular file; None where there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return None
    return FileOpened(descriptor, about.st_size)


class Server:
    """Passes frames between the switch and a `Responder`. File names are relative to the working directory, DIR."""

    def __init__(self, segment: str, sock: socket.socket) -> None:
        self.segment = segment
        self.sock = sock
        self.read_at: tuple[int, int] = (0, 0)
        self.tail = b""
        offer = self.read()
        assert offer is not None
        self.responder = Responder(offer, Served(offer), lambda: int.from_bytes(os.urandom(4)), say)

    def read(self) -> Offer | None:
        """What is offered, if that changed. OSError, ValueError and the like where it cannot be read."""
        about = os.stat(offer_name(self.segment))  # noqa: PTH116
        if (about.st_ino, about.st_mtime_ns) == self.read_at:
            return None
        self.read_at = (about.st_ino, about.st_mtime_ns)
        with open(offer_name(self.segment), encoding="utf-8") as file:  # noqa: PTH123
            return from_json(file.read())

    def look(self) -> bool:
        """Take over what is offered now. False where the directory is gone."""
        try:
            offer = self.read()
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"{offer_name(self.segment)} cannot be read, and what was offered stays: {error!r}")
            return True
        if offer is not None:
            say("what is offered has changed")
            self.responder.offer = offer
            self.responder.files = Served(offer)
        return True

    def serve(self) -> None:
        """Answer until the switch ends the connection."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        looked = time.monotonic()
        while True:
            ready = poll.poll((SOON if self.responder.busy else CHECK) * 1000)
            now = time.monotonic()
            if now - looked >= CHECK / 2:
                looked = now
                if not self.look():
                    return
            if ready and not self.take(now):
                return
            if self.responder.busy:
                self.send(self.responder.late(now))

    def take(self, now: float) -> bool:
        """Answer what has come. False at the end of the stream."""
        data = self.sock.recv(1 << 17)
        if not data:
            return False
        data = self.tail + data
        at = 0
        while len(data) - at >= 4:
            size = _LENGTH.unpack_from(data, at)[0]
            if size > LIMIT:
                return False
            if len(data) - at - 4 < size:
                break
            self.send(self.responder.take(data[at + 4 : at + 4 + size], now))
            at += 4 + size
        self.tail = data[at:]
        return True

    def send(self, frames: list[bytes]) -> None:
        if frames:
            self.sock.sendall(b"".join(_LENGTH.pack(len(frame)) + frame for frame in frames))


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def _unlink(name: str) -> None:
    try:
        os.unlink(name)  # noqa: PTH108
    except FileNotFoundError:
        return


def main(argv: list[str]) -> int:
    """Start it. Returns the starter's status, once it is connected or cannot be."""
    mark, _, lab = argv[0].partition(":") if argv else ("", "", "")
    if mark != "nestlab-netboot" or not lab or len(argv) != 3:
        sys.stderr.write("usage: python -m nestlab.network.netboot nestlab-netboot:LAB DIR SEGMENT\n")
        return 2
    segment = argv[2]
    try:
        os.chdir(argv[1])
        lock = daemon.lock(pid_name(segment))
        if lock is None:
            sys.stderr.write(f"segment {segment} is served already\n")
            return ALREADY
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(socket_name(segment))
        server = Server(segment, sock)
        if not daemon.fork(lock):
            return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    signal.signal(signal.SIGTERM, _terminated)
    daemon.detach(log_name(segment))
    say(f"serving segment {segment} from {server.responder.offer.address}")
    try:
        server.serve()
    except OSError as error:
        say(f"the switch is gone: {error}")
    finally:
        server.responder.close()
        _unlink(pid_name(segment))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
