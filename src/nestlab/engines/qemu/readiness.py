"""Whether a machine that nestlab does not log in to is up, by what its QEMU and its console show at any level."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu.records import started
from nestlab.home.paths import MachinePaths
from nestlab.hosts.host import Host
from nestlab.lab.console_pattern import compiled
from nestlab.lab.readiness import Ready
from nestlab.wire.own_thread import own_thread

if TYPE_CHECKING:
    from nestlab.explain.stillness import Stillness

KNOCK = 2.0
"""Nominal seconds in which a guest answers what it is asked: its agent, or a TCP connection's first packet."""

AGAIN = 1.0
"""Seconds between two questions."""

PAUSE = 0.05
"""Seconds until QEMU is asked again how a connection stands."""

LINE = 4096
"""Bytes of a console's line that are searched; the rest counts as the next line."""

PART = 1 << 18
"""Bytes of a console that are read at one time."""

PARTS = 128
"""Parts that are read for one look: twice of what a console has where it is cut. Root of a hypervisor decides what
comes."""

READ = f"""
cd "$1" && n=$2 || exit
s=$(stat -c %s console.log) || exit
[ "$n" -le "$s" ] || n=0
echo "$n"
tail -c "+$((n + 1))" console.log | head -c {PART}
"""
"""Arguments: a machine's directory, and how much of its console is known. Prints from where on it prints (0 where the
console was cut meanwhile), then what is there."""

NOTED = '[ ! -e "$1" ] || echo up; cat "$2"'
"""Arguments: where it is noted that a machine came up, and what it was started with. Prints `up` if it did, and that.
"""

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-9;?!=]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][A-Z0-9]|[=>])|[\x00-\x08\x0b-\x1f\x7f]"
)

FORWARD, SSH = "HOST_FORWARD", ":22"
"""Every machine has a forward to its sshd from its start on (`argv`), whether it has one or not: it tells the address
that a machine is given."""

TAKEN = frozenset({"ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2"})
"""The states of a connection that its guest has taken, and perhaps ended already."""

Connected = tuple[str, str, str]
"""State, source and destination of a connection, each with its port."""

_CONNECTION = re.compile(r"^ *TCP\[([A-Z_0-9]+)\] +-?\d+ +(\S+) +(\d+) +(\S+) +(\d+) ", re.MULTILINE)


@dataclass
class Search:
    """Of a console for a pattern, as it comes."""

    pattern: str
    _rest: bytes = b""

    def feed(self, data: bytes) -> bool:
        """Whether a line that this completes has the pattern."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) >= LINE:
            lines.append(rest[:LINE])
            rest = rest[LINE:]
        self._rest = rest
        return any(map(self._has, set(lines)))

    def stands(self) -> bool:
        """Whether the line that is not complete has it: a prompt waits for somebody at its end."""
        return bool(self._rest) and self._has(self._rest)

    def _has(self, line: bytes) -> bool:
        found = compiled(self.pattern)
        clean = _ESCAPES.sub(b"", line)
        parts = (clean[at : at + LINE] for at in range(0, max(1, len(clean)), LINE))
        return any(found.search(part.decode(errors="replace")) for part in parts)


@dataclass
class Knocking:
    """At one machine. `paths`: of its directory on `host`."""

    host: Host
    paths: MachinePaths
    path: str
    ready: Ready
    slowness: float = 1.0
    """Of the machine."""
    _at: int = 0
    _search: Search = field(init=False)
    _screen: Stillness | None = None

    def __post_init__(self) -> None:
        self._search = Search(self.ready.pattern or "")

    async def up(self) -> bool:
        """Whether it is up, by now. Of `ssh` nothing is known here: False."""
        try:
            match self.ready.by:
                case "agent":
                    return await self._asked(self.paths.agent, agent_answers)
                case "port":
                    return await self._asked(self.paths.qmp, partial(port_open, port=self.ready.port or 0))
                case "console":
                    return await self._shown()
                case "screen":
                    return await self._looked()
                case "none":
                    return await self._asked(self.paths.qmp, qemu_runs)
        except (LabError, OSError):
            pass
        return False

    async def _asked(self, socket: str, ask: Callable[..., bool]) -> bool:
        limit = patience.allowed(KNOCK, self.host.slowness)
        async with self.host.unix(socket) as here:
            return await own_thread(lambda: ask(here, timeout=limit, where=self.path))

    async def _shown(self) -> bool:
        """All that its console shows by now is searched."""
        for _ in range(PARTS):
            before = self._at
            argv = ("sh", "-c", READ, "read", self.paths.root, str(self._at))
            said = await self.host.run(argv, check=False, timeout=60)
            head, _, data = said.stdout[: PART + LINE].partition(b"\n")
            if said.status or not re.fullmatch(rb"[0-9]{1,15}", head):
                return False
            if int(head) != self._at:
                self._search = Search(self._search.pattern)
            self._at = int(head) + len(data)
            if self._search.feed(data):
                return True
            if len(data) < PART:  # that is all
                return self._at == before and self._search.stands()
        return False

    async def _looked(self) -> bool:
        """Whether its screen stood still for its time, with this look."""
        from nestlab.engines.qemu import screen
        from nestlab.explain.stillness import Stillness

        picture = await screen.now(self.host, self.paths, self.path)
        self._screen = self._screen or Stillness(patience.allowed(self.ready.still or 0, self.slowness))
        return picture is not None and self._screen.look(picture, time.monotonic())

    async def until_up(self) -> None:
        """Returns when it is up: it is asked again and again."""
        while True:
            if await self.up():
                return
            await asyncio.sleep(self._screen.pause if self._screen else AGAIN)

    async def stays(self) -> bool:
        """Whether its screen stands still from now on, for its time. It is looked at for little longer than that, and
        only until it changes."""
        began = time.monotonic()
        while not await self.up():
            screen = self._screen
            if screen is None or screen.changes != 1 or time.monotonic() > began + screen.seconds + 2 * screen.pause:
                return False
            await asyncio.sleep(screen.pause)
        return True


async def is_up(knocking: Knocking) -> bool:
    """Whether it is up now; of a console or a screen, whether it has been since the machine's start."""
    if knocking.ready.by not in ("console", "screen"):
        return await knocking.up()
    paths = knocking.paths
    noted = await knocking.host.run(("sh", "-c", NOTED, "noted", paths.answered, paths.boot), check=False, timeout=60)
    boot = started(noted.text.removeprefix("up\n"))
    same = boot.ready == knocking.ready  # else that it came up says something else
    if same and noted.text.startswith("up\n"):
        return True
    if knocking.ready.by == "console":
        return await knocking.up() or await knocking.up()  # at last by the line that stands there
    knocking.slowness = patience.inside(knocking.host.slowness, boot.accel or "")
    stands = await knocking.stays()
    if stands and same:
        await knocking.host.write(paths.answered, b"")
    return stands


