"""Debian's own installer in a real machine, from its netboot package, answered by nestlab."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from nestlab.answers import Answers
from nestlab.base.errors import LabError
from nestlab.home.directories import Home
from nestlab.images import firmware_files
from nestlab.images.qemu_runtime import choose_qemu
from nestlab.install.installation import Job, Life, Means, install, shown_by
from nestlab.install.runner import END, end_of

CACHE = Home.of(os.environ, Path.home()).cache


@pytest.mark.slow
async def test_debians_installer_takes_its_answers_and_says_which_file_its_mirror_lacks(tmp_path: Path) -> None:
    """It comes as far as the mirror, and the mirror, which is of this test, has nothing."""
    asked: list[str] = []

    async def nothing(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{path:.*}", nothing)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    said: list[str] = []
    runtime = await choose_qemu("tcg", CACHE, lambda _: None)
    means = Means(runtime.qemu, runtime.qemu_img, "tcg", 1.0, partial(firmware_files.pack, CACHE))
    job = Job("lab.yaml:3: image server", "debian", Answers(), mirror=f"http://127.0.0.1:{port}/debian")
    made = tmp_path / "made"
    made.mkdir()
    try:
        with pytest.raises(LabError) as error:
            await install(
                job,
                made / "disk.qcow2",
                CACHE,
                means,
                said.append,
            )
    finally:
        await runner.cleanup()
    text = str(error.value)
    assert text.startswith("lab.yaml:3: image server: Debian's installer asks something that it was not answered after")
    assert "mirror: 404 dists/trixie/Release" in text
    assert "the installer has its answers" in said
    assert "/debian/dists/trixie/InRelease" in asked
    assert not (made / "i").exists()


def test_what_a_console_shows_is_read_without_its_clock(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    clock = b"\x1b[0m[\x1b[37m (1*installer)  2 shell  3 shell ][ Nov 30  2:%02d ]"
    console.write_bytes(b"Choose:\nPrompt: '?' for help, default=1> " + clock % 1)
    before = shown_by(end_of(console))
    with console.open("ab") as file:
        file.write(clock % 2)
    assert shown_by(end_of(console)) == before == b"Choose:\nPrompt: '?' for help, default=1>"


async def test_a_clock_that_goes_on_below_a_question_is_no_sign_of_life(tmp_path: Path) -> None:
    """However long: it pushes what is above the question, and at last the question, out of what is looked at."""
    console, life = tmp_path / "console.log", Life()
    life.since = 0.0
    console.write_bytes(b"".join(b"\x1b[32mline %d of what was said before\r\n" % line for line in range(400)))
    with console.open("ab") as file:
        file.write(b"Downloading a file failed:\r\n  1: Retry [*]\r\nPrompt: '?' for help, default=1> ")
    assert life.seen(1.0, shown_by(end_of(console))) == 0.0
    clock = b"\x1b[H\x1b[32m[   (\x1b[37m1*installer\x1b[31m)  2 shell  3 shell  4- log   ][ Nov 30  2:%02d ]\r\x1b[17B"
    minutes = 2 * END // len(clock)
    silent = [0.0]
    for minute in range(2, minutes):
        with console.open("ab") as file:
            file.write(clock % (minute % 60))
        silent.append(life.seen(float(minute), shown_by(end_of(console))))
    assert silent == [float(each) for each in range(len(silent))]
    with console.open("ab") as file:
        file.write(b"1\r\nDownloading: 5%")
    assert life.seen(minutes + 1.0, shown_by(end_of(console))) == 0.0
