"""Machines inside a node of nestlab's, on a FakePve that stands for the node's own Proxmox VE: its pvedaemon, reached
as over ssh, and what is typed on the node."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import blueprints
from nestlab.base.errors import Unreachable
from nestlab.engines.pve import node_ports
from nestlab.engines.pve.environment import Environment
from nestlab.engines.pve.node_containers import NodeTemplates
from nestlab.engines.pve.node_engine import NodeEngine
from nestlab.engines.pve.protocols import Door
from nestlab.engines.pve.tags import LabNames, Mark
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host, Result
from nestlab.images.image_files import ImageFiles, ImageStore
from nestlab.lab.blueprint import Blueprint
from nestlab.lab.model import Image, Machine
from nestlab.lab.places import Pve
from nestlab.plan.steps import Boot, Create
from nestlab.testing.fake_pve import FakePve
from nestlab.testing.fake_pve.forms import Upload
from nestlab.wire.pve.daemon import PORT, Daemon, Node
from pve_lab import QUICK, Inside, PretendDoor, PretendStock

VZ = "/var/lib/vz/"
CONTENTS = {"template/cache": "vztmpl", "template/iso": "iso", "import": "import"}


@dataclass
class NodeHost:
    """The node as a host: what nestlab types there, and pvedaemon's port."""

    fake: FakePve
    port: int
    path: str = "pve1"
    slowness: float = 1.0
    files: dict[str, bytes] = field(default_factory=dict)
    told: dict[int, dict[str, bytes]] = field(default_factory=dict)
    """By container: the files of the identity that it was told last."""
    typed: list[tuple[str, ...]] = field(default_factory=list)
    relays: dict[int, str] = field(default_factory=dict)
    """Its ports that lead to machines, each with the line that it is remembered by."""
    taken: set[int] = field(default_factory=set)
    """Its ports at which something else listens."""
    away: int = 0
    """Connections that pvedaemon does not take yet."""
    states: str = "activating"
    """Of its services, while pvedaemon is away."""

    @property
    def level(self) -> int:
        return 1

    async def tcp(self, port: int) -> tuple[Any, Any]:
        assert port == PORT
        if self.away > 0:
            self.away -= 1
            raise Unreachable(f"Port {port} of {self.path} takes no connection.", hint="")
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> Result:
        self.typed.append(tuple(argv))
        status, out = await asyncio.to_thread(self.answer, list(argv), input or b"")
        assert status == 0 or not check, argv
        return Result(tuple(argv), status, out.encode(), b"")

    def answer(self, argv: list[str], given: bytes) -> tuple[int, str]:
        match argv:
            case ["perl", "-e", _]:
                with self.fake.world.lock:
                    return 0, "\n".join([*self.fake.world.access.ticket("root@pam"), ""])
            case ["mkdir", "-p", "--", _]:
                return 0, ""
            case ["test", "-s", place]:
                return int(place not in self.files), ""
            case ["sha256sum", "--", place]:
                return 0, f"{hashlib.sha256(self.files[place]).hexdigest()}  {place}\n"
            case ["sh", "-c", script] if script == node_ports.ALL:
                return 0, "".join(f"{line}\n" for line in self.relays.values())
            case ["sh", "-c", _, "add", bind, local, _, port, path, known_as]:
                if int(local) in self.taken or int(local) in self.relays:
                    return node_ports.TAKEN, ""
                self.relays[int(local)] = f"{path} {bind} {local} {known_as} {port}"
                return 0, ""
            case ["sh", "-c", _, "remove", local]:
                self.relays.pop(int(local), None)
                return 0, ""
            case ["sh", "-c", _, "state", *units]:
                return 0, "".join(f"{unit} {self.states}\n" for unit in units)
            case ["sh", "-c", _, "pack", device, place]:
                self.keep(place, device.encode() + given)
                return 0, ""
            case ["lxc-attach", "--clear-env", "-n", vmid, "--", "/bin/sh", "-c", _]:
                assert self.fake.world.guests[int(vmid)].running
                with tarfile.open(fileobj=io.BytesIO(given)) as tar:
                    self.told[int(vmid)] = {each.name: cast(Any, tar.extractfile(each)).read() for each in tar}
                return 0, ""
        raise AssertionError(argv)

    async def put(self, source: Path, path: str, *, mode: int = 0o600) -> None:
        assert mode == 0o600
        await asyncio.to_thread(self.keep, path, source.read_bytes())

    def keep(self, path: str, data: bytes) -> None:
        """A file that is written to where a storage keeps such files is on it."""
        self.files[path] = data
        folder, _, name = path.removeprefix(VZ).rpartition("/")
        given = {"content": CONTENTS[folder], "filename": name}
        place = f"/nodes/{self.path}/storage/local/upload"
        self.fake.ask("POST", place, "root@pam", given, Upload(name, data))


class Library:
    """Images whose files nobody reads."""

    async def artifacts(self, key: str, image: Image) -> ImageFiles:
        return ImageFiles(key, {"root": Path("/nonexistent/root")})


