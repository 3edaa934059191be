"""Consoles of machines on a Proxmox VE, over websockets of the fake one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios
from collections.abc import AsyncIterator, Iterator

import pytest

from nestlab.base.errors import LabError, Unreachable
from nestlab.hosts import terminal
from nestlab.testing.fake_pve import FakePve, Guest, consoles
from nestlab.wire.pve import console
from nestlab.wire.pve.client import Pve
from nestlab.wire.pve.login import Password
from nestlab.wire.pve.trust import Trust
from pve_qemu import VMID, client, started
from waiting import until


@pytest.fixture
def pve() -> Iterator[FakePve]:
    with FakePve() as fake:
        yield fake


@contextlib.asynccontextmanager
async def joined(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()


def opened(pve: FakePve) -> consoles.Console:
    return list(pve.world.consoles.values())[-1]


async def test_what_is_typed_arrives_byte_by_byte_and_what_is_shown_comes_back(pve: FakePve) -> None:
    started(pve)
    everything = bytes(range(256)).replace(b"\x04", b"") * 300
    async with client(pve) as api, console.attached(api, "pve1", VMID) as path, joined(path) as (reader, writer):
        assert await reader.readline() == consoles.GREETING
        writer.write(everything)
        assert await reader.readexactly(len(everything)) == everything
    assert opened(pve).typed == everything
    assert [call.params.get("serial") for call in pve.calls("POST", "termproxy")] == ["serial0"]


async def test_the_socket_ends_when_the_console_does_and_it_when_we_leave(pve: FakePve) -> None:
    started(pve)
    async with client(pve) as api:
        async with console.attached(api, "pve1", VMID) as path, joined(path) as (reader, writer):
            writer.write(b"bye\x04")
            assert await reader.read() == consoles.GREETING + b"bye\x04"
        async with console.attached(api, "pve1", VMID) as path:
            assert os.path.exists(path)  # noqa: PTH110
    assert not os.path.exists(path)  # noqa: PTH110
    with pytest.raises(FileNotFoundError):
        await asyncio.open_unix_connection(path)


async def test_the_size_of_our_terminal_is_kept_there_and_pings_keep_the_connection(
    pve: FakePve, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(pve)
    monkeypatch.setattr(console, "PING", 0.05)
    monkeypatch.setattr(console, "LOOK", 0.02)
    sizes = [(80, 24)]
    async with client(pve) as api, console.attached(api, "pve1", VMID, size=lambda: sizes[-1]):
        await until(lambda: opened(pve).sizes == [(80, 24)])
        sizes.append((132, 43))
        await until(lambda: opened(pve).sizes == [(80, 24), (132, 43)] and opened(pve).pings > 2)
    assert opened(pve).typed == b""


async def test_this_terminal_joins_it_and_leaves_by_control_bracket(pve: FakePve) -> None:
    started(pve)
    ours, theirs = pty.openpty()
    read, write = os.pipe()
    try:
        async with client(pve) as api, console.attached(api, "pve1", VMID) as path:
            joining = asyncio.ensure_future(terminal.attach(path, source=theirs, sink=write))
            # until it has its terminal raw, Ctrl-C would interrupt
            await until(lambda: not termios.tcgetattr(theirs)[3] & termios.ICANON)
            os.write(ours, b"\x03ls\r")
            await until(lambda: opened(pve).typed == b"\x03ls\r")
            os.write(ours, terminal.ESCAPE)
            await joining
        assert os.read(read, 1000).startswith(consoles.GREETING)
    finally:
        for descriptor in (ours, theirs, read, write):
            os.close(descriptor)


async def test_keys_wait_until_something_was_shown(pve: FakePve) -> None:
    """Before, they would be for the terminal on the node, whose Ctrl-C ends `qm terminal`."""
    started(pve)
    async with client(pve) as api, console.attached(api, "pve1", VMID) as path, joined(path) as (_, writer):
        begun = asyncio.get_running_loop().time()
        writer.write(b"\x03")
        await until(lambda: opened(pve).typed == b"\x03")
        assert asyncio.get_running_loop().time() - begun > 0.8 * console.SETTLE


async def test_only_one_sits_at_a_console(pve: FakePve) -> None:
    started(pve)
    async with (
        client(pve) as api,
        console.attached(api, "pve1", VMID) as path,
        joined(path) as (reader, _),
        joined(path) as (second, _),
    ):
        assert await second.read() == b""
        assert await reader.readline() == consoles.GREETING


async def test_a_container_has_a_terminal_without_a_serial_port(pve: FakePve) -> None:
    pve.world.guests[200] = Guest(200, "pve1", "lxc", config={"hostname": "ct"}, running=True)
    async with client(pve) as api, console.attached(api, "pve1", 200, "lxc") as path, joined(path) as (reader, _):
        assert await reader.readline() == consoles.GREETING
    assert [call.params for call in pve.calls("POST", "termproxy")] == [{}]


async def test_a_machine_without_a_serial_port_is_told_with_the_command_that_gives_it_one(pve: FakePve) -> None:
    started(pve, serial0="/dev/ttyS0")
    async with client(pve) as api:
        with pytest.raises(LabError, match="hv1 has no serial console") as error:
            async with console.attached(api, "pve1", VMID, where="hv1"):
                pass
    assert f"qm set {VMID} --serial0 socket" in error.value.hint
    assert pve.calls("POST", "termproxy") == []


async def test_a_machine_that_is_off_has_no_console(pve: FakePve) -> None:
    started(pve)
    pve.vms[VMID].running = False
    async with client(pve) as api:
        with pytest.raises(Unreachable, match="VM 100 does not run"):
            async with console.attached(api, "pve1", VMID):
                pass


async def test_a_terminal_that_does_not_let_us_in_says_to_whom(pve: FakePve, monkeypatch: pytest.MonkeyPatch) -> None:
    started(pve)
    monkeypatch.setattr(consoles.Console, "show", lambda self, reading, writing: None)
    async with client(pve) as api:
        with pytest.raises(LabError, match=r"did not open the console of VM 100 to root@pam!lab") as error:
            async with console.attached(api, "pve1", VMID):
                pass
    assert "to API tokens since qemu-server 9.1.7" in error.value.hint


async def test_a_ticket_that_is_refused_is_an_error_of_pve(pve: FakePve) -> None:
    started(pve)
    pve.fail_next("/vncwebsocket", 401, "permission denied - invalid PVEVNC ticket", times=2)
    async with client(pve) as api:
        with pytest.raises(LabError, match="invalid PVEVNC ticket"):
            async with console.attached(api, "pve1", VMID):
                pass


async def test_a_missing_privilege_is_named(pve: FakePve) -> None:
    started(pve)
    pve.token = pve.add_token("lab@pve", "few", {"/vms": "VM.Audit"})
    async with client(pve) as api:
        with pytest.raises(LabError, match=r"VM\.Console"):
            async with console.attached(api, "pve1", VMID):
                pass


async def test_the_websocket_is_to_the_pinned_certificate_alone(pve: FakePve) -> None:
    """What is asked first goes over kept connections: here the websocket is the first."""
    started(pve)
    real = pve.fingerprint
    pve.fingerprint = ":".join(["AA"] * 32)
    async with client(pve) as api:
        with pytest.raises(LabError, match="certificate"):
            await api.websocket(f"/nodes/pve1/qemu/{VMID}/vncwebsocket", {"port": 5900, "vncticket": "x"})
    assert pve.requests == []
    pve.fingerprint = real


async def test_it_works_with_a_password_too(pve: FakePve) -> None:
    started(pve)
    login, believed = Password(pve.user, pve.password), Trust.of(pve.fingerprint)
    async with (
        Pve("127.0.0.1", login, believed, port=pve.port) as api,
        console.attached(api, "pve1", VMID) as path,
        joined(path) as (reader, _),
    ):
        assert await reader.readline() == consoles.GREETING
    assert opened(pve).user == "root@pam"
