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
from dataclasses import replace

from nestlab.base import patience
from nestlab.base.errors import LabError
from nestlab.base.frozen import frozen
from nestlab.engines.qemu import observed, scripts
from nestlab.engines.qemu.records import Started
from nestlab.home.paths import GUEST_ROOT, MachinePaths, Place
from nestlab.plan.steps import Seen
from nestlab.wire import qga, qmp

ANSWER = 1.5
"""Nominal seconds an agent has to answer."""

INSTANT = 0.2
"""Nominal seconds a QEMU has to tell its state. It talks with one at a time, and beside an `up` at work with that."""


@frozen
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


def status(
    place: Place, lab: str, hypervisors: frozenset[str], *, first_name: str = "", meanwhile: Callable[[], object] = bool
) -> QuickStatus:
    """The machines of a lab. `hypervisors`: paths of those that have machines inside. `place`: its directory here.
    `first_name`: what it was called when it was made, if it was renamed since. `meanwhile`: what the caller has to do
    anyway; it is done while the agents work."""
    done = subprocess.run(
        ("/bin/sh", "-c", scripts.alone(observed.SCRIPT), "look", place.machines, lab),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    looks = observed.parse(done.stdout.decode(errors="replace"), now=time.time()).machines
    machines = {each.seen.path: each.seen for each in looks}
    asking = {each.seen.path: each.boot for each in looks if each.boot.asked}
    _ask_qemus(place, machines, asking)
    asked = [path for path in sorted(hypervisors) if "/" not in path and _answers(machines, path)]
    silent = [path for path in sorted(hypervisors) if "/" in path]
    if asked:
        answers = _ask(place, lab, guest_place(first_name or lab), asked, meanwhile)
        for path, answer in answers.items():
            if answer is None:
                silent.append(path)
            else:
                machines.update({each.seen.path: each.seen for each in answer})
    return QuickStatus(machines, tuple(path for path in silent if _answers(machines, path)))


# A thread of its own does not see what the user said of patience: each is told how long it may take.


def _ask(
    place: Place, lab: str, inner: Place, asked: list[str], meanwhile: Callable[[], object]
) -> dict[str, Sequence[observed.Look] | None]:
    answers: dict[str, Sequence[observed.Look] | None] = dict.fromkeys(asked)
    limit = ANSWER * max(1.0, patience.stretch())

    def ask(path: str) -> None:
        answers[path] = _inside(place, lab, inner, path, limit)

    _at_once(ask, asked, meanwhile)
    return answers


def _ask_qemus(place: Place, machines: dict[str, Seen], asking: Mapping[str, Started]) -> None:
    """What QEMU itself says of those whose process runs on the lab's host: its guest may be paused, or gone. `asking`:
    those that have to be asked whether they are up."""

    limit = INSTANT * max(1.0, patience.stretch())

    def ask(path: str) -> None:
        try:
            [answer] = qmp.ask(place.of(path).qmp, ("query-status",), timeout=limit, where=path)
        except LabError:
            return
        said = str(answer.get("status")) if isinstance(answer, dict) else ""
        state, why = observed.RUN_STATES.get(said, ("running", ""))
        seen = replace(machines[path], state=state, why=why or machines[path].why)
        if state == "running" and not seen.ready and path in asking and _is_up(place.of(path), asking[path], limit):
            seen = replace(seen, ready=True, why="")
        machines[path] = seen

    _at_once(ask, [path for path in machines if _runs(machines, path)])


def _is_up(paths: MachinePaths, boot: Started, limit: float) -> bool:
    """Whether a machine on the lab's host is up, by what it was started with."""
    if boot.ready.by == "ssh":
        return _listens(boot.port)
    from nestlab.engines.qemu import readiness

    return readiness.is_up_here(paths, boot.ready, limit)


def _listens(port: int | None) -> bool:
    """Whether an sshd answers there. QEMU itself takes every connection."""
    if port is None:
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=INSTANT) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _at_once(ask: Callable[[str], None], paths: Sequence[str], meanwhile: Callable[[], object] = bool) -> None:
    """A thread each: they only wait. (concurrent.futures would take longer to import than to use.)"""
    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()


def _runs(machines: dict[str, Seen], path: str) -> bool:
    return path in machines and machines[path].state == "running"


def _answers(machines: dict[str, Seen], path: str) -> bool:
    return _runs(machines, path) and machines[path].ready


def _inside(place: Place, lab: str, inner: Place, path: str, limit: float) -> Sequence[observed.Look] | None:
    argv = ("/bin/sh", "-c", scripts.alone(observed.SCRIPT), "look", inner.machines, lab)
    try:
        result = qga.look(place.of(path).agent, argv, timeout=limit, where=path)
        looks = observed.parse(result.text, now=time.time(), parent=path).machines
    except LabError:
        return None
    return looks if result.status == 0 else None
