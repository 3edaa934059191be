"""Pictures by RFB: of a real QEMU, of the stand-in for a Proxmox VE, and of servers that are no good."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nestlab.base import keyboard
from nestlab.base.errors import LabError, Unreachable
from nestlab.base.picture import Picture
from nestlab.cli import viewers
from nestlab.engines.pve import screens
from nestlab.engines.qemu import screen as by_qmp
from nestlab.explain import screen
from nestlab.hosts.local import LocalHost
from nestlab.testing.fake_pve import FakePve
from nestlab.wire import qmp, rfb
from nestlab.wire.passing import passing
from nestlab.wire.shapes import Odd
from pve_qemu import VMID, client, started
from test_screen_pictures import written
from test_screen_qemu import Start, start, until  # noqa: F401 - a fixture

BASE = f"/nodes/pve1/qemu/{VMID}"


class Socket:
    """A unix socket as a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.readexactly = reader.readexactly
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


class Said:
    """A server that says what it says, whatever it is told."""

    def __init__(self, said: bytes) -> None:
        self._reader = asyncio.StreamReader()
        self._reader.feed_data(said)
        self._reader.feed_eof()
        self.readexactly = self._reader.readexactly

    async def write(self, data: bytes) -> None: ...


@contextlib.asynccontextmanager
async def joined(path: Path) -> AsyncIterator[Socket]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Socket(reader, writer)
    finally:
        writer.close()


def test_the_response_is_des_with_the_bits_of_the_password_reversed() -> None:
    """Zeros under a key of zeros are a known answer of DES."""
    assert rfb.response(bytes(16), "") == bytes.fromhex("8ca64de9c1b123a7" * 2)
    assert rfb.response(bytes(16), "12345678") == rfb.response(bytes(16), "123456789 and more")


@pytest.mark.guest
async def test_a_real_qemu_shows_by_rfb_what_its_monitor_shows(start: Start, tmp_path: Path) -> None:  # noqa: F811
    path = start("-vga", "std", "-vnc", f"unix:{tmp_path}/v,password=on")
    await until(path, tmp_path, lambda text: "No bootable device" in text)
    async with joined(tmp_path / "v") as stream:
        with pytest.raises(LabError, match="screen of hv1 cannot be seen"):
            await rfb.picture(stream, "x", "hv1")
    async with qmp.connect(path) as monitor:
        await monitor.execute("set_password", protocol="vnc", password="s3cr3t!!")
        async with joined(tmp_path / "v") as stream:
            with pytest.raises(LabError, match="Authentication failed"):
                await rfb.picture(stream, "other", "hv1")
        async with joined(tmp_path / "v") as stream:
            picture = await rfb.picture(stream, "s3cr3t!!", "hv1")
        other = await by_qmp.taken(LocalHost(), monitor, str(tmp_path), "hv1")
    assert (picture.width, picture.height) == (720, 400)
    assert screen.text(picture) == screen.text(other)


@pytest.mark.guest
async def test_a_viewer_comes_in_by_127_0_0_1_with_a_password_for_once(start: Start, tmp_path: Path) -> None:  # noqa: F811
    path = start("-vga", "std", "-vnc", f"unix:{tmp_path}/v,password=on")

    async def far() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(tmp_path / "v"))

    async def seen(port: int, password: str) -> Picture:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await rfb.picture(Socket(reader, writer), password, "hv1")
        finally:
            writer.close()

    async with qmp.connect(path) as monitor, passing(0, far) as passed:
        await by_qmp.admit(monitor, "s3cr3t!!", 60, "hv1")
        assert (await seen(passed.port, "s3cr3t!!")).width > 0
        await by_qmp.admit(monitor, "0therone", 0, "hv1")
        for password in ("s3cr3t!!", "0therone"):
            with pytest.raises(LabError, match="cannot be seen"):
                await seen(passed.port, password)


@pytest.mark.guest
async def test_a_machine_without_a_vnc_server_is_one_message(start: Start) -> None:  # noqa: F811
    async with qmp.connect(start()) as monitor:
        with pytest.raises(LabError, match="no screen that can be viewed") as caught:
            await by_qmp.admit(monitor, "x", 60, "hv1")
        assert "nestlab restart hv1" in caught.value.hint


# -- viewers


def test_no_viewer_is_told_a_password_in_words_that_others_see(tmp_path: Path) -> None:
    for name in viewers.VIEWERS:
        argv, env = viewers.command(f"/usr/bin/{name}", 5901, "s3cr3t!!", "hv1", tmp_path)
        assert "s3cr3t!!" not in " ".join(argv)
        assert set(env.values()) <= {"s3cr3t!!"}
    file = tmp_path / "screen.vv"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "port=5901\npassword=s3cr3t!!\n" in file.read_text()


