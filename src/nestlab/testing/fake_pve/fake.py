"""A Proxmox VE that is none: the API of a small cluster over HTTPS on loopback, with PVE's habits and errors."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from nestlab.base.frozen import frozen
from nestlab.testing.fake_pve import routes
from nestlab.testing.fake_pve.forms import Upload
from nestlab.testing.fake_pve.refusals import Hangup, Refusal
from nestlab.testing.fake_pve.server import Local, Server
from nestlab.testing.fake_pve.tasks import Task, Tasks
from nestlab.testing.fake_pve.world import Agent, Guest, Node, Storage, Value, World

PASSWORD = "only-for-tests"


@dataclass
class Fault:
    """A refusal that the next matching requests get instead of an answer; `status` 0 hangs up."""

    method: str
    path: str
    status: int
    message: str
    errors: Mapping[str, str] | None = None
    times: int = 1
    after: bool = False
    """Whether the request is carried out first, and only its answer is lost."""


@frozen
class Request:
    """One request that came in: what was asked, by whom, and the status of the answer."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    user: str = ""
    status: int = 200


class FakePve:
    """A cluster for tests: `with FakePve(nodes=("pve1", "pve2")) as pve: … pve.url …`.

    The first node is the one that listens; it passes requests for the others on. Everything is in memory.
    """

    def __init__(
        self,
        nodes: tuple[str, ...] = ("pve1",),
        version: str = "9.1",
        *,
        task_seconds: float = 0.0,
        prompt: bool = True,
    ) -> None:
        from nestlab.testing.fake_pve import endpoints

        endpoints.load()
        self.user, self.password = "root@pam", PASSWORD
        self.world = World(tuple(nodes), version, self.password)
        self.tasks = Tasks(self.world)
        self.tasks.default_seconds = task_seconds
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.prompt = prompt
        """Whether failed logins are answered at once; PVE waits 3 s."""
        token = self.world.access.new_token(self.user, "lab", privsep=0)
        self.token = (f"{self.user}!lab", token.value)
        self.server = Server(self)
        self.fingerprint = self.server.certify(tuple(nodes))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True, name="fakepve")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    @contextlib.contextmanager
    def daemon(self) -> Iterator[int]:
        """pvedaemon, as it listens on the node that is asked: its port. It takes tickets made on the node
        (`world.access.ticket`)."""
        server = Local(self)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True, name="fakepve-daemon")
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        """Where it listens, without `/api2/json`."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def vms(self) -> dict[int, Guest]:
        """Virtual machines and containers by number."""
        return self.world.guests

    @property
    def pools(self) -> dict[str, dict[str, Any]]:
        return self.world.pools

    @property
    def nodes(self) -> dict[str, Node]:
        return self.world.nodes

    @property
    def storages(self) -> dict[str, Storage]:
        return self.world.storages

    @property
    def volumes(self) -> list[str]:
        """The volume ids there are, on all nodes."""
        return sorted(volid for volid, _ in self.world.volumes)

    def calls(self, method: str = "", path: str = "") -> list[Request]:
        """The requests so far, those with this method and with this text in their path."""
        return [call for call in self.requests if method in ("", call.method) and path in call.path]

    def fail_next(
        self,
        path: str = "",
        status: int = 500,
        message: str = "got timeout",
        *,
        method: str = "",
        times: int = 1,
        errors: Mapping[str, str] | None = None,
        after: bool = False,
    ) -> None:
        """Refuse the next requests whose path has this text in it; status 0 hangs up instead."""
        self.faults.append(Fault(method, path, status, message, errors, times, after))

    def fail_task(self, kind: str, message: str, times: int = 1, *, log: str = "") -> None:
        """The next tasks of this type (`qmcreate`, `qmstart`, …) end with this error in the middle of their work, after
        these lines in their logs, and undo what PVE's undo."""
        self.tasks.failing.setdefault(kind, []).extend([(message, log)] * times)

    def warn_task(self, kind: str, *texts: str) -> None:
        """The next task of this type does its work and ends with these warnings."""
        self.tasks.warning.setdefault(kind, []).extend(texts)

    def slow(self, kind: str, seconds: float) -> None:
        """Tasks of this type take so long from now on."""
        self.tasks.slow[kind] = seconds

    def node_down(self, name: str, down: bool = True) -> None:
        """A node goes away: 595 for what is passed on to it; the one that listens hangs up on everybody."""
        with self.world.lock:
            self.world.nodes[name].online = not down

    def new_certificate(self) -> str:
        """The certificate changes under its clients; returns the new fingerprint."""
        self.fingerprint = self.server.certify(tuple(self.world.nodes))
        return self.fingerprint

    def restart_daemons(self, seconds: float = 0.5) -> None:
        """As `systemctl restart pveproxy pvedaemon`: connections end, and none is taken for a while; tasks go on."""
        self.server.restart(seconds)

    def round(self) -> None:
        """pvestatd tells of all guests; what happens after that, lists do not know until the next round."""
        from nestlab.testing.fake_pve.endpoints.cluster import told

        with self.world.lock:
            self.world.late = True
            for guest in self.world.guests.values():
                guest.told = told(self.world, guest)

    def lose_quorum(self, lost: bool = True) -> None:
        """Reading and logging in go on, nothing can be changed any more."""
        with self.world.lock:
            self.world.quorate = not lost

    def expire_tickets(self) -> None:
        """All tickets are too old from now on."""
        with self.world.lock:
            self.world.access.expire_tickets()

    def revoke_token(self) -> None:
        with self.world.lock:
            self.world.access.users[self.user].tokens.clear()

    def add_token(self, userid: str, tokenid: str, acl: Mapping[str, str], *, privsep: int = 1) -> tuple[str, str]:
        """A token with the privileges given as {path: "VM.Audit VM.Clone …"}, and its user with the same."""
        from nestlab.testing.fake_pve.access import User

        with self.world.lock:
            access = self.world.access
            access.users.setdefault(userid, User())
            token = access.new_token(userid, tokenid, privsep=privsep)
            for number, (path, wanted) in enumerate(acl.items()):
                role = f"R-{userid.partition('@')[0]}-{tokenid}-{number}"
                access.roles[role] = frozenset(wanted.split())
                access.acl[path, "user", userid, role] = 1
                access.acl[path, "token", f"{userid}!{tokenid}", role] = 1
        return f"{userid}!{tokenid}", token.value

    def add_storage(self, name: str, **options: Any) -> Storage:
        """One more entry of storage.cfg; options are the fields of Storage."""
        with self.world.lock:
            return self.world.storages.setdefault(name, Storage(name, **options))

    def fill(self, storage: str) -> None:
        """No byte is free on a storage from now on."""
        with self.world.lock:
            self.world.storages[storage].total = 0

    def hold(self, vmid: int) -> Callable[[], None]:
        """Somebody holds the lock file of a guest until the returned function is called."""
        from nestlab.testing.fake_pve import tasks

        with self.world.lock:
            self.world.held.setdefault(vmid, []).append(("somebody", "exclusive"))

        def release() -> None:
            with self.world.lock:
                tasks.drop(self.world, vmid, "somebody")

        return release

    def boot_agent(self, vmid: int, agent: Agent | None = None) -> Agent:
        """The guest agent of a machine answers from now on."""
        with self.world.lock:
            found = self.world.guests[vmid].agent = agent or Agent()
        return found

    def set_config(self, vmid: int, **options: Value) -> None:
        """Change a guest behind the API's back, as root on the node could."""
        with self.world.lock:
            self.world.guests[vmid].config.update(options)

    def unknown_user(self) -> Refusal:
        """The answer to a token or ticket that is not good, 3 s late as on PVE unless `prompt`."""
        if not self.prompt:
            time.sleep(3)
        return Refusal(401, "Authentication failed!")

    def ask(self, method: str, path: str, user: str, given: Mapping[str, Any], upload: Upload | None = None) -> Any:
        """Answer one request, or raise its Refusal."""
        status = 200
        try:
            with self.world.lock:
                if not self.world.nodes[self.world.entry].online:
                    raise Hangup
                fault = self.fault(method, path)
                if fault and not fault.after:
                    self.inject(fault)
                self.world.seen_pools()
                self.world.see_ended()
                extra = {"fingerprint": self.fingerprint}
                one = routes.Ask(self.world, self.tasks, user, given, method, path, upload, extra)
                data = routes.answer(one)
                if fault:
                    self.inject(fault)
                return data
        except Refusal as refusal:
            status = refusal.status
            raise
        except Hangup:
            status = 0
            raise
        finally:
            self.requests.append(Request(method, path, dict(given), user, status))

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method in ("", method) and fault.path in path:
                fault.times -= 1
                return fault
        return None

    def inject(self, fault: Fault) -> None:
        if not fault.status:
            raise Hangup
        raise Refusal(fault.status, fault.message, fault.errors)

    def wait(self, upid: str, timeout: float = 10.0) -> str | None:
        """The exit status of a task once it has ended; None when it still runs after the timeout."""
        task = self.task(upid)
        with self.world.lock:
            self.world.lock.wait_for(lambda: task.status is not None, timeout=timeout)
        return task.status

    def task(self, upid: str) -> Task:
        """A task by its UPID."""
        found = self.tasks.find(upid)
        if found is None:
            raise KeyError(upid)
        return found
