"""What is in a machine's directory goes to another one, by real programs on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nestlab.base.errors import LabError
from nestlab.engines.qemu.machine_files import Below, Console, rebase, stream, whole
from nestlab.hosts.local import LocalHost


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _quiet(_: str) -> None: ...


async def test_all_that_a_machine_has_written_is_copied_and_nothing_of_what_says_who_it_is(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    for name in (
        "disk.qcow2",
        "disk-0123abcd.qcow2",
        "uefi.fd",
        "console.log",
        "console.3.log",
        "identity",
        "made",
        "pid",
    ):
        (one / name).write_text(f"{name} here")
    (other / "made").write_text("made there")
    _folder(one, "upper").joinpath("a b").write_bytes(bytes(range(256)) * 100)
    _folder(one, "nested").joinpath("docker").write_text("of containers in a container")
    _folder(one, "tpm").joinpath("state").write_text("sealed")
    host = LocalHost()
    await whole(host, host, (str(one), str(other)), (), _quiet)
    copied = {str(each.relative_to(other)) for each in other.rglob("*") if each.is_file()}
    wanted = {"disk.qcow2", "disk-0123abcd.qcow2", "uefi.fd", "console.log", "console.3.log", "upper/a b", "tpm/state"}
    wanted.add("nested/docker")
    assert copied == {*wanted, "made"}
    assert (other / "made").read_text() == "made there"
    assert all((one / each).read_bytes() == (other / each).read_bytes() for each in wanted)


async def test_a_machine_that_has_written_nothing_is_copied_all_the_same(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    host = LocalHost()
    await whole(host, host, (str(one), str(other)), (), _quiet)
    assert list(other.iterdir()) == []


async def test_a_copy_that_breaks_off_is_told(tmp_path: Path) -> None:
    host = LocalHost()
    with pytest.raises(LabError, match="could not be copied"):
        await whole(host, host, (str(tmp_path / "gone"), str(tmp_path)), (), _quiet)
    with pytest.raises(LabError, match="could not be copied"):
        await stream(host, ("head", "-c", "9999999", "/dev/zero"), host, ("sh", "-c", "exit 3"))


def test_disks_are_layers_over_what_is_there_and_empty_ones_over_nothing() -> None:
    script = rebase("/m/a", (Below("disk.qcow2", "/dev/vdc", "raw"), Below("disk-1.qcow2")))
    assert "qemu-img rebase -u -f qcow2 -b /dev/vdc -F raw /m/a/disk.qcow2" in script
    assert "qemu-img rebase -u -f qcow2 -b '' /m/a/disk-1.qcow2" in script
    assert rebase("/m/a", ()) == ""


async def test_a_console_goes_on_where_the_machine_goes(tmp_path: Path) -> None:
    one, other = _folder(tmp_path, "one"), _folder(tmp_path, "other")
    (one / "console.log").write_text("booting\n")
    (one / "console.2.log").write_text("the boot before\n")
    (other / "console.log").touch()
    host = LocalHost()
    console = Console(host, host, str(one), str(other))
    async with console.following():
        with (one / "console.log").open("a") as log:
            log.write("nestlab: ready\n")
        await asyncio.sleep(0)
        await console.finish()
    with (other / "console.log").open("a") as log:
        log.write("said there\n")
    assert (other / "console.log").read_text() == "booting\nnestlab: ready\nsaid there\n"
    assert (other / "console.2.log").read_text() == "the boot before\n"
