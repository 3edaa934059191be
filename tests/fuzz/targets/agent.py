"""What answers on the sockets of a QEMU: a guest's agent, and the monitor, which root in a hypervisor may fake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

from fuzz import clock, mutate
from fuzz.target import shown
from nestlab.base.printable import printable
from nestlab.engines.port_rules import Rule
from nestlab.engines.qemu import attached_disk, records
from nestlab.engines.qemu.live_sizes import LiveSizes
from nestlab.engines.qemu.usernet import Usernet
from nestlab.home.paths import Place
from nestlab.hosts.host import Host, Result
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import GIB, MIB, Machine
from nestlab.plan.room import Room
from nestlab.wire import qga, qmp

ID = '"@ID@"'
"""In a piece: the id of the message that it answers."""

SYNC = {"return": ID.strip('"')}
GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 3}, "package": ""}, "capabilities": ["oob"]}}
EXEC = {"return": {"pid": 77}}
RUNNING = {"return": {"exited": False}}
EXITED = {"return": {"exited": True, "exitcode": 0, "out-data": "aGVsbG8K", "err-data": "b29wcw=="}}
KILLED = {"return": {"exited": True, "signal": 9}}
REFUSED = {"error": {"class": "GenericError", "desc": "Guest agent command failed"}}
BLOCK = {
    "return": [
        {"device": "d0", "inserted": {"image": {"virtual-size": 5, "filename": "x"}, "node-name": "n"}},
        {"device": "d1"},
    ]
}
STATUS = {"return": {"status": "running", "running": True, "singlestep": False}}
KVM = {"return": {"enabled": True, "present": True}}
EVENT = {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}
DONE: dict[str, Any] = {"return": {}}
PCI = {"return": [{"bus": 0, "devices": [{"qdev_id": "x", "slot": 1}, {"qdev_id": ""}]}]}
NODES = {"return": [{"node-name": "d0", "drv": "qcow2"}]}
CPUS = {"return": [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]"}]}
NO, YES = {"return": False}, {"return": True}
PLACES = [{"socket-id": at, "core-id": 0, "thread-id": 0} for at in range(3)]
SLOTS = {
    "return": [
        {"type": "host-x86_64-cpu", "vcpus-count": 1, "props": place, **({"qom-path": "/cpu"} if not at else {})}
        for at, place in enumerate(PLACES)
    ]
}
DEVICE = {"id": "more-memory", "size": 1 << 28, "requested-size": 1 << 28, "memdev": "/objects/more"}
MORE = {"return": [{"type": "virtio-mem", "data": DEVICE}]}
NONE: dict[str, Any] = {"return": []}
OBJECTS = {"return": [{"name": "more", "type": "child<memory-backend-ram>"}]}
FORWARDS = "Hub -1 (mgmt):\n  Protocol[State]\n  TCP[HOST_FORWARD] 12 127.0.0.1 20022 10.0.2.15 22 0 0\n"
USERNET = {"return": FORWARDS}
ADDED = {"return": FORWARDS + "  TCP[HOST_FORWARD] 13 127.0.0.1 8080 10.0.2.15 80 0 0\n"}
SAID = {"return": ""}

QUIET = 0.1
"""Seconds after which who says nothing is taken to wait for an answer, and hung up on."""

TALKS: dict[str, list[list[Any]]] = {
    "run": [[], [SYNC], [EXEC], [RUNNING], [RUNNING], [EXITED]],
    "look": [[], [SYNC], [EXEC], [EXITED], [KILLED]],
    "ask": [[GREETING], [DONE], [STATUS], [KVM], [BLOCK]],
    "talk": [[GREETING], [DONE], [STATUS], [EVENT, KVM], [BLOCK], [DONE], [DONE]],
    "plug": [[GREETING], [DONE], [NODES], [DONE], [PCI], [DONE], [DONE], [DONE]],
    "show": [[GREETING], [DONE], [CPUS], [NO], [YES]],
    "size": [
        [GREETING],
        [DONE],
        [SLOTS],
        [DONE],
        [NONE],
        [PCI],
        [NONE],
        [DONE],
        [DONE],
        [MORE],
        [CPUS],
        [MORE],
        [SLOTS],
    ],
    "ports": [[GREETING], [DONE], [USERNET], [SAID], [ADDED], [SAID], [USERNET]],
}
ALL: tuple[dict[str, Any], ...] = (
    SYNC,
    GREETING,
    EXEC,
    RUNNING,
    EXITED,
    KILLED,
    REFUSED,
    BLOCK,
    STATUS,
    KVM,
    EVENT,
    DONE,
    PCI,
    NODES,
    CPUS,
    YES,
)
ALL += (SLOTS, MORE, NONE, OBJECTS, USERNET, SAID)

TALKED = ("talk", "plug", "show", "size", "ports")
"""What is asked in a conversation by qemu.qmp."""

ROOM = Room(512 * MIB, 4 * GIB, 1, 8)
PATHS = Place("/labs/x").of("hv1/web")


class Fuzzed:
    """See `fuzz.target.Target`. A case is JSON: what is asked, and the pieces that are answered: the first when
    somebody connects, the others each to a message."""

    def __init__(self) -> None:
        self._loop = clock.Runner()

    def close(self) -> None:
        self._loop.close()

    # -- making

    def make(self, rng: Random) -> bytes:
        asked = rng.choice(list(TALKS))
        pieces = [[dict(each) for each in piece] for piece in TALKS[asked]]
        for at in rng.sample(range(len(pieces)), rng.choice((0, 1, 1, 2))):
            deed = rng.randrange(5)
            if deed == 0:
                pieces[at].insert(rng.randrange(len(pieces[at]) + 1), dict(rng.choice(ALL)))
            elif deed == 1:
                pieces[at] = [dict(rng.choice(ALL))]
            elif deed == 2 and rng.random() < 0.3:
                del pieces[at:]
                break
            else:
                pieces[at] = [mutate.tree(rng, each, ("return", "error", "id", "class", "desc")) for each in pieces[at]]
        texts = ["".join(self._line(rng, asked, each) for each in piece) for piece in pieces]
        for at in rng.sample(range(len(texts)), min(len(texts), rng.choice((0, 0, 0, 1)))):
            data = texts[at].encode("latin-1", "replace")
            texts[at] = mutate.octets(rng, data, (b"\xff", b"\n")).decode("latin-1")
        return json.dumps({"ask": asked, "says": texts}).encode()

    def _line(self, rng: Random, asked: str, message: Any) -> str:
        if asked in TALKED and isinstance(message, dict) and "QMP" not in message and "event" not in message:
            message = {**message, "id": ID.strip('"')}
        start = "\xff" if message == SYNC else ""
        return f"{start}{mutate.json_text(rng, message)}\n".encode("latin-1", "replace").decode("latin-1")

    # -- running

    def run(self, case: bytes, place: Path) -> str:
        try:
            given = json.loads(case)
            asked, says = given["ask"], [str(each).encode("latin-1", "replace") for each in given["says"]]
        except (ValueError, KeyError, TypeError):
            return "nothing asked"
        if asked not in TALKS:
            return "nothing asked"
        path = str(place / "s")
        if asked in TALKED:
            self._loop.run(_talk(path, says, asked))
            return str(asked)
        with _serving(path, says):
            if asked == "run":
                with qga.Agent(path, timeout=30, where="hv1") as agent:
                    result = agent.run(("ls", "-l"), input=b"x")
                    shown(printable(result.text))
                    agent.shutdown()
            elif asked == "look":
                assert isinstance(qga.look(path, ("ls",), timeout=30, where="hv1").status, int)
            else:
                status, kvm, blocks = qmp.ask(
                    path, ("query-status", "query-kvm", "query-block"), timeout=30, where="hv1"
                )
                assert isinstance(status["status"], str)
                assert isinstance(kvm["enabled"], bool)
                assert all(isinstance(each["device"], str) for each in blocks)
        return str(asked)


async def _talk(path: str, says: list[bytes], asked: str) -> None:
    """A conversation by qemu.qmp, as the engine has it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.LimitOverrunError, ValueError):
            for number, piece in enumerate(says):
                line = await reader.read(1 << 16) if number else b""  # (qemu.qmp ends no line)
                if number and not line:
                    break
                writer.write(_answering(piece, line))
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        if asked == "plug":
            way = attached_disk.attached(
                lambda: qmp.connect(path, timeout=30, where="hv1"), "/disk", "serial", writable=True
            )
            async with way:
                pass
            return
        async with qmp.connect(path, timeout=30, where="hv1") as monitor:
            if asked == "show":
                assert await monitor.virtualization() in ("", "vmx", "svm")
                return
            if asked == "size":
                await _size(monitor)
                return
            if asked == "ports":
                rules = Usernet(monitor, "hv1/web")
                rule = await rules.add(Rule("127.0.0.1", 0, "10.0.2.15", 80))
                assert rule.port == 80
                await rules.remove(rule)
                return
            assert isinstance(await monitor.status(), str)
            assert isinstance(await monitor.kvm(), bool)
            await monitor.grow("d0", 10)
            await monitor.powerdown()
            await monitor.quit()
    finally:
        server.close()