def test_a_viewer_is_for_a_desktop(tmp_path: Path) -> None:
    program = tmp_path / "vncviewer"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert viewers.viewer({"PATH": str(tmp_path)}) is None
    assert viewers.viewer({"PATH": str(tmp_path), "DISPLAY": ":0"}) == str(program)
    assert viewers.viewer({"PATH": "/nonexistent", "WAYLAND_DISPLAY": "wayland-0"}) is None


# -- a Proxmox VE


async def test_a_proxmox_ve_shows_the_screen_by_its_api_alone() -> None:
    shown = written("login:")
    with FakePve() as pve:
        started(pve)
        pve.world.guests[VMID].screen = shown
        async with client(pve) as api:
            assert await screens.taken(api, BASE, "hv1") == shown
        asked = pve.calls("POST", "vncproxy")[-1].params
        assert {str(key): int(value) for key, value in asked.items()} == {"websocket": 1, "generate-password": 1}


async def test_keys_are_pressed_by_sendkey_in_qemus_words() -> None:
    with FakePve() as pve:
        started(pve)
        async with client(pve) as api:
            await screens.press(api, BASE, keyboard.typed("A!\n"), "hv1")
        assert pve.world.guests[VMID].keys == [("shift", "a"), ("shift", "1"), ("ret",)]


async def test_a_machine_there_that_has_only_a_serial_port_is_one_message() -> None:
    with FakePve() as pve:
        started(pve, vga="serial0")
        async with client(pve) as api:
            with pytest.raises(LabError, match="hv1 has no screen"):
                await screens.taken(api, BASE, "hv1")
            with pytest.raises(LabError, match="hv1 has no screen"):
                await screens.press(api, BASE, keyboard.typed("x"), "hv1")
        assert not pve.calls("POST", "vncproxy")


# -- servers that are no good

HELLO = b"RFB 003.008\n\1\1" + bytes(4)


def init(width: int, height: int) -> bytes:
    return HELLO + struct.pack(">HH", width, height) + bytes(16) + struct.pack(">I", 0)


def rectangle(left: int, top: int, width: int, height: int, encoding: int = 0) -> bytes:
    return struct.pack(">BxH", 0, 1) + struct.pack(">HHHHi", left, top, width, height, encoding)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"HTTP/1.1 200 OK\r\n", "does not greet"),
        (b"RFB 003.008\n\1\x13", "more than a password"),
        (b"RFB 003.008\n\0" + struct.pack(">I", 1 << 31), "a text of"),
        (init(0, 5), "its screen is 0x5"),
        (init(65535, 65535), "its screen is 65535x65535"),
        (init(2, 2) + rectangle(1, 0, 2, 1), "beside its screen"),
        (init(2, 2) + rectangle(0, 0, 2, 2, 7), "was not asked for"),
        (init(2, 2) + b"\x63", "unknown kind 99"),
        (init(2, 2) + b"\3\0\0\0" + struct.pack(">I", 1 << 30), "a text of"),
        (init(2, 2) + rectangle(0, 0, 9, 65535, -223), "its screen is 9x65535"),
    ],
)
async def test_what_no_server_says_is_odd(said: bytes, what: str) -> None:
    with pytest.raises(Odd, match=what):
        await rfb.picture(Said(said), "x", "hv1")


async def test_a_server_that_goes_on_without_a_picture_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfb, "MOST", 10_000)
    with pytest.raises(Odd, match="without end"):
        await rfb.picture(Said(init(2, 2) + b"\2" * 20_000), "x", "hv1")


async def test_a_server_that_ends_or_is_silent_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="ended"):
        await rfb.picture(Said(init(2, 2)[:-1]), "x", "hv1")
    monkeypatch.setattr(rfb, "IN_TIME", 0.05)
    silent = Said(b"")
    silent.readexactly = asyncio.StreamReader().readexactly
    with pytest.raises(Unreachable, match="did not come within"):
        await rfb.picture(silent, "x", "hv1")


async def test_a_screen_that_changes_its_size_is_asked_again() -> None:
    pixels = bytes([1, 2, 3, 0]) * 2
    said = init(5, 5) + rectangle(0, 0, 2, 1, -223) + rectangle(0, 0, 2, 1) + pixels
    assert await rfb.picture(Said(said), "x", "hv1") == Picture(2, 1, bytes([3, 2, 1] * 2))
