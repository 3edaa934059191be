"""What a cluster is made of: nodes, guests, storages with their volumes, pools, networks. State only, no HTTP."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from nestlab.base.keyboard import Chord
from nestlab.base.picture import Picture
from nestlab.testing.fake_pve.access import Access
from nestlab.testing.fake_pve.consoles import Console
from nestlab.testing.fake_pve.refusals import died, missing
from nestlab.testing.fake_pve.screens import DARK

GIB = 1 << 30
Value = str | int
FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat sse sse2 ht syscall nx lm hypervisor aes avx2"
)


@dataclass
class Node:
    """A node of the cluster, and what its hardware says."""

    name: str
    ip: str
    cpus: int = 8
    memory: int = 32 * GIB
    memory_used: int = 2 * GIB
    vendor: str = "GenuineIntel"
    model: str = "Intel(R) Xeon(R)"
    flags: str = f"{FLAGS} vmx"
    kvm: bool = True
    nested: bool = True
    online: bool = True
    bridges: dict[str, dict[str, Any]] = field(default_factory=dict)
    bridges_new: dict[str, dict[str, Any]] | None = None
    lacks: set[str] = field(default_factory=set)
    """Vnets that it has not loaded: it was away when they were applied."""
    reported: bool = True
    """pvestatd has told what its QEMU can since it was started."""
    starting: float = 0.0
    """Seconds that a QEMU takes to start on it, which is more than a start waits if that does not say otherwise."""
    reload_fails: str = ""
    """What `ifreload -a` says on it before it fails, as long as it does: its networks then stay as they are."""
    started: float = field(default_factory=lambda: time.time() - 5000)
    services: set[str] = field(default_factory=lambda: {"pve-ha-lrm"})
    """Of those that a node may do without, the ones that run."""


@dataclass
class Agent:
    """A qemu-guest-agent that answers, with files and the commands it was told to answer.

    `commands` maps the first word of a command to (exit code, standard output, standard error). What it refuses, PVE
    repeats after `Agent error: `. Another class may answer from a real agent: see tests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    commands: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    interfaces: list[dict[str, Any]] = field(default_factory=list)
    ran: list[tuple[list[str], str]] = field(default_factory=list)
    waiting: dict[int, dict[str, Any]] = field(default_factory=dict)

    def ping(self) -> None:
        """Answer; a refusal when there is nobody yet."""

    def execute(self, command: list[str], input: bytes | None) -> int:
        """Run a command; its process."""
        self.ran.append((command, (input or b"").decode("latin-1")))
        code, out, err = self.commands.get(command[0], (127, "", f"{command[0]}: command not found\n"))
        if command[0] not in self.commands and "" in self.commands:
            code, out, err = self.commands[""]
        if code == 127 and command[0] not in self.commands:
            problem = f"Failed to execute child process “{command[0]}” (No such file or directory)"
            raise died(f"Agent error: Guest agent command failed, error was '{problem}'")
        pid = 1000 + len(self.ran)
        row: dict[str, Any] = {"exited": 1, "exitcode": code}
        self.waiting[pid] = row | ({"out-data": out} if out else {}) | ({"err-data": err} if err else {})
        return pid

    def status(self, pid: int) -> dict[str, Any]:
        """How a command ended, once: after it was told it is forgotten."""
        if pid not in self.waiting:
            raise died(f"Agent error: PID {pid} does not exist")
        return self.waiting.pop(pid)

    def read(self, file: str) -> bytes:
        if file not in self.files:
            raise died(f"Agent error: failed to open file '{file}' (mode: 'r'): No such file or directory")
        return self.files[file]

    def write(self, file: str, data: bytes) -> None:
        self.files[file] = data

    def cards(self) -> list[dict[str, Any]]:
        return self.interfaces


