"""PVE's workers: an answer of a UPID now, the work, its log and its exit status later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nestlab.testing.fake_pve.refusals import Aborted, Refusal, died
from nestlab.testing.fake_pve.world import World

Work = Callable[["Task"], None]


@dataclass
class Task:
    """One worker. `status` is None while it runs, then `OK`, `WARNINGS: n` or the error's text."""

    world: World
    upid: str
    node: str
    kind: str
    id: str
    user: str
    pid: int
    pstart: int
    starttime: int
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)
    status: str | None = None
    endtime: int = 0
    warnings: int = 0
    stopped: bool = False
    held: list[int] = field(default_factory=list)
    failure: tuple[str, str] | None = None
    """What it was told to fail with, and the lines in its log before that."""

    def say(self, *lines: str) -> None:
        self.log.extend(lines)

    def warn(self, text: str) -> None:
        """A warning: the task ends with `WARNINGS: n`, which is success."""
        self.warnings += 1
        self.say(f"WARN: {text}")

    def work(self) -> None:
        """The slow part of a task: as long as it was told to take; others are served meanwhile."""
        if self.seconds:
            self.world.lock.wait_for(lambda: self.stopped, timeout=self.seconds)
        if self.stopped:
            raise Aborted
        if self.failure:
            text, log = self.failure
            self.failure = None
            self.say(*log.splitlines())
            raise died(text)

    def hold(self, vmid: int, mode: str = "exclusive") -> None:
        """Take the file lock of a guest until the task ends; died after lock_timeout seconds."""
        take(self.world, vmid, self.upid, mode)
        self.held.append(vmid)

    def release(self) -> None:
        for vmid in self.held:
            drop(self.world, vmid, self.upid)
        self.held.clear()


def busy(world: World, vmid: int, owner: str, mode: str) -> bool:
    others = [kind for who, kind in world.held.get(vmid, []) if who != owner]
    return "exclusive" in others if mode == "shared" else bool(others)


def take(world: World, vmid: int, owner: str, mode: str = "exclusive") -> None:
    """The lock file of a guest, waiting as long as PVE does (10 s, or what the world says)."""
    if not world.lock.wait_for(lambda: not busy(world, vmid, owner, mode), timeout=world.lock_timeout):
        raise died(f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout")
    world.held.setdefault(vmid, []).append((owner, mode))


def drop(world: World, vmid: int, owner: str) -> None:
    world.held[vmid] = [entry for entry in world.held.get(vmid, []) if entry[0] != owner]
    world.lock.notify_all()


class Tasks:
    """All workers of the cluster, newest last."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.all: list[Task] = []
        self.slow: dict[str, float] = {}
        self.failing: dict[str, list[tuple[str, str]]] = {}
        self.warning: dict[str, list[str]] = {}
        self.default_seconds = 0.0
        self.count = 0x500

    def start(self, node: str, kind: str, ident: str, user: str, work: Work, *, locks: tuple[int, ...] = ()) -> str:
        """Start a worker and return its UPID. One that takes no time is over before the answer."""
        self.count += 4
        now = int(time.time())
        pstart = 600000 + self.count
        upid = f"UPID:{node}:{self.count:08X}:{pstart:08X}:{now:08X}:{kind}:{ident}:{user}:"
        seconds = self.slow.get(kind, self.default_seconds)
        task = Task(self.world, upid, node, kind, ident, user, self.count, pstart, now, seconds)
        self.all.append(task)
        if seconds or any(busy(self.world, vmid, upid, "exclusive") for vmid in locks):
            threading.Thread(target=self.run, args=(task, work), daemon=True, name=upid).start()
        else:
            self.run(task, work)
        return upid

    def run(self, task: Task, work: Work) -> None:
        with self.world.lock:
            planned = self.failing.get(task.kind)
            task.failure = planned.pop(0) if planned else None
            try:
                work(task)
                if task.failure:  # one without a slow part
                    task.work()
                for text in self.warning.pop(task.kind, ()):
                    task.warn(text)
                task.status = f"WARNINGS: {task.warnings}" if task.warnings else "OK"
                task.say(f"TASK {task.status}")
            except Refusal as refusal:
                task.status = refusal.as_exit_status()
                task.say(f"TASK ERROR: {task.status}")
            except Aborted:
                task.status = "unexpected status"
                task.say("TASK ERROR: received interrupt")
            except Exception as error:
                task.status = f"fake: {type(error).__name__}: {error}"
                task.say(f"TASK ERROR: {task.status}")
            finally:
                task.release()
                task.endtime = int(time.time())
                self.world.lock.notify_all()

    def find(self, upid: str) -> Task | None:
        return next((task for task in self.all if task.upid == upid), None)

    def stop(self, task: Task) -> None:
        """Interrupt a worker and wait until it has tidied up."""
        task.stopped = True
        self.world.lock.notify_all()
        self.world.lock.wait_for(lambda: task.status is not None, timeout=10)


def shown(task: Task) -> dict[str, Any]:
    """A task as the lists and `status` show it, without its state."""
    user, mark, tokenid = task.user.partition("!")
    found: dict[str, Any] = {
        "upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart, "starttime": task.starttime,
        "type": task.kind, "id": task.id, "user": user,
    }  # fmt: skip
    return {**found, "tokenid": tokenid} if mark else found