class OnBoard(NodeTemplates):
    """Templates, of a node that was handed the image's disk."""

    def __init__(self, api: Daemon, host: NodeHost) -> None:
        super().__init__(api, cast(Host, host), cast(ImageStore, Library()))
        self._cargo = cast(Any, self)

    async def files(self, artifacts: ImageFiles, say: Any) -> dict[str, str]:
        return {"root": "/dev/vdc"}


class Bare:
    """The engine of what runs on the node without Proxmox VE."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def perform(self, step: Any, blueprint: Blueprint, say: Any) -> None:
        self.done.append(step.id)

    async def host(self, path: str) -> Any:
        return SimpleNamespace(path=f"bare {path}")

    async def accel(self, path: str) -> str:
        return "kvm"

    async def close(self) -> None:
        self.done.append("close")


class LetIn:
    """A machine that lets in whoever comes, while it runs."""

    slowness = 1.0

    def __init__(self, fake: FakePve, vmid: int, path: str) -> None:
        self.fake, self.vmid, self.path = fake, vmid, path
        self.ran: list[tuple[str, ...]] = []

    async def run(self, argv: Sequence[str], **_: Any) -> Result:
        guest = self.fake.world.guests.get(self.vmid)
        if guest is None or not guest.running:
            raise Unreachable(f"{self.path} does not answer.", hint="")
        self.ran.append(tuple(argv))
        return Result(tuple(argv), 0, b"", b"")

    async def close(self) -> None:
        """There is nothing to close."""


class Engine(NodeEngine):
    """Its machines let in whoever comes, once they run."""

    def _reach(self, found: Any) -> Host:
        super()._reach(found)  # it can be reached at all
        fake = cast(NodeHost, self.node).fake
        return cast(Host, LetIn(fake, found.guest.vmid, found.mark.path))


@dataclass
class NodeBench:
    fake: FakePve
    node: NodeHost
    folder: Path
    bare: Bare = field(default_factory=Bare)
    said: list[str] = field(default_factory=list)
    built: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.inside = Inside(self.fake)

    def engine(self, lab: str = "lab", at: NodeHost | None = None, **rest: Any) -> Engine:
        """Of what is in the node, or in another one of its cluster."""
        there = at or self.node
        api, on = Daemon(cast(Node, there), patience=QUICK), Pve("pve1")

        def door(node: str, vmid: int, path: str) -> Door:
            return Answering(self.inside, lab, vmid)

        def host(node: str, vmid: int, path: str, user: str, direct: bool) -> Host:
            return cast(Host, LetIn(self.fake, vmid, path))

        names = LabNames(lab, parent=there.path)
        stock = PretendStock(api, replace(on, pool="nestlab"), self.built)
        made = Environment(lab, on, api, LabKeys(self.folder / lab), stock, door, host, names=names, **rest)
        node, templates = cast(Host, there), OnBoard(api, there)
        return Engine(environment=made, node=node, templates=templates, bare=cast(Any, self.bare))

    def say(self, text: str) -> None:
        self.said.append(text)

    async def up(self, lab: Blueprint, path: str, engine: Engine | None = None) -> Engine:
        engine = engine or self.engine()
        await engine.perform(Create("", path), lab, self.say)
        await engine.perform(Boot("", path), lab, self.say)
        return engine


class Answering(PretendDoor):
    """The agent of a machine right inside the node."""

    async def wait(self, timeout: float, alive: Any = None) -> None:
        if alive is not None and not await alive():
            raise Unreachable("It stopped.", hint="See its console.")


def node(*inside: Machine, on: Sequence[str] = ("wire",)) -> Machine:
    """A node with machines in it."""
    return replace(
        blueprints.hypervisor("pve1", *inside, on=on, memory=2048), hypervisor="pve", image=Image(base="pve")
    )


def container(name: str, *, on: Sequence[str] = ("wire",)) -> Machine:
    return replace(blueprints.guest(name, on=on), container=True, image=Image(base="debian"))


def draft(*inside: Machine, hosts: str | None = "before") -> Blueprint:
    return blueprints.draft("lab", node(*inside), hosts=hosts)


def mark_of(bench: NodeBench, path: str) -> tuple[Any, Mark]:
    """The guest with a machine's mark, and the mark."""
    from nestlab.engines.pve import tags

    for guest in bench.fake.vms.values():
        mark = tags.read(str(guest.config.get("description", "")), guest.vmid)
        if mark is not None and mark.path == path and not mark.making:
            return guest, mark
    raise KeyError(path)


@asynccontextmanager
async def bench(
    folder: Path, version: str = "9.1", nodes: tuple[str, ...] = ("pve1",), **rest: Any
) -> AsyncIterator[NodeBench]:
    """A node as it is when it has booted for the first time: no pool, and no storage that takes imports."""
    with FakePve(nodes=nodes, version=version) as fake, fake.daemon() as port:
        with fake.world.lock:
            for each in fake.world.nodes.values():
                each.services.clear()
                each.bridges.setdefault("vmbr0", {"type": "bridge", "iface": "vmbr0", "active": 1})
        yield NodeBench(fake, NodeHost(fake, port, **rest), folder)
