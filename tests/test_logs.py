"""The consoles that are kept of a machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.cli.logs import Lines
from nestlab.home.paths import Place
from nestlab.hosts.local import LocalHost
from nestlab.labfile import parse_text
from nestlab.verbs import logs
from test_ready_labfile import settled


def machine(root: Path, **consoles: str) -> Place:
    place = Place(str(root))
    folder = Path(place.of("hv1").root)
    folder.mkdir(parents=True)
    for number, (name, text) in enumerate(consoles.items()):
        path = folder / f"{name.replace('_', '.')}.log"
        path.write_text(text)
        os.utime(path, (1000 + number, 1000 + number))
    return place


async def said(place: Place, number: int) -> list[bytes]:
    host = LocalHost()
    boot = logs.chosen(await logs.boots(host, place, "hv1"), number, "hv1")
    async with logs.lines(host, boot, follow=False) as lines:
        return [line async for line in lines]


async def test_boots_are_counted_from_the_oldest_and_from_the_last(tmp_path: Path) -> None:
    consoles = {f"console_{number}": f"boot {number}\n" for number in range(1, 11)}
    place = machine(tmp_path, **consoles, console="the last\nhas two lines\n")
    boots = await logs.boots(LocalHost(), place, "hv1")
    assert [boot.number for boot in boots] == list(range(1, 12))
    assert boots[0].size == len("boot 1\n")
    assert await said(place, 2) == [b"boot 2"]
    assert await said(place, 10) == [b"boot 10"]
    assert await said(place, 0) == [b"the last", b"has two lines"]
    assert await said(place, -1) == [b"boot 10"]


async def test_a_boot_that_is_not_kept_is_an_error_that_says_which_are(tmp_path: Path) -> None:
    place = machine(tmp_path, console_1="a", console="b")
    with pytest.raises(LabError, match="hv1 has no boot 3") as caught:
        await said(place, 3)
    assert "1 to 2" in caught.value.hint


SERVED = """
lab: served
segments: {wire: {netboot: {image: tiny}}, idle: }
machines:
  web: {image: none, disk: 1G, boot: [network], segments: [wire, idle]}
"""


async def test_what_a_segment_served_is_shown_as_a_console_is(tmp_path: Path) -> None:
    blueprint, place = settled(parse_text(SERVED, environ={})), Place(str(tmp_path))
    for segment, words in (
        ("none", "has no segment none"),
        ("idle", "serves nothing"),
        ("wire", "not served anything"),
    ):
        with pytest.raises(LabError, match=words) as caught:
            await logs.netboot(blueprint, segment, LocalHost(), place)
        assert caught.value.hint
    (tmp_path / "switch").mkdir()
    (tmp_path / "switch/wire.netboot.log").write_text("10.77.0.2, ipxe, told to load boot.ipxe\nGET kernel: 200\n")
    async with logs.lines(
        LocalHost(), await logs.netboot(blueprint, "wire", LocalHost(), place), follow=False
    ) as lines:
        assert [line async for line in lines] == [b"10.77.0.2, ipxe, told to load boot.ipxe", b"GET kernel: 200"]


async def test_a_machine_that_was_never_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="has no console yet"):
        await said(Place(str(tmp_path)), 0)


async def test_following_shows_what_is_written_later(tmp_path: Path) -> None:
    place = machine(tmp_path, console="first\n")
    host = LocalHost()
    (boot,) = await logs.boots(host, place, "hv1")
    async with logs.lines(host, boot, follow=True) as lines:
        assert await anext(lines) == b"first"
        with Path(boot.file).open("a") as file:  # noqa: ASYNC230
            file.write("second\n")
        assert await anext(lines) == b"second"


SAID = [b"\x1b[32mbooting\x1b[0m\r", b"50%\r100%", b"\x1b[6nlogin: \x07"]


async def shown(capfd: pytest.CaptureFixture[str], **how: bool) -> str:
    async def each() -> AsyncIterator[bytes]:
        for line in SAID:
            yield line

    lines = Lines("hv1", **{"raw": False, "follow": False, "as_json": False, **how})
    lines.boot = 2
    await lines.all(each())
    sys.stdout.flush()
    return capfd.readouterr().out


async def test_what_a_console_said_does_nothing_to_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert await shown(capfd) == "booting\n50%\n100%\nlogin: \\x07\n"


async def test_as_json_lines_are_data(capfd: pytest.CaptureFixture[str]) -> None:
    lines = ["booting", "50%", "100%", "login: \\x07"]
    assert json.loads(await shown(capfd, as_json=True)) == {"machine": "hv1", "boot": 2, "lines": lines}
    followed = (await shown(capfd, as_json=True, follow=True)).splitlines()
    assert [json.loads(line)["line"] for line in followed] == lines


async def test_raw_is_every_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async def each() -> AsyncIterator[bytes]:
        yield SAID[0]

    await Lines("hv1", raw=True, follow=False, as_json=False).all(each())
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == SAID[0] + b"\n"