def is_up_here(paths: MachinePaths, ready: Ready, limit: float) -> bool:
    """Whether a machine on this host is up, for `nestlab status`: each thing that is asked has `limit` seconds."""
    try:
        match ready.by:
            case "agent":
                return agent_answers(paths.agent, timeout=limit, where=paths.root)
            case "port":
                return port_open(paths.qmp, port=ready.port or 0, timeout=limit, where=paths.root)
            case "console":
                with Path(paths.log).open("rb") as console:
                    search = Search(ready.pattern or "")
                    parts = itertools.islice(iter(lambda: console.read(PART), b""), PARTS)  # it grows meanwhile
                    return any(map(search.feed, parts)) or search.stands()
    except (LabError, OSError):
        pass
    return False


async def came_up(knocking: Knocking) -> bool:
    """Whether a machine of which that is not known came up. That it did is noted."""
    try:
        if knocking.ready.by == "screen":  # one look does not tell
            return False
        if not (await knocking.up() or (knocking.ready.by == "console" and await knocking.up())):
            return False
        await knocking.host.write(knocking.paths.answered, b"")
    except (LabError, OSError):
        return False
    return True


def agent_answers(socket: str, *, timeout: float, where: str) -> bool:
    """Whether a guest agent answers. Unreachable if none does."""
    from nestlab.wire.qga import Agent

    with Agent(socket, timeout=timeout, where=where):
        return True


def qemu_runs(socket: str, *, timeout: float, where: str) -> bool:
    """Whether a QEMU answers, and runs its guest."""
    from nestlab.wire import qmp

    [answer] = qmp.ask(socket, ("query-status",), timeout=timeout, where=where)
    return isinstance(answer, dict) and answer.get("status") == "running"


def port_open(socket: str, *, port: int, timeout: float, where: str) -> bool:
    """Whether a guest takes a TCP connection on a port of its first card. Its QEMU, whose monitor `socket` is, makes
    the connection to its own user network, and tells whether the guest has taken it: QEMU itself takes every one.
    What it needs for that is gone afterwards."""
    from nestlab.wire import qmp

    def ask(*commands: str | dict[str, Any]) -> list[Any]:
        return qmp.ask(socket, commands, timeout=timeout, where=where)

    def forwards() -> dict[str, str]:
        return {source: to for state, source, to in connections(ask(_hmp("info usernet"))[0]) if state == FORWARD}

    before = forwards()
    own = next((to.removesuffix(SSH) for to in before.values() if to.endswith(SSH)), None)
    if own is None:
        return False
    guest = f"{own}:{port}"
    ask(_hmp(f"hostfwd_add mgmt tcp:127.0.0.1:0-{guest}"))
    mine = next((source for source, to in forwards().items() if to == guest and source not in before), None)
    if mine is None:
        return False
    name = f"knock{os.urandom(4).hex()}"
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": mine.rpartition(":")[2]}}
    backend = {"type": "socket", "data": {"addr": address, "server": False}}
    try:
        ask({"execute": "chardev-add", "arguments": {"id": name, "backend": backend}})
        return _taken(lambda: connections(ask(_hmp("info usernet"))[0]), guest, timeout)
    finally:
        try:
            ask({"execute": "chardev-remove", "arguments": {"id": name}})
        finally:
            ask(_hmp(f"hostfwd_remove mgmt tcp:{mine}"))


def _taken(look: Callable[[], list[Connected]], guest: str, timeout: float) -> bool:
    """Whether the guest takes a connection to `guest` (address and port) in its time."""
    deadline = time.monotonic() + timeout / 2
    while time.monotonic() < deadline:
        if any(to == guest and state in TAKEN for state, _, to in look()):
            return True
        time.sleep(PAUSE)
    return False


def connections(text: str) -> list[Connected]:
    """The TCP connections in what `info usernet` prints (libslirp, misc.c: slirp_connection_info)."""
    return [(m[1], f"{m[2]}:{m[3]}", f"{m[4]}:{m[5]}") for m in _CONNECTION.finditer(text)]


def _hmp(line: str) -> dict[str, Any]:
    return {"execute": "human-monitor-command", "arguments": {"command-line": line}}
