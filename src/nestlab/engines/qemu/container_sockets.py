"""The sockets of what runs a container (`container_runner`), which are those of a QEMU: its monitor, its console, and
ports that lead inside. Python's standard library alone: it is sent to hypervisors.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LONGEST = 1 << 20
"""Bytes of a QMP command."""

CLIENTS = 64
"""Connections to a socket that wait to be taken."""


class Failed(Exception):
    """The container cannot be started."""


def run(*argv: str, cwd: str = "/", stdin: Any = subprocess.DEVNULL) -> None:
    """Run a program. Failed with what it said."""
    done = subprocess.run(argv, cwd=cwd, stdin=stdin, capture_output=True, check=False)
    if done.returncode:
        raise Failed(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()[-400:]}")


def veth(number: int) -> str:
    """The hypervisor's end of a card of the machine whose directory this process works in."""
    return f"v{os.path.basename(os.getcwd())}n{number}"


def in_thread(work: Callable[..., None], *words: Any) -> None:
    threading.Thread(target=work, args=words, daemon=True).start()


def listener(path: str) -> socket.socket:
    """A socket in the working directory: the whole path may be longer than a socket's may be."""
    found = socket.socket(socket.AF_UNIX)
    found.bind(path)
    os.chmod(path, 0o600)
    found.listen(CLIENTS)
    return found


