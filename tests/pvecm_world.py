"""Pretended nodes of Proxmox VE for the dialogue: what their programs do to them, and what they would say of it.

They keep the rules that matter to it: what `pvecm` refuses (PVE/Cluster/Setup.pm, PVE/API2/ClusterConfig.pm), that a
node is counted before it is there, quorum by votes, a filesystem that is read-only without, and certificates of the
cluster's CA.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from nestlab.kinds.clustering import Answer, Done, Goal, Known, Node, Refused, Request, Requests, View, Wait
from nestlab.kinds.pvecm import scripts
from nestlab.kinds.pvecm.clustering import PveClustering

ONE, TWO, OTHER = (":".join([pair] * 32) for pair in ("1A", "2B", "3C"))
PVE = PveClustering()


@dataclass
class Store:
    """A cluster's database: who is in it, with which links; what is in nodes/; guests by number."""

    name: str
    version: int = 1
    nodes: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    guests: dict[int, str] = field(default_factory=dict)
    certified: set[str] = field(default_factory=set)
    expected: int | None = None
    migration: str = ""
    device: str = ""

    def add(self, name: str, links: tuple[str, ...]) -> None:
        number = next(n for n in range(1, 99) if n not in {each for each, _ in self.nodes.values()})
        self.nodes[name] = (number, links)
        self.folders.add(name)
        self.version += 1
        self.expected = None


@dataclass
class Pretended:
    """A node. `store`: the database it has; of none it is alone. `key`: it has the cluster's key."""

    name: str
    links: tuple[str, ...]
    store: Store | None = None
    key: Store | None = None
    running: bool = True
    own_guests: list[int] = field(default_factory=list)
    version: str = "9.2.11"
    mtu: int = 1500
    password: str = "secret"
    ahead: int = 0
    mounted: bool = True
    own_certificate: bool = True
    corosync: bool = False
    cut: bool = False
    booted: bool = True
    served_old: bool = False
    job: str = ""
    log: str = ""
    left: list[Callable[[], None]] = field(default_factory=list)
    """What its job has still to do."""

    def address(self) -> str:
        return self.links[0]


