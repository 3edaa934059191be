"""A lab's state in a few milliseconds, for `nestlab status`: no event loop, no ssh, nothing heavy imported.

Machines on the lab's host are seen in /proc; those inside a hypervisor through its guest agent, which runs the same
script there. What is deeper than that, or does not answer, is left to a full `observe`.
"""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass

from nestlab.engines.qemu import look
from nestlab.engines.qemu.paths import GUEST_ROOT, Place
from nestlab.errors import LabError
from nestlab.plan import Seen
from nestlab.wire import qga

ANSWER = 1.5
"""Seconds an agent has to answer."""


@dataclass(frozen=True)
class Quick:
    """`silent`: running hypervisors that could not be asked this way."""

    machines: dict[str, Seen]
    silent: tuple[str, ...]


def guest_place(lab: str) -> Place:
    """A lab's directory inside a hypervisor of its own."""
    return Place(f"{GUEST_ROOT}/labs/{lab}")


def status(place: Place, lab: str, hypervisors: frozenset[str]) -> Quick:
    """The machines of a lab. `hypervisors`: paths of those that have machines inside. `place`: its directory here."""
    done = subprocess.run(
        ("/bin/sh", "-c", look.SCRIPT, "look", place.machines, lab),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    looks = look.parse(done.stdout.decode(errors="replace"), now=time.time())
    machines = {each.seen.path: each.seen for each in looks}
    asked = [path for path in sorted(hypervisors) if "/" not in path and _runs(machines, path)]
    silent = [path for path in sorted(hypervisors) if "/" in path]
    if asked:
        for path, answer in _ask(place, lab, asked).items():
            if answer is None:
                silent.append(path)
            else:
                machines.update({each.seen.path: each.seen for each in answer})
    return Quick(machines, tuple(path for path in silent if _runs(machines, path)))


def _ask(place: Place, lab: str, asked: list[str]) -> dict[str, list[look.Look] | None]:
    """All at once, a thread each: they only wait. (concurrent.futures would take longer to import than to use.)"""
    answers: dict[str, list[look.Look] | None] = dict.fromkeys(asked)

    def ask(path: str) -> None:
        answers[path] = _inside(place, lab, path)

    threads = [threading.Thread(target=ask, args=(path,)) for path in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _runs(machines: dict[str, Seen], path: str) -> bool:
    return path in machines and machines[path].state == "running"


def _inside(place: Place, lab: str, path: str) -> list[look.Look] | None:
    argv = ("/bin/sh", "-c", look.SCRIPT, "look", guest_place(lab).machines, lab)
    try:
        with qga.Agent(place.of(path).agent, timeout=ANSWER, where=path) as agent:
            result = agent.run(argv)
    except LabError:
        return None
    return look.parse(result.text, now=time.time(), parent=path) if result.status == 0 else None