def passing(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from one until it says no more."""
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Forwards:
    """Ports of this host that lead to one inside, as a QEMU's user network has them."""

    def __init__(self, container: Callable[[int], socket.socket]) -> None:
        self._connect = container
        self._listening: dict[tuple[str, int], tuple[socket.socket, str, int]] = {}

    def add(self, bind: str, local: int, address: str, port: int) -> None:
        """OSError where that port is taken."""
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((bind, local))
            door.listen(CLIENTS)
        except OSError:
            door.close()
            raise
        self._listening[bind, door.getsockname()[1]] = door, address, port
        in_thread(self._accepting, door, port)

    def remove(self, bind: str, local: int) -> bool:
        found = self._listening.pop((bind, local), None)
        if found is not None:
            found[0].shutdown(socket.SHUT_RDWR)
            found[0].close()
        return found is not None

    def told(self) -> str:
        """As `info usernet` prints them (libslirp, misc.c: slirp_connection_info)."""
        lines = ["Hub -1 (mgmt):", "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ"]
        for (bind, local), (door, address, port) in sorted(self._listening.items()):
            lines.append(
                f"  TCP[HOST_FORWARD] {door.fileno():3d} {bind:>15s} {local:5d} {address:>15s} {port:5d}     0     0"
            )
        return "\r\n".join([*lines, ""])

    def _accepting(self, door: socket.socket, port: int) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            in_thread(self._serve, client, port)

    def _serve(self, client: socket.socket, port: int) -> None:
        with client:
            try:
                inside = self._connect(port)
            except (OSError, LookupError, TypeError):  # it is not there yet, or no more
                return
            with inside:
                back = threading.Thread(target=passing, args=(inside, client), daemon=True)
                back.start()
                passing(client, inside)
                back.join()


class Console:
    """What the container prints goes to console.log, and to who is connected to the socket: one at a time."""

    def __init__(self, door: socket.socket, master: int) -> None:
        self._door, self._master = door, master
        self._client: socket.socket | None = None
        self._log = os.open("console.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        in_thread(self._accept)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 14)
            except OSError:  # the last who had its other end is gone
                return
            os.write(self._log, data)
            client = self._client
            if client is not None:
                try:
                    client.sendall(data)
                except OSError:
                    self._client = None

    def _accept(self) -> None:
        while True:
            client, _ = self._door.accept()
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
                self._client = client
                try:
                    while data := client.recv(1 << 12):
                        while data:
                            data = data[os.write(self._master, data) :]
                except OSError:
                    pass
                self._client = None

    def over(self, last: str = "") -> None:
        """It has ended: what it said is all there, and `last` after it."""
        self._reader.join(2)
        os.write(self._log, last.encode())


_VERSION = {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": "lxc"}
GREETING: Mapping[str, Any] = {"QMP": {"version": _VERSION, "capabilities": []}}


def messages(more: Callable[[], bytes]) -> Iterator[Any]:
    """The JSON values in what comes, until nothing more does, or what comes is none: a client of QMP need not end its
    lines. A value that is never complete ends it as well."""
    decoder, text = json.JSONDecoder(), b""
    while data := more():
        text += data
        while text := text.lstrip():
            try:
                value, end = decoder.raw_decode(text.decode("latin-1"))
            except (ValueError, RecursionError):
                if len(text) > LONGEST or text[:1] not in b"{[":
                    return
                break
            text = text[end:]
            yield value


def _tell(client: socket.socket, told: Mapping[str, Any]) -> None:
    client.sendall(json.dumps(told).encode() + b"\r\n")


class Refused(Exception):
    """A QMP command that is not done."""

    def __init__(self, what: str, kind: str = "GenericError") -> None:
        super().__init__(what)
        self.kind = kind


class Monitor:
    """QMP, as far as nestlab asks it of what runs a container (qapi/*.json: the answers have the same shapes)."""

    def __init__(self, container: Any, forwards: Forwards) -> None:
        self._container, self._forwards = container, forwards
        self._commands: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "qmp_capabilities": lambda _: {},
            "query-status": self._status,
            "query-kvm": lambda _: {"enabled": False, "present": False},
            "query-block": lambda _: [],
            "system_powerdown": lambda _: container.power_button() or {},
            "quit": lambda _: container.kill() or {},
            "stop": lambda _: container.freeze(yes=True) or {},
            "cont": lambda _: container.freeze(yes=False) or {},
            "set_link": self._set_link,
            "nestlab-resize": lambda words: container.resize(int(words["memory"]), int(words["cpus"])) or {},
            "human-monitor-command": self._human,
        }

    def answer(self, asked: Any) -> dict[str, Any]:
        """To one command."""
        try:
            name, words = asked["execute"], asked.get("arguments") or {}
            if name not in self._commands:
                raise Refused(f"The command {name} has not been found", "CommandNotFound")
            told: dict[str, Any] = {"return": self._commands[name](words)}
        except Refused as error:
            told = {"error": {"class": error.kind, "desc": str(error)}}
        except (ValueError, TypeError, LookupError, AttributeError, OSError, Failed) as error:
            told = {"error": {"class": "GenericError", "desc": f"{type(error).__name__}: {error}"}}
        return told | ({"id": asked["id"]} if isinstance(asked, dict) and "id" in asked else {})

    def serve(self, door: socket.socket) -> None:
        while True:
            client, _ = door.accept()
            in_thread(self._talk, client)

    def _talk(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            _tell(client, GREETING)
            for asked in messages(lambda: client.recv(1 << 12)):
                _tell(client, self.answer(asked))

    def _status(self, _: Mapping[str, Any]) -> Any:
        paused = self._container.paused
        return {"status": "paused" if paused else "running", "running": not paused, "singlestep": False}

    def _set_link(self, words: Mapping[str, Any]) -> Any:
        number = str(words["name"]).removeprefix("n")
        if not number.isdecimal():
            raise Refused(f"Device '{words['name']}' not found", "DeviceNotFound")
        run("ip", "link", "set", "dev", veth(int(number)), "up" if words["up"] else "down")
        return {}

    def _human(self, words: Mapping[str, Any]) -> str:
        match str(words["command-line"]).split():
            case ["info", "usernet"]:
                return self._forwards.told()
            case ["hostfwd_add", "mgmt", rule]:
                near, far = rule.removeprefix("tcp:").split("-")
                (bind, local), (address, port) = near.split(":"), far.split(":")
                try:
                    self._forwards.add(bind, int(local), address, int(port))
                except OSError:
                    return f"Could not set up host forwarding rule '{rule}'\r\n"
                return ""
            case ["hostfwd_remove", "mgmt", rule]:
                bind, local = rule.removeprefix("tcp:").split(":")
                done = "removed" if self._forwards.remove(bind, int(local)) else "not found"
                return f"host forwarding rule for {rule} {done}\r\n"
        raise Refused("It is not known here", "CommandNotFound")
