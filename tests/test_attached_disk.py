"""What a QEMU is told when a disk is attached to a running machine, and when it is taken away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu import attached_disk
from nestlab.engines.qemu.argv import HOTPLUG_PORT
from nestlab.wire.qmp import Monitor


class Pretended:
    """A QEMU's monitor with block nodes and devices. `port`: it has the free port; `refuses`: commands it does not
    do; `deaf`: its guest never lets go of a device; `slow`: it does when asked so many times more."""

    def __init__(self, *, port: bool = True, refuses: str = "", deaf: bool = False, slow: int = 0) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.port, self.refuses, self.deaf = port, refuses, deaf
        self.slow = slow
        self.open = 0
        self._events: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def talk(self) -> AsyncIterator[Monitor]:
        assert self.open == 0, "a monitor takes one conversation at a time"
        self.open += 1
        try:
            yield cast(Monitor, self)
        finally:
            self.open -= 1

    @contextlib.asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        assert names == ("DEVICE_DELETED",)

        async def each() -> AsyncIterator[Mapping[str, Any]]:
            while True:
                yield await self._events.get()

        yield each()

    async def execute(self, command: str, /, **given: Any) -> Any:
        if command == self.refuses:
            raise LabError(f"QEMU refused {command}")
        match command:
            case "query-named-block-nodes":
                return [{"node-name": name} for name in ("#block1", *self.nodes)]
            case "query-pci":
                return [{"devices": [{"qdev_id": HOTPLUG_PORT if self.port else ""}, {}]}]
            case "blockdev-add":
                self.nodes[given["node_name"]] = given
            case "device_add":
                assert given["drive"] in self.nodes
                self.devices[given["id"]] = given
            case "device_del":
                if given["id"] not in self.devices:
                    raise LabError("there is no such device")
                self.slow -= 1
                if not self.deaf and self.slow < 0:
                    del self.devices[given["id"]]
                    self._events.put_nowait({"data": {"path": "/virtio-backend"}})
                    self._events.put_nowait({"data": {"device": given["id"]}})
            case "blockdev-del":
                if any(each["drive"] == given["node_name"] for each in self.devices.values()):
                    raise LabError("the node is in use")
                del self.nodes[given["node_name"]]
            case _:
                raise AssertionError(command)
        return {}


async def test_a_disk_is_there_while_the_context_is_open_and_gone_after() -> None:
    qemu = Pretended()
    async with attached_disk.attached(qemu.talk, "/labs/a/file", "abc", writable=False):
        [node] = qemu.nodes.values()
        assert node["file"] == {"driver": "file", "filename": "/labs/a/file", "read-only": True}
        [device] = qemu.devices.values()
        assert (device["serial"], device["bus"]) == ("abc", HOTPLUG_PORT)
        assert qemu.open == 0  # others may ask it meanwhile
    assert (qemu.nodes, qemu.devices) == ({}, {})


async def test_a_block_device_goes_on_as_one_to_the_bus_that_there_is() -> None:
    qemu = Pretended(port=False)
    async with attached_disk.attached(qemu.talk, "/dev/vdc", "abc", writable=True):
        [node] = qemu.nodes.values()
        assert node["file"] == {"driver": "host_device", "filename": "/dev/vdc", "read-only": False}
        assert all("bus" not in each for each in qemu.devices.values())


async def test_a_machine_that_takes_no_device_is_left_as_it_was() -> None:
    qemu = Pretended(refuses="device_add")
    with pytest.raises(LabError, match="refused device_add"):
        async with attached_disk.attached(qemu.talk, "/f", "abc", writable=False):
            raise AssertionError
    assert qemu.nodes == {}


async def test_what_a_killed_copy_left_is_taken_away_first() -> None:
    qemu = Pretended()
    lost = attached_disk.attached(qemu.talk, "/f", "old", writable=False)
    await lost.__aenter__()
    async with attached_disk.attached(qemu.talk, "/f", "new", writable=False):
        assert [each["serial"] for each in qemu.devices.values()] == ["new"]
    with contextlib.suppress(LabError, KeyError):
        await lost.__aexit__(None, None, None)


async def test_a_guest_that_takes_its_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached_disk, "MOMENT", 0.01)
    qemu = Pretended(slow=3)
    async with attached_disk.attached(qemu.talk, "/f", "abc", writable=False):
        pass
    assert (qemu.nodes, qemu.devices) == ({}, {})


async def test_a_guest_that_does_not_let_go_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached_disk, "GRACE", 0.0)
    monkeypatch.setattr(attached_disk, "MOMENT", 0.01)
    qemu = Pretended(deaf=True)
    async with attached_disk.attached(qemu.talk, "/f", "abc", writable=False):
        pass
    assert len(qemu.nodes) == 1