@dataclass
class Guest:
    """A virtual machine (`qemu`) or container (`lxc`): its file in /etc/pve, and whether it runs."""

    vmid: int
    node: str
    kind: str
    config: dict[str, Value] = field(default_factory=dict)
    pending: dict[str, Value] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    snapshots: dict[str, dict[str, Value]] = field(default_factory=dict)
    running: bool = False
    paused: bool = False
    started: float = 0.0
    machine: dict[str, Value] = field(default_factory=dict)
    agent: Agent | None = None
    obeys: bool = True
    """Whether it shuts down when it is asked to."""
    firewall: dict[str, Value] = field(default_factory=dict)
    rules: list[dict[str, Value]] = field(default_factory=list)
    ha: dict[str, str] | None = None
    """Its entry in high availability (`endpoints/ha.py`)."""
    screen: Picture = DARK
    keys: list[Chord] = field(default_factory=list)
    """What was pressed on its keyboard."""
    told: dict[str, Any] = field(default_factory=dict)
    """What pvestatd told of it in its last round."""

    @property
    def template(self) -> bool:
        return bool(self.config.get("template"))

    @property
    def name(self) -> str:
        if self.kind == "lxc":
            return str(self.config.get("hostname", f"CT{self.vmid}"))
        return str(self.config.get("name", f"VM {self.vmid}"))


@dataclass
class Volume:
    """A file or block device on a storage; `node` is empty on a shared one."""

    volid: str
    storage: str
    node: str
    content: str
    format: str
    size: int
    path: str
    vmid: int = 0
    used: int = 0
    parent: str = ""
    sha256: str = ""
    data: bytes = b""
    file: str = ""
    """Where its content is, when machines really run (see `Iron`)."""
    note: str = ""
    ctime: int = field(default_factory=lambda: int(time.time()))


@dataclass
class Storage:
    """An entry of storage.cfg with its room per node."""

    name: str
    type: str = "dir"
    path: str = "/var/lib/vz"
    content: str = "backup,images,iso,rootdir,snippets,vztmpl"
    nodes: tuple[str, ...] = ()
    shared: bool = False
    disabled: bool = False
    total: int = 500 * GIB
    options: dict[str, Any] = field(default_factory=dict)

    def contents(self) -> set[str]:
        return set(filter(None, self.content.split(",")))

    def on(self, node: str) -> bool:
        return not self.nodes or node in self.nodes

    @property
    def files(self) -> bool:
        return self.type in ("dir", "nfs", "cifs", "btrfs", "cephfs")


SDN_KINDS = ("zones", "vnets", "subnets", "controllers", "fabrics")


@dataclass
class Sdn:
    """Zones, vnets and what else there is: the configuration, what is applied, and the lock over both."""

    config: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in SDN_KINDS})
    applied: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in SDN_KINDS})
    lock: str = ""

    @property
    def pending(self) -> bool:
        """Fabrics do not count (pve-network, SDN.pm: has_pending_changes)."""
        return any(self.config[kind] != self.applied[kind] for kind in SDN_KINDS if kind != "fabrics")


class Iron(Protocol):
    """What makes machines really run, where a test has that: it keeps uploads and starts processes."""

    def keep(self, data: bytes) -> str:
        """Keep what was uploaded; the file."""

    def start(self, guest: Guest, volumes: Mapping[str, Volume]) -> Agent:
        """Start a machine with these disks, by the key of its drive; its guest agent."""

    def stop(self, vmid: int, *, gently: bool) -> None:
        """End a machine; `gently`: let it shut itself down."""

    def ended(self, vmid: int) -> bool:
        """Whether a machine that was started has ended by itself."""


@runtime_checkable
class Typed(Protocol):
    """What has monitors that answer, where a test has that."""

    def typed(self, vmid: int, command: str) -> str:
        """What the monitor of a machine says to a command for people."""


@runtime_checkable
class Lxc(Protocol):
    """What makes containers really run, where a test has that."""

    def unpack(self, guest: Guest, template: Volume) -> None:
        """The root filesystem of a container, from its template."""

    def contain(self, guest: Guest) -> None:
        """Start a container."""

    def release(self, vmid: int) -> None:
        """End a container."""


