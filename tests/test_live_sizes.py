"""What a QEMU is told when memory and CPUs come to a machine that runs, and go, and until when that is waited for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.engines.qemu import live_sizes, records, room
from nestlab.engines.qemu.live_sizes import LiveSizes
from nestlab.home.paths import Place
from nestlab.hosts.host import Host, Result
from nestlab.lab.blueprint import Spec
from nestlab.lab.model import GIB, MIB, Machine
from nestlab.plan.room import NO_ROOM, Room
from nestlab.wire.qmp import Monitor

PATHS = Place("/labs/x").of("web")
ROOM = Room(512 * MIB, 4 * GIB, 1, 8)


def wanted(memory: int = 512 * MIB, cpus: int = 1, *, container: bool = False) -> Spec:
    machine = Machine("web", memory=memory, cpus=cpus, container=container)
    return Spec("web", machine, (), "10.100.1.0/24", "k", (), "new")


class Pretended:
    """A host, a QEMU and the machine in it. The machine brings `step` bytes into use at each look, and gives up as many
    until it has `keeps`; CPUs it brings into use when it is told, and gives up at once, unless it is `deaf`."""

    def __init__(
        self, there: Room = ROOM, *, cpus: int = 1, step: int = GIB, keeps: int = 0, deaf: bool = False
    ) -> None:
        self.files = {PATHS.boot: records.with_room('{"port":20022}', there).decode(), PATHS.made: "{}"}
        self.there, self.step, self.keeps, self.deaf = there, step, keeps, deaf
        self.device: dict[str, Any] | None = None
        self.objects: list[str] = []
        self.cpus, self.used = [f"/cpu/{number}" for number in range(cpus)], cpus
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.says, self.busy = "", 0
        self.slowness, self.path = 1.0, ""

    def sizes(self) -> LiveSizes:
        async def guest() -> Host:
            return cast(Host, self)

        return LiveSizes(cast(Host, self), "web", PATHS, self.talk, guest)

    async def read(self, path: str) -> bytes:
        return self.files[path].encode()

    async def write(self, path: str, data: bytes) -> None:
        self.files[path] = data.decode()

    async def run(self, argv: Any, **_: Any) -> Result:
        self.used = len(self.cpus) if not self.deaf else self.used
        return Result(("sh",), 0, f"{self.says}{self.used}\n".encode(), b"")

    @contextlib.asynccontextmanager
    async def talk(self) -> AsyncIterator[Monitor]:
        if self.device is not None and self.busy:
            self.busy -= 1
            raise Unreachable("QEMU of web does not answer.")
        yield cast(Monitor, self)

    async def execute(self, command: str, /, **given: Any) -> Any:
        return await self.command(command, {name.replace("_", "-"): value for name, value in given.items()})

    async def command(self, command: str, given: Mapping[str, Any]) -> Any:
        match command:
            case "query-hotpluggable-cpus":
                slots = [{"type": "host-x86_64-cpu", "props": {"socket-id": n, "core-id": 0}} for n in range(8)]
                for slot, cpu in zip(slots, self.cpus, strict=False):
                    slot["qom-path"] = cpu
                return slots[::-1]
            case "query-memory-devices":
                self._progress()
                dimm = {"type": "dimm", "data": {"id": "other"}}
                return [dimm, *([{"type": "virtio-mem", "data": dict(self.device)}] if self.device else [])]
            case "query-cpus-fast":
                return [{"cpu-index": number} for number, _ in enumerate(self.cpus)]
            case "query-pci":
                return [{"devices": [{"qdev_id": room.PORT}, {}]}]
            case "qom-list":
                return [{"name": name} for name in self.objects]
        self.told.append((command, given))
        match command:
            case "object-add":
                self.objects.append(given["id"])
            case "device_add" if given["driver"] == "virtio-mem-pci":
                assert self.objects == [given["memdev"]]
                self.device = {"id": given["id"], "size": 0, "requested-size": given["requested-size"]}
            case "device_add":
                self.cpus.append(f"/cpu/{len(self.cpus)}")
            case "device_del" if not self.deaf:
                self.cpus.remove(given["id"])
            case "qom-set":
                assert self.device is not None
                self.device["requested-size"] = given["value"]
        return {}

    def _progress(self) -> None:
        if self.device is None:
            return
        size, asked = self.device["size"], self.device["requested-size"]
        nearer = min(asked, size + self.step) if size < asked else max(asked, size - self.step, min(size, self.keeps))
        self.device["size"] = nearer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sizes, "TICK", 0.001)
    monkeypatch.setattr(live_sizes, "GRACE", 0.01)
    monkeypatch.setattr(live_sizes, "SOON", 0.002)


def commands(there: Pretended) -> list[str]:
    return [command for command, _ in there.told]


async def test_memory_comes_in_one_device_that_is_plugged_in_once() -> None:
    there, said = Pretended(step=64 * MIB), list[str]()
    assert await there.sizes().settle(wanted(768 * MIB), said.append)
    assert commands(there) == ["object-add", "device_add"]
    assert there.told[0][1] == {"qom-type": "memory-backend-ram", "id": "more", "size": 4 * GIB, "reserve": False}
    assert there.told[1][1]["bus"] == room.PORT
    assert said == ["memory 512M -> 768M"]
    assert records.started(there.files[PATHS.boot]).room == replace(ROOM, plugged=True, asked=(768 * MIB, 1))
    assert records.started(there.files[PATHS.boot]).port == 20022
    there.told.clear()
    assert await there.sizes().settle(wanted(640 * MIB), said.append)
    assert there.told == [
        ("qom-set", {"path": "/machine/peripheral/more-memory", "property": "requested-size", "value": 128 * MIB})
    ]
    assert said[1:] == ["memory 768M -> 640M"]


async def test_settling_twice_tells_its_qemu_nothing() -> None:
    there = Pretended()
    for _ in range(2):
        assert await there.sizes().settle(wanted(768 * MIB, 3), print)
    assert sorted(commands(there)) == ["device_add", "device_add", "device_add", "object-add"]


async def test_what_an_interrupted_nestlab_did_is_not_done_again() -> None:
    there = Pretended()
    there.objects.append(room.BACKEND)
    assert await there.sizes().settle(wanted(768 * MIB), print)
    assert commands(there) == ["device_add"]


async def test_what_was_asked_and_not_brought_into_use_yet_is_by_the_next() -> None:
    there = Pretended(replace(ROOM, asked=(768 * MIB, 2)), cpus=2)
    there.used = 1
    there.device = {"id": room.DEVICE, "size": 256 * MIB, "requested-size": 256 * MIB}
    said = list[str]()
    assert await there.sizes().settle(wanted(768 * MIB, 2), said.append)
    assert (there.told, said, there.used) == ([], [], 2)
    assert records.started(there.files[PATHS.boot]).room.plugged, "a machine that moves has the device there, too"


async def test_a_machine_that_is_as_it_was_started_is_not_asked() -> None:
    there = Pretended()
    there.files[PATHS.made] = json.dumps({"path": "web", "digest": "new"})
    assert not await there.sizes().settle(wanted(), print)
    assert there.told == []
    assert records.started(there.files[PATHS.boot]).room == ROOM


async def test_cpus_come_into_the_sockets_that_are_empty_and_the_last_ones_go_first() -> None:
    there, said = Pretended(), list[str]()
    await there.sizes().settle(wanted(cpus=3), said.append)
    assert [given["socket-id"] for _, given in there.told] == [1, 2]
    there.told.clear()
    await there.sizes().settle(wanted(cpus=1), said.append)
    assert there.told == [("device_del", {"id": "/cpu/2"}), ("device_del", {"id": "/cpu/1"})]
    assert said == ["cpus 1 -> 3", "cpus 3 -> 1"]


async def test_memory_that_it_does_not_give_up_is_told_with_what_it_still_has() -> None:
    there = Pretended(step=64 * MIB, keeps=128 * MIB)
    await there.sizes().settle(wanted(768 * MIB), print)
    with pytest.raises(LabError, match="it still has 640M of memory") as refused:
        await there.sizes().settle(wanted(512 * MIB), print)
    assert "nestlab restart web" in str(refused.value.hint)
    assert records.started(there.files[PATHS.boot]).room.asked == (512 * MIB, 1)


async def test_a_few_pages_that_cannot_be_moved_are_no_failure() -> None:
    there, said = Pretended(step=64 * MIB, keeps=4 * MIB), list[str]()
    await there.sizes().settle(wanted(768 * MIB), said.append)
    assert await there.sizes().settle(wanted(512 * MIB), said.append)
    assert said[-1] == "it keeps 4M of that for now: it cannot move what is there"


async def test_cpus_that_it_does_not_give_up_or_use_are_told() -> None:
    there = Pretended(replace(ROOM, asked=(512 * MIB, 2)), cpus=2, deaf=True)
    with pytest.raises(LabError, match="it still has 2 CPUs"):
        await there.sizes().settle(wanted(cpus=1), print)
    there = Pretended(cpus=1, deaf=True)
    with pytest.raises(LabError, match="it still has 1 CPU"):
        await there.sizes().settle(wanted(cpus=2), print)


async def test_a_qemu_that_is_busy_with_it_is_asked_again() -> None:
    there = Pretended()
    there.busy = 2
    assert await there.sizes().settle(wanted(768 * MIB), print)
    assert there.busy == 0


async def test_a_kernel_without_the_driver_is_told_at_once() -> None:
    there = Pretended()
    there.says = "nestlab: no virtio_mem\n"
    with pytest.raises(LabError, match="no virtio_mem"):
        await there.sizes().settle(wanted(768 * MIB), print)


@pytest.mark.parametrize("odd", ["", "many\n", "9" * 5000 + "\n", "-1\n"])
async def test_what_a_guest_says_of_its_cpus_is_a_number_or_none(odd: str) -> None:
    there = Pretended(replace(ROOM, asked=(512 * MIB, 2)), cpus=2)
    there.says = odd
    with contextlib.suppress(LabError):
        await there.sizes().settle(wanted(cpus=1), print)


class Restless(Pretended):
    """Its machine says something else at each look, and takes memory and gives it back: it seems to be at work."""

    looks = 0

    async def run(self, argv: Any, **_: Any) -> Result:
        self.looks += 1
        return Result(("sh",), 0, f"{3 + self.looks % 2}\n".encode(), b"")

    def _progress(self) -> None:
        if self.device is not None:
            self.device["size"] = (self.looks % 3) * MIB


async def test_a_machine_that_says_something_else_at_each_look_keeps_nobody_waiting() -> None:
    there = Restless()
    with pytest.raises(LabError, match="does not get to what is wanted"):
        await there.sizes().settle(wanted(768 * MIB, 2), print)


async def test_a_machine_that_comes_nearer_for_ever_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sizes, "LONGEST", 3.0)
    there = Pretended(step=1)
    with pytest.raises(LabError, match="does not get to what is wanted"):
        await there.sizes().settle(wanted(4 * GIB), print)


async def test_a_container_gets_other_limits() -> None:
    there = Pretended(room.of(wanted(container=True), "kvm", by_kernel=False))
    assert await there.sizes().settle(wanted(192 * MIB, 2, container=True), print)
    assert there.told == [("nestlab-resize", {"memory": 192 * MIB, "cpus": 2})]


async def test_a_machine_without_room_stays_as_it_is_and_another_definition_is_an_error() -> None:
    there = Pretended(NO_ROOM)
    there.files[PATHS.made] = json.dumps({"path": "web", "digest": "new"})
    assert not await there.sizes().settle(wanted(768 * MIB), print)
    there.files[PATHS.made] = json.dumps({"path": "web", "digest": "old"})
    with pytest.raises(LabError, match="another definition"):
        await there.sizes().settle(wanted(768 * MIB), print)
    assert there.told == []
