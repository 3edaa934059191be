"""The consoles that are kept of a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.home.paths import Place
from nestlab.hosts.local import LocalHost
from nestlab.verbs import logs


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