class World:
    """One cluster. Every request holds `lock`; whoever waits for a guest's file lock waits on it."""

    def __init__(self, nodes: tuple[str, ...], version: str, password: str) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.version = version
        self.ha_rules: dict[str, dict[str, str]] = {}
        self.ha_groups: dict[str, dict[str, str]] = {}
        self.major = int(version.split(".")[0])
        self.access = Access(self.major, password)
        self.nodes = {name: made_node(name, index) for index, name in enumerate(nodes, 1)}
        self.entry = nodes[0]
        self.guests: dict[int, Guest] = {}
        self.storages: dict[str, Storage] = {"local": Storage("local")}
        self.volumes: dict[tuple[str, str], Volume] = {}
        self.pools: dict[str, dict[str, Any]] = {}
        self.iron: Iron | None = None
        self.options: dict[str, Any] = {}
        self.sdn = Sdn()
        self.clustername = "lab" if len(nodes) > 1 else ""
        self.held: dict[int, list[tuple[str, str]]] = {}
        self.lock_timeout = 10.0
        self.quorate = True
        self.late = False
        """Whether lists tell of guests what pvestatd told in its last round, every ten seconds on PVE."""
        self.consoles: dict[str, Console] = {}
        self.random = random.Random(1)

    def guest(self, node: str, kind: str, vmid: int) -> Guest:
        """The guest with this number there, or the 500 that PVE answers for one that is not."""
        found = self.guests.get(vmid)
        if found is None or found.node != node or found.kind != kind:
            raise missing(node, kind, vmid)
        return found

    def storage(self, name: str) -> Storage:
        if name not in self.storages:
            raise died(f"storage '{name}' does not exist")
        return self.storages[name]

    def volume(self, volid: str, node: str) -> Volume | None:
        return self.volumes.get((volid, node)) or self.volumes.get((volid, ""))

    def keep(self, volume: Volume) -> Volume:
        self.volumes[volume.volid, volume.node] = volume
        return volume

    def drop(self, volume: Volume) -> None:
        self.volumes.pop((volume.volid, volume.node), None)

    def on_storage(self, name: str, node: str) -> Iterator[Volume]:
        for volume in list(self.volumes.values()):
            if volume.storage == name and volume.node in ("", node):
                yield volume

    def used(self, name: str, node: str) -> int:
        """Bytes in use: qcow2 and thin volumes count what was written, others their size."""
        return GIB + sum(volume.used for volume in self.on_storage(name, node))

    def mac(self) -> str:
        return "BC:24:11:" + ":".join(f"{self.random.randrange(256):02X}" for _ in range(3))

    def nextid(self) -> int:
        """The lowest free number from next-id's lower bound on; two who ask get the same one, as on PVE."""
        bounds = self.options.get("next-id", {})
        lower = int(bounds.get("lower", 100))
        return next(vmid for vmid in range(lower, 1_000_000_000) if vmid not in self.guests)

    def pool_of(self, kind: str, member: str) -> str:
        return next((name for name, pool in self.pools.items() if member in pool[kind]), "")

    def see_ended(self) -> None:
        """Machines that have ended by themselves do not run any more."""
        for guest in self.guests.values():
            if self.iron is not None and guest.running and guest.kind == "qemu" and self.iron.ended(guest.vmid):
                self.iron.stop(guest.vmid, gently=False)
                guest.running, guest.machine, guest.agent = False, {}, None

    def seen_pools(self) -> None:
        """Tell access control which pool every guest and storage is in."""
        paths = {"vms": "/vms/", "storage": "/storage/"}
        self.access.pool_of = {
            paths[kind] + member: name
            for name, pool in self.pools.items()
            for kind in paths
            for member in pool[kind]
        }  # fmt: skip


def made_node(name: str, index: int) -> Node:
    ip = f"10.99.0.{index}"
    node = Node(name, ip)
    node.bridges = {
        "eth0": {"type": "eth", "method": "manual", "method6": "manual", "families": ["inet"], "active": 1,
                 "priority": 3},
        "vmbr0": {"type": "bridge", "method": "static", "method6": "manual", "families": ["inet"], "active": 1,
                  "autostart": 1, "address": ip, "netmask": "24", "cidr": f"{ip}/24", "bridge_ports": "eth0",
                  "bridge_stp": "off", "bridge_fd": "0", "priority": 4},
    }  # fmt: skip
    return node


def digest(config: Mapping[str, Any]) -> str:
    """The SHA-1 that PVE shows of a configuration file: it changes with every change."""
    text = "".join(f"{key}: {config[key]}\n" for key in sorted(config))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def guest_digest(guest: Guest) -> str:
    return digest({**guest.config, "-pending": guest.pending, "-delete": sorted(guest.doomed), "-s": guest.snapshots})


def new_uuid() -> str:
    return str(uuid.uuid4())