async def _size(monitor: qmp.Monitor) -> None:
    """The machine gets other memory and CPUs; its hypervisor's files and itself are honest."""

    class There:
        slowness, path = 1.0, "hv1"
        boot = records.with_room("{}", ROOM)

        async def read(self, _: str) -> bytes:
            return self.boot

        async def write(self, _: str, data: bytes) -> None:
            self.boot = data

        async def run(self, *_: Any, **__: Any) -> Result:
            return Result(("sh",), 0, b"2\n", b"")

    @contextlib.asynccontextmanager
    async def talk() -> AsyncIterator[qmp.Monitor]:
        yield monitor

    async def guest() -> Host:
        return there

    there = cast("Host", There())
    spec = Spec("hv1/web", Machine("web", memory=768 * MIB, cpus=2), (), "10.100.1.0/24", "k", (), "new")
    await LiveSizes(there, "hv1/web", PATHS, talk, guest).settle(spec, lambda text: shown(printable(text)))


def _answering(piece: bytes, line: bytes) -> bytes:
    found = re.findall(rb'"id": ?("[^"]*"|\d+)', line)  # the last is its own: devices have some, too
    if not found:  # what has none is answered without
        piece = re.sub(rb', "id": "@ID@"', b"", piece)
    return piece.replace(ID.encode(), found[-1] if found else b"0")


@contextlib.contextmanager
def _serving(path: str, says: list[bytes]) -> Iterator[None]:
    """The same in a thread, for who waits for each answer."""

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.settimeout(QUIET)
            rest = b""
            for number, piece in enumerate(says):
                while number and b"\n" not in rest:
                    if not (data := connection.recv(1 << 16)):
                        return
                    rest += data
                line, _, rest = rest.partition(b"\n") if number else (b"", b"", rest)
                connection.sendall(_answering(piece, line))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
    thread.join(10)
