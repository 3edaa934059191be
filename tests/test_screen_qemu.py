"""The screen and the keyboard of real QEMUs, without any system in them: firmware and boot sectors of 512 bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import boot_sector
from nestlab.base import keyboard
from nestlab.base.errors import LabError
from nestlab.base.picture import alike
from nestlab.engines.qemu import screen as screens
from nestlab.explain import screen
from nestlab.explain.stillness import Stillness
from nestlab.hosts.local import LocalHost
from nestlab.images.qemu_runtime import Tool
from nestlab.wire import qmp
from test_screen_pictures import of_png
from waiting import LONG

pytestmark = pytest.mark.guest

ECHO = bytes.fromhex("b80300cd10 31c0cd16b40ebb0700cd10ebf3".replace(" ", ""))
"""Sets a text screen, and from then on shows what is typed: int 16h, ah=0; int 10h, ah=0Eh."""

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path, qemu_tool: Tool) -> Iterator[Start]:
    """Starts a QEMU with words of its own, and gives the path of its monitor."""
    running = []

    def begin(*words: str) -> str:
        path = tmp_path / "q"
        base = [
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-m",
            "32",
            "-qmp",
            f"unix:{path},server=on,wait=off",
        ]
        process = subprocess.Popen([*qemu_tool.argv, *base, *words], env={**os.environ, **qemu_tool.env})
        running.append(process)
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(str(path))
                return str(path)
            time.sleep(0.01)
        raise TimeoutError

    yield begin
    for process in running:
        process.kill()
        process.wait()


def sector(folder: Path, code: bytes) -> str:
    file = folder / "boot.img"
    file.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    return f"file={file},format=raw,if=ide"


async def until(path: str, folder: Path, holds: Callable[[str], bool]) -> str:
    """The text of the screen, once it is as wished."""
    text = ""
    async with qmp.connect(path) as monitor, asyncio.timeout(LONG):
        while not holds(text):
            await asyncio.sleep(0.2)
            text = "\n".join(screen.text(await screens.taken(LocalHost(), monitor, str(folder), "hv1")))
    return text


async def test_the_firmwares_screen_is_read_and_its_end_known(start: Start, tmp_path: Path) -> None:
    path = start("-vga", "std")
    text = await until(path, tmp_path, lambda text: "No bootable device" in text)
    assert text.startswith("SeaBIOS")
    async with qmp.connect(path) as monitor:
        picture = await screens.taken(LocalHost(), monitor, str(tmp_path), "hv1")
        await asyncio.sleep(1)
        again = await screens.taken(LocalHost(), monitor, str(tmp_path), "hv1")
    assert screen.end(picture) == "nothing on its disks boots"
    assert of_png(picture.png) == picture
    assert alike(picture, again)
    assert not list(tmp_path.glob("*.ppm"))


async def test_what_is_typed_is_seen(start: Start, tmp_path: Path) -> None:
    path = start("-vga", "std", "-drive", sector(tmp_path, ECHO))
    await until(path, tmp_path, lambda text: not text.strip())
    line = "Hello, World: `~1!2@3#4$5%6^7&8*9(0)-_=+[{]}\\|;:'\".<>/?"
    async with qmp.connect(path) as monitor:
        for _ in range(50):  # the firmware empties the keyboard before it starts the boot sector
            await screens.press(monitor, keyboard.typed("x"), 0.06, "hv1")
            picture = await screens.taken(LocalHost(), monitor, str(tmp_path), "hv1")
            if "".join(screen.text(picture)).strip("x") == "" and screen.text(picture):
                break
        await screens.press(monitor, keyboard.typed(line), 0.06, "hv1")
    assert await until(path, tmp_path, lambda text: text.endswith("?"))
    assert (await until(path, tmp_path, lambda text: line in text)).strip("x").startswith("Hello")


async def test_a_machine_without_a_screen_is_one_message(start: Start, tmp_path: Path) -> None:
    async with qmp.connect(start()) as monitor:
        with pytest.raises(LabError, match="hv1 has no screen") as caught:
            await screens.taken(LocalHost(), monitor, str(tmp_path), "hv1")
        assert "display: true" in caught.value.hint
        with pytest.raises(LabError, match="hv1 has no screen"):
            await screens.press(monitor, keyboard.typed("a"), 0.0, "hv1")


async def stands(path: str, folder: Path, holds: Callable[[str], bool]) -> list[bool]:
    """Whether a machine counts as up by its screen, once it shows what is wished and has stood still for a second."""
    await until(path, folder, holds)
    still, found = Stillness(1.0), []
    async with qmp.connect(path) as monitor:
        for now in range(4):
            found.append(still.look(await screens.taken(LocalHost(), monitor, str(folder), "hv1"), float(now)))
    return found


async def test_the_firmwares_last_word_is_no_system_that_is_up(start: Start, tmp_path: Path) -> None:
    assert not any(await stands(start("-vga", "std"), tmp_path, lambda text: "No bootable device" in text))


async def test_a_system_that_shows_something_and_stays_so_is_up(start: Start, tmp_path: Path) -> None:
    path = start("-vga", "std", "-drive", sector(tmp_path, boot_sector.shows(b"Welcome")))
    assert await stands(path, tmp_path, lambda text: text == "Welcome") == [False, True, True, True]


async def test_an_empty_screen_is_no_system_that_is_up(start: Start, tmp_path: Path) -> None:
    path = start("-vga", "std", "-drive", sector(tmp_path, boot_sector.shows(b"    ")))
    assert not any(await stands(path, tmp_path, lambda text: not text.strip()))