class World:
    """Nodes and what is done to them. `hook`: called before each request, to break something."""

    def __init__(self, *names: str, links: int = 1) -> None:
        self.nodes = {
            name: Pretended(name, tuple(f"10.{7 + link}.0.{11 + at}" for link in range(links)))
            for at, name in enumerate(names)
        }
        self.done: list[str] = []
        self.seen: list[Request] = []
        self.slow = 0
        """Looks at nodes for which a job does nothing."""

    # What is asked.

    def goal(self, do: str, *who: str, members: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Goal:
        names = members or tuple(name for name in self.nodes)
        nodes = tuple(Node(name, name, self.nodes[name].links, self.nodes[name].address()) for name in names)
        running = frozenset(name for name in names if self.nodes[name].running and name not in without)
        secrets = {f"password:{name}": b"secret" for name in names}
        return Goal("demo", do, who, nodes, running, secrets=secrets)  # type: ignore[arg-type]

    def members_of(self, store: Store) -> list[Pretended]:
        """Who is together in it, seen from anybody: running, with its corosync, not cut off."""
        return [
            node
            for node in self.nodes.values()
            if node.running and node.corosync and not node.cut and node.name in store.nodes and node.key is store
        ]

    def quorate(self, node: Pretended) -> bool:
        store = node.store if node.store is not None else node.key
        if store is None:
            return True
        votes = len(self.members_of(store)) if node in self.members_of(store) else 1
        return node.corosync and 2 * votes > (store.expected or len(store.nodes))

    def said(self, node: Pretended) -> str:
        if node.left:  # while something works there it says no more
            return f"\n== name\n{node.name}\n\n== node\nyes\n\n== job\n{node.job}\nactive\n\n== log\n{node.log}\n"
        conf = self._conf(node.store) if node.store else ""
        quorum, members = self._seen_by(node, node.store) if node.store and node.corosync else ("", "")
        members = members or f'{{"nodename": "{node.name}", "version": 3}}'
        guests = dict.fromkeys(node.own_guests, node.name) | (node.store.guests if node.store else {})
        ids = ", ".join(f'"{n}": {{"node": "{of}", "type": "qemu", "version": 1}}' for n, of in guests.items())
        certified = node.store is not None and node.name in node.store.certified
        alone = node.store is None
        own = TWO if certified else ONE if alone and node.own_certificate else ""
        parts = {
            "name": node.name,
            "authkey": "yes" if node.key else "",
            "local": self._conf(node.key) if node.key else "",
            "mounted": ("symbolic link " + ("777" if self.quorate(node) else "555")) if node.mounted else "",
            "conf": conf if node.mounted else "",
            "members": members if node.mounted else "",
            "guests": f'{{"version": 1, "ids": {{ {ids} }} }}' if node.mounted else "",
            "nodes": "\n".join(sorted(node.store.folders) if node.store else [node.name]) if node.mounted else "",
            "quorum": quorum,
            "datacenter": node.store.migration if node.store else "",
            "services": "\n".join(
                f"{unit} {'active' if up else 'inactive'}"
                for unit, up in {
                    "corosync": node.corosync,
                    "pve-cluster": node.mounted,
                    "pvedaemon": True,
                    "pveproxy": node.booted,
                }.items()
            ),
            "addresses": "\n".join(f"inet {address} vmbr{at} {node.mtu}" for at, address in enumerate(node.links)),
            "node": "yes",
            "version": node.version,
            "memory": "1505280",
            "signed": "/etc/pve/local/pve-ssl.pem: OK" if (alone and node.own_certificate) or certified else "",
            "own": f"sha256 Fingerprint={own}",
            "api": "HTTP/1.1 200 OK",
            "served": f"sha256 Fingerprint={ONE if node.served_old else own}",
            "job": f"{node.job}\n{'active' if node.left else 'inactive'}" if node.job else "",
            "log": node.log,
        }
        return "".join(f"\n== {name}\n{text}\n" for name, text in parts.items())

    def _seen_by(self, node: Pretended, store: Store) -> tuple[str, str]:
        """What `pvecm status` and /etc/pve/.members say on a node whose corosync runs."""
        present = self.members_of(store) if not node.cut else [node]
        yes = self.quorate(node)
        expected = store.expected or len(store.nodes)
        rows = "".join(
            f"0x{store.nodes[each.name][0]:08x}          1 {each.links[0]}{' (local)' * (each is node)}\n"
            for each in present
            if each.name in store.nodes
        )
        quorum = (
            f"Quorum information\nNodes:            {len(present)}\nQuorate:          {'Yes' if yes else 'No'}\n\n"
            f"Expected votes:   {expected}\nHighest expected: {expected}\nTotal votes:      {len(present)}\n"
            f"Quorum:           {expected // 2 + 1} {'' if yes else 'Activity blocked'}\nFlags:            \n\n"
            f"Membership information\n----------------------\n    Nodeid      Votes Name\n{rows}"
            + "0x00000000          1            Qdevice\n"
            * bool(store.device)
        )
        peers = ", ".join(
            f'"{name}": {{ "id": {number}, "online": {int(self.nodes[name] in present)}, "ip": "{links[0]}"}}'
            for name, (number, links) in store.nodes.items()
        )
        members = (
            f'{{"nodename": "{node.name}", "version": 6, "cluster": {{"name": "{store.name}", "version": 2,'
            f' "nodes": 1, "quorate": {int(yes)} }}, "nodelist": {{ {peers} }} }}'
        )
        return quorum, members

    @staticmethod
    def _conf(store: Store) -> str:
        nodes = "".join(
            f"  node {{\n    name: {name}\n    nodeid: {number}\n    quorum_votes: 1\n"
            + "".join(f"    ring{at}_addr: {link}\n" for at, link in enumerate(links))
            + "  }\n"
            for name, (number, links) in store.nodes.items()
        )
        device = f"  device {{\n    model: net\n    net {{\n      host: {store.device}\n    }}\n  }}\n" * bool(
            store.device
        )
        return (
            f"nodelist {{\n{nodes}}}\n\nquorum {{\n{device}  provider: corosync_votequorum\n}}\n\n"
            f"totem {{\n  cluster_name: {store.name}\n  config_version: {store.version}\n  interface {{\n"
            "    linknumber: 0\n  }\n}\n"
        )

    def look(self, goal: Goal, answers: list[Answer]) -> Known:
        for node in self.nodes.values():
            if self.slow:
                self.slow -= 1
            elif node.left and node.running:
                node.left.pop(0)()
        views: dict[str, View] = {name: PVE.read(self.said(self.nodes[name])) for name in goal.running}
        return Known(views, {}, tuple(answers))

    # What is done.

    def reach(self, goal: Goal, *, requests: int = 1000, looks: int = 60) -> Done | Refused | Wait | None:
        """How it ends; None: it was ended after so many requests. A Wait that lasts is one."""
        answers: list[Answer] = []
        waited = 0
        for _ in range(400):
            action = PVE.next(goal, self.look(goal, answers))
            if isinstance(action, Done | Refused):
                return action
            if isinstance(action, Wait):
                waited += 1
                if waited > looks:
                    return action
                continue
            waited = 0
            assert isinstance(action, Requests)
            for request in action.requests:
                if requests == 0:
                    return None
                requests -= 1
                answers.append(self.answer(request))
        raise AssertionError(f"it goes round: {[answer.request.title for answer in answers[-5:]]}")

    def answer(self, request: Request) -> Answer:
        node = self.nodes[request.node]
        self.seen.append(request)
        self.done.append(f"{request.node}: {request.words[0]}" if request.script == scripts.START else request.title)
        assert node.running
        for _, secret in self.goal("form").secrets.items():
            assert secret.decode() not in " ".join(request.words), "a secret in argv"
        out, status, err = _DO[request.script](self, node, request)
        return Answer(request, status, out, err)

    def start(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        if node.left:
            return f"it works at: {node.job}", 0, ""
        node.job, node.log = request.words[0], ""
        words = list(request.words[3:])
        jobs = {"create": self.create, "join": self.join, "certify": self.certify, "qdevice": self.qdevice}
        jobs[node.job.split()[0]](node, words, request.input)
        return "", 0, ""

    def end(self, node: Pretended, log: str, status: int = 0) -> None:
        node.left = []
        node.log += f"{log}\nnestlab: status {status}\n"

    def create(self, node: Pretended, words: list[str], _: bytes) -> None:
        if node.store is not None:
            self.end(node, "cluster config '/etc/pve/corosync.conf' already exists", 255)
            return
        links = tuple(words[at + 1] for at in range(1, len(words), 2))

        def key() -> None:
            node.key = node.key or Store(words[0], 0)

        def conf() -> None:
            node.key = node.key or Store(words[0], 0)
            node.key.add(node.name, links)
            node.key.certified.add(node.name)
            node.key.guests = dict.fromkeys(node.own_guests, node.name)
            node.own_guests = []
            node.store = node.key

        def restart() -> None:
            node.corosync = True
            self.end(node, "Restart corosync and cluster filesystem")

        node.left = [key, conf, restart]

    def join(self, node: Pretended, words: list[str], given: bytes) -> None:
        member = next((each for each in self.nodes.values() if words[0] in each.links), None)
        links = tuple(words[at + 1] for at in range(3, len(words), 2))
        served = ONE if member is None or member.served_old else TWO
        errors = [
            "Check if node may join a cluster failed!\n* this host already contains virtual guests"
            * bool(node.own_guests),
            "500 Can't connect to it (No route to host)" * (member is None or not member.running),
            f"fingerprint '{served}' not verified, abort!" * (words[2] != served),
            "401 authentication failure" * (member is not None and given.decode() != member.password + "\n"),
        ]
        if any(errors) or member is None or member.store is None:
            self.end(node, next((error for error in errors if error), "not in a cluster"))
            return
        store = member.store

        def count() -> None:
            node.log += "Request addition of this node\n"
            if not self.quorate(member):
                self.end(node, "An error occurred on the cluster node: cluster not ready - no quorum?")
            elif node.name in store.nodes:
                self.end(node, f"An error occurred on the cluster node: can't add existing node '{node.name}'")
            else:
                store.add(node.name, links)

        def keys() -> None:
            node.log += "Join request OK, finishing setup locally\n"
            node.key = store

        def stop() -> None:
            node.log += "stopping pve-cluster service\n"
            node.mounted = False

        def start() -> None:
            node.log += "waiting for quorum...\n"
            node.mounted = node.corosync = True
            node.store = store

        def certificate() -> None:
            if not self.quorate(node):
                node.left.insert(0, certificate)
                return
            store.certified.add(node.name)

        node.left = [
            count,
            keys,
            stop,
            start,
            certificate,
            lambda: self.end(node, f"successfully added node '{node.name}' to cluster."),
        ]

    def certify(self, node: Pretended, words: list[str], _: bytes) -> None:
        def make() -> None:
            if node.store and self.quorate(node):
                node.store.certified.add(node.name)
            node.own_certificate = True
            node.served_old = False
            self.end(node, "generate new node certificate")

        node.left = [make]

    def qdevice(self, node: Pretended, words: list[str], _: bytes) -> None:
        def change() -> None:
            assert node.store is not None
            assert not (words and len(node.store.nodes) % 2), "Clusters with an odd node count are not supported"
            node.store.device = words[0] if words else ""
            node.store.version += 1
            self.end(node, "done")

        node.left = [change]

    def root_key(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        return "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB root@pve1\n", 0, ""

    def trust(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert request.words == ("ssh-rsa", "AAAAB3NzaC1yc2EAAAADAQABAAAB")
        return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA witness\n", 0, ""

    def check(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        member = next(each for each in self.nodes.values() if request.words[0] in each.links)
        now = 1_795_955_000
        lines = [f"clock {now} {now + member.ahead - node.ahead} {now}"]
        lines += [f"served sha256 Fingerprint={TWO if member.store and not member.served_old else ONE}"]
        for at in range(2, len(request.words), 2):
            there = request.words[at] in member.links and not member.cut and not node.cut
            fits = int(request.words[at + 1]) + 28 <= min(member.mtu, node.mtu)
            time = "rtt min/avg/max/mdev = 0.021/0.440/0.9/0.1 ms" if there and fits else "none"
            lines += [f"link {request.words[at]} {request.words[at + 1]} {time}"]
        return "\n".join(lines), 0, ""

    def read(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert node.store is not None
        return base64.b64encode(b"key").decode() + " 9\nnodelist\n", 0, ""

    def adopt(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert request.input.endswith(b"nodelist\n")
        store = next(each.store for each in self.nodes.values() if each.store and node.name in each.store.nodes)
        node.key = node.store = store
        node.mounted = node.corosync = True
        return "", 0, ""

    def reset(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        node.key = node.store = None
        node.mounted, node.corosync, node.own_guests = True, False, []
        node.own_certificate = False
        return "", 0, ""

    def off(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        node.corosync = False
        return "", 0, ""

    def separate(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert node.store is not None
        node.own_guests = [number for number, of in node.store.guests.items() if of == node.name]
        node.key = node.store = None
        node.mounted, node.corosync = True, False
        return "", 0, ""

    def services(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        if "pve-cluster" in request.words:
            node.mounted = True
        if node.key:
            node.corosync = True
            # A new database takes the configuration that corosync has (pmxcfs.c, main).
            node.store = node.key if node.name in node.key.nodes else node.store
        return "", 0, ""

    def login(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        good = request.input.endswith(b"password=" + node.password.encode())
        return f"HTTP/1.1 {'200 OK' if good else '401 authentication failure'}\r\n", 0, ""

    def delete(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert node.store is not None
        if not self.quorate(node):
            return "", 1, "cluster not ready - no quorum?"
        if node.store.nodes.pop(request.words[0], None):
            node.store.version += 1
            node.store.expected = None
        node.store.folders.discard(request.words[0])
        return "Killing node", 0, "Could not kill node (error = CS_ERR_NOT_EXIST)"

    def expect(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert node.store is not None
        node.store.expected = int(request.words[0])
        return "", 0, ""

    def migrate_by(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        assert node.store is not None
        node.store.migration = f"keyboard: de\nmigration: secure,network={request.words[0]}"
        return "", 0, ""

    def restart(self, node: Pretended, request: Request) -> tuple[str, int, str]:
        node.served_old = False
        return "", 0, ""


_DO: dict[str, Callable[[World, Pretended, Request], tuple[str, int, str]]] = {
    scripts.START: World.start,
    scripts.CHECK: World.check,
    scripts.READ: World.read,
    scripts.ADOPT: World.adopt,
    scripts.RESET: World.reset,
    scripts.OFF: World.off,
    scripts.SEPARATE: World.separate,
    scripts.SERVICES: World.services,
    scripts.LOGIN: World.login,
    scripts.DELETE: World.delete,
    scripts.EXPECT: World.expect,
    scripts.RESTART: World.restart,
    scripts.ROOT_KEY: World.root_key,
    scripts.TRUST: World.trust,
    scripts.MIGRATE_BY: World.migrate_by,
}

__all__ = ["ONE", "OTHER", "PVE", "TWO", "Pretended", "Store", "World"]
