"""A lab's state in milliseconds, for `nestlab status`: no event loop, no ssh, nothing heavy imported.

Machines on the lab's host are seen in /proc; those inside a hypervisor through its guest agent, which runs the same
script there. What is deeper than that, or does not answer, is left to a full `observe`.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.engines.qemu import observed, scripts
from nestlab.home.paths import GUEST_ROOT, Place
from nestlab.plan.steps import Seen
from nestlab.wire import qga, qmp

ANSWER = 1.5
"""Nominal seconds an agent has to answer."""

INSTANT = 0.2
"""Nominal seconds a QEMU has to tell its state. It talks with one at a time, and beside an `up` at work with that."""


@dataclass(frozen=True)
class QuickStatus:
    """`silent`: running hypervisors that could not be asked this way."""

    machines: dict[str, Seen]
    silent: tuple[str, ...]


def late(found: QuickStatus) -> tuple[str, ...]:
    """The hypervisors on the lab's host whose agents did not answer in time."""
    return tuple(path for path in found.silent if "/" not in path)


def guest_place(first_name: str) -> Place:
    """A lab's directory inside a hypervisor of its own: it has the name that the lab had when it was made."""
    return Place(f"{GUEST_ROOT}/labs/{first_name}")


def status(place: Place, lab: str, hypervisors: frozenset[str], *, first_name: str = "") -> QuickStatus:
    """The machines of a lab. `hypervisors`: paths of those that have machines inside. `place`: its directory here.
    `first_name`: what it was called when it was made, if it was renamed since."""
    done = subprocess.run(
        ("/bin/sh", "-c", scripts.alone(observed.SCRIPT), "look", place.machines, lab),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    looks = observed.parse(done.stdout.decode(errors="replace"), now=time.time())
    machines = {each.seen.path: each.seen for each in looks}
    asking = {each.seen.path: each.boot["port"] for each in looks if each.boot.get("asked")}
    _ask_qemus(place, machines, asking)
    asked = [path for path in sorted(hypervisors) if "/" not in path and _answers(machines, path)]
    silent = [path for path in sorted(hypervisors) if "/" in path]
    if asked:
        for path, answer in _ask(place, lab, guest_place(first_name or lab), asked).items():
            if answer is None:
                silent.append(path)
            else:
                machines.update({each.seen.path: each.seen for each in answer})
    return QuickStatus(machines, tuple(path for path in silent if _answers(machines, path)))


# A thread of its own does not see what the user said of patience: each is told how long it may take.


def _ask(place: Place, lab: str, inner: Place, asked: list[str]) -> dict[str, list[observed.Look] | None]:
    answers: dict[str, list[observed.Look] | None] = dict.fromkeys(asked)
    limit = ANSWER * max(1.0, patience.stretch())

    def ask(path: str) -> None:
        answers[path] = _inside(place, lab, inner, path, limit)

    _at_once(ask, asked)
    return answers


def _ask_qemus(place: Place, machines: dict[str, Seen], ports: Mapping[str, int]) -> None:
    """What QEMU itself says of those whose process runs on the lab's host: its guest may be paused, or gone. `ports`:
    where those listen of which only that tells whether they are up."""

    limit = INSTANT * max(1.0, patience.stretch())

    def ask(path: str) -> None:
        try:
            [answer] = qmp.ask(place.of(path).qmp, ("query-status",), timeout=limit, where=path)
        except LabError:
            return
        state, why = observed.RUN_STATES.get(answer["status"], ("running", ""))
        seen = replace(machines[path], state=state, why=why or machines[path].why)
        if state == "running" and not seen.ready and _listens(ports.get(path)):
            seen = replace(seen, ready=True, why="")
        machines[path] = seen

    _at_once(ask, [path for path in machines if _runs(machines, path)])


def _listens(port: object) -> bool:
    """Whether an sshd answers there. QEMU itself takes every connection."""
    if not isinstance(port, int):
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=INSTANT) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _at_once(ask: Callable[[str], None], paths: Sequence[str]) -> None:
    """A thread each: they only wait. (concurrent.futures would take longer to import than to use.)"""
    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _runs(machines: dict[str, Seen], path: str) -> bool:
    return path in machines and machines[path].state == "running"


def _answers(machines: dict[str, Seen], path: str) -> bool:
    return _runs(machines, path) and machines[path].ready


def _inside(place: Place, lab: str, inner: Place, path: str, limit: float) -> list[observed.Look] | None:
    argv = ("/bin/sh", "-c", scripts.alone(observed.SCRIPT), "look", inner.machines, lab)
    try:
        with qga.Agent(place.of(path).agent, timeout=limit, where=path) as agent:
            result = agent.run(argv)
    except LabError:
        return None
    return observed.parse(result.text, now=time.time(), parent=path) if result.status == 0 else None
